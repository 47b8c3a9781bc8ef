"""Some seeds of the simulation; thousands run with `python -m tests.simulation`."""

from __future__ import annotations

import pytest

from tests.simulation.run import simulate


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("first", range(0, 60, 10))
def test_whatever_fails_the_copies_become_equal_and_nothing_acknowledged_is_lost(copies: int, first: int) -> None:
    for seed in range(first, first + 10):
        try:
            simulate(seed, copies=copies)
        except BaseException as error:
            error.add_note(f"replay it with: python -m tests.simulation --seed {seed} --copies {copies} --verbose")
            raise


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("seed", [3, 4])
def test_a_seed_replays_call_by_call(copies: int, seed: int) -> None:
    first = simulate(seed, copies=copies)

    simulate(seed + 1, copies=copies)

    assert simulate(seed, copies=copies) == first
