"""Some seeds of the simulation; thousands run with `python -m tests.simulation`."""

from __future__ import annotations

import os

import pytest

from tests.simulation.ground import Ground
from tests.simulation.run import simulate
from tests.simulation.seeds import KINDS, Job, run_all

_SEEDS = int(os.environ.get("FUSEMUX_SIMULATION_SEEDS", "1020"))


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute or two on two idle cores
def test_whatever_fails_the_copies_become_equal_and_nothing_acknowledged_is_lost() -> None:
    """In processes of their own, as `python -m tests.simulation` does it."""
    jobs = [Job(seed, *KINDS[seed % len(KINDS)]) for seed in range(_SEEDS)]

    failures = list(run_all(jobs, processes=2))

    assert not failures, "\n".join(failures)


@pytest.mark.parametrize(("copies", "arbiter"), KINDS)
@pytest.mark.parametrize("seed", [3, 4, 6])
def test_a_seed_replays_call_by_call(copies: int, arbiter: bool, seed: int) -> None:
    with Ground() as ground:
        first = simulate(seed, ground, copies=copies, arbiter=arbiter)

        simulate(seed + 1, ground, copies=copies, arbiter=arbiter)

        assert simulate(seed, ground, copies=copies, arbiter=arbiter) == first
