"""Client quorum, as the table of GlusterFS's quorum.t has it."""

from __future__ import annotations

import pytest

from fusemux.graph.cluster.replicate.quorum import rule


@pytest.mark.parametrize(
    ("children", "type", "count", "enough", "not_enough"),
    [
        (2, None, None, [0b01, 0b10, 0b11], [0]),  # unset: none for two copies
        (2, "none", None, [0b01, 0b10], [0]),
        (2, "auto", None, [0b01, 0b11], [0, 0b10]),  # half, but only with the first
        (2, "fixed", 2, [0b11], [0, 0b01, 0b10]),
        (2, "fixed", 1, [0b01, 0b10], [0]),
        (3, None, None, [0b011, 0b101, 0b110, 0b111], [0, 0b001, 0b010, 0b100]),  # unset: auto for three
        (3, "none", None, [0b001, 0b100], [0]),
        (3, "fixed", 3, [0b111], [0b011, 0b110]),
        (3, "fixed", None, [0b001], [0]),  # fixed without a count asks for one
        (4, "auto", None, [0b0011, 0b1001, 0b1110], [0b0110, 0b1100, 0b0001]),
        (5, "auto", None, [0b00111, 0b11100], [0b00011, 0b11000]),
    ],
)
def test_which_sets_of_children_are_enough(
    children: int, type: str | None, count: int | None, enough: list[int], not_enough: list[int]
) -> None:
    quorum = rule(children, type, count)

    assert [present for present in enough if not quorum(present)] == []
    assert [present for present in not_enough if quorum(present)] == []


@pytest.mark.parametrize("children", range(2, 9))
def test_two_sets_that_are_enough_by_auto_always_meet(children: int) -> None:
    quorum = rule(children, "auto", None)
    enough = [present for present in range(1 << children) if quorum(present)]

    assert all(one & other for one in enough for other in enough)
