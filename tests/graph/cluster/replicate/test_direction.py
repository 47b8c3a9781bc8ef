"""Who heals whom, by table: sources, sinks, witnesses, and the plan for each kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemux.graph.cluster.replicate.changelog import DATA, ENTRY, METADATA
from fusemux.graph.cluster.replicate.heal.direction import (
    FAVOURITES,
    Marks,
    data_plan,
    direction,
    entry_plan,
    favourite,
    metadata_plan,
)
from fusemux.graph.framework.types import Iatt

NOBODY = FAVOURITES["none"]


def marks(rows: list[list[int]], dirty: list[int] | None = None, kind: int = DATA) -> Marks:
    """Counters of one kind: `rows[i][j]` is what copy i says of copy j."""

    def at(value: int) -> tuple[int, int, int]:
        return (value if kind == 0 else 0, value if kind == 1 else 0, value if kind == 2 else 0)

    return Marks(
        tuple(tuple(at(value) for value in row) for row in rows), tuple(at(value) for value in dirty or [0] * len(rows))
    )


def copy(size: int = 0, mtime: int = 0, mode: int = 0o100644) -> Iatt:
    return Iatt(bytes(15) + b"\x07", mode, 1, 0, 0, 0, size, 0, 4096, 0, mtime, mtime)


BLAMER_WINS = [[0, 1], [0, 0]]
MUTUAL = [[0, 1], [1, 0]]
FOOL = [[1, 1], [0, 0]]
CLEAN = [[0, 0], [0, 0]]

# data-self-heal.t: counters, dirty marks, sizes -> the source; None: split-brain
DATA_TABLE = [
    ("the blamed loses to the blamer", BLAMER_WINS, [0, 0], (5, 9), 0),
    ("no marks: the bigger file wins", CLEAN, [0, 0], (5, 9), 1),
    ("only dirty marks: the bigger file wins", CLEAN, [1, 1], (5, 9), 1),
    ("same size, one side dirty: that side", CLEAN, [0, 1], (5, 5), 1),
    ("same size, both dirty: the greater witness", CLEAN, [3, 1], (5, 5), 0),
    ("same size and time, both as dirty: one of them", CLEAN, [1, 1], (5, 5), 0),
    ("a copy that blames itself is not believed about the other", FOOL, [0, 0], (5, 9), 1),
    ("both blame each other", MUTUAL, [0, 0], (5, 9), None),
    ("both blame each other, and are dirty", MUTUAL, [1, 1], (5, 9), None),
    ("both blame each other and themselves: the bigger", [[1, 1], [1, 1]], [0, 0], (9, 5), 0),
]


@pytest.mark.parametrize(
    ("rows", "dirty", "sizes", "source"), [row[1:] for row in DATA_TABLE], ids=[r[0] for r in DATA_TABLE]
)
def test_data_self_heal(rows: list[list[int]], dirty: list[int], sizes: tuple[int, int], source: int | None) -> None:
    plan = data_plan(marks(rows, dirty), [copy(size) for size in sizes], quorum=0, pick=NOBODY)
    assert plan.split_brain is (source is None)
    if source is not None:
        assert (plan.source, plan.sinks) == (source, {1 - source})


def test_nothing_is_to_do_when_copies_agree() -> None:
    plan = data_plan(marks(CLEAN), [copy(5), copy(5)], quorum=0, pick=NOBODY)
    assert not plan.sinks
    assert not plan.split_brain


def test_empty_copies_are_no_split_brain() -> None:
    plan = data_plan(marks(MUTUAL), [copy(0), copy(0)], quorum=0, pick=NOBODY)
    assert (plan.source, plan.split_brain) == (0, False)


def test_two_of_three_that_blame_the_third_heal_it() -> None:
    rows = [[0, 0, 1], [0, 0, 1], [0, 0, 0]]
    plan = data_plan(marks(rows), [copy(5)] * 3, quorum=2, pick=NOBODY)
    assert (plan.sources, plan.sinks) == ({0, 1}, {2})


def test_with_quorum_a_minority_of_accusers_loses_when_everybody_is_accused() -> None:
    rows = [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    found = direction(DATA, marks(rows), quorum=2)
    assert found.sources == {0, 1, 2}
    assert not found.split_brain
    assert direction(DATA, marks([[0, 1, 1], [1, 0, 1], [1, 1, 0]]), quorum=2).split_brain


def test_the_arbiter_is_never_the_source_of_data() -> None:
    rows = [[0, 0, 0], [1, 0, 0], [1, 0, 0]]
    plan = data_plan(marks(rows), [copy(5), copy(9), copy(0)], quorum=2, arbiter=2, pick=NOBODY)
    assert plan.source == 1
    only_arbiter = data_plan(
        marks([[0, 0, 0], [0, 0, 0], [1, 1, 0]]), [copy(5), copy(9), copy(0)], quorum=2, arbiter=2, pick=NOBODY
    )
    assert only_arbiter.source == -1
    assert not only_arbiter.split_brain


@pytest.mark.parametrize(
    ("policy", "copies", "wins"),
    [
        ("size", [copy(5, 1), copy(9, 0)], 1),
        ("size", [copy(5), copy(5)], None),
        ("mtime", [copy(5, 7), copy(9, 3)], 0),
        ("ctime", [copy(5, 7), copy(9, 30)], 1),
        ("majority", [copy(5, 1), copy(9, 2), copy(9, 2)], 1),
        ("majority", [copy(5, 1), copy(9, 2), copy(7, 3)], None),
        ("none", [copy(5, 1), copy(9, 2)], None),
    ],
)
def test_favourites(policy: str, copies: list[Iatt], wins: int | None) -> None:
    assert FAVOURITES[policy](dict(enumerate(copies))) == wins


def test_a_command_resolves_a_split_brain_by_one_copy() -> None:
    plan = data_plan(marks(MUTUAL), [copy(5), copy(9)], quorum=0, pick=favourite(0))
    assert (plan.source, plan.sinks, plan.split_brain) == (0, {1}, False)


def test_metadata_that_differ_without_a_record_are_made_equal() -> None:
    plan = metadata_plan(marks(CLEAN, kind=METADATA), [copy(), copy(mode=0o100600)], [1, 2], quorum=0, pick=NOBODY)
    assert (plan.source, plan.sinks) == (0, {1})


def test_metadata_split_brain_of_equal_copies_is_none() -> None:
    plan = metadata_plan(marks(MUTUAL, kind=METADATA), [copy(), copy()], [1, 1], quorum=0, pick=NOBODY)
    assert not plan.split_brain
    assert metadata_plan(marks(MUTUAL, kind=METADATA), [copy(), copy()], [1, 2], quorum=0, pick=NOBODY).split_brain


def test_directories_that_differ_in_time_only_take_the_newest() -> None:
    copies = [copy(mtime=3, mode=0o040755), copy(mtime=8, mode=0o040755)]
    plan = metadata_plan(marks(MUTUAL, kind=METADATA), copies, [1, 2], quorum=0, pick=NOBODY)
    assert plan.source == 1


@pytest.mark.parametrize(
    ("rows", "dirty", "source"),
    [
        ([[0, 1], [0, 0]], [0, 0], 0),
        ([[0, 1], [0, 0]], [1, 0], -1),
        (MUTUAL, [0, 0], -1),
        (CLEAN, [0, 0], -1),
        (CLEAN, [0, 2], -1),
        (FOOL, [0, 0], -1),
    ],
    ids=["blamed", "dirty too", "both changed", "nobody blamed", "only dirty", "fool"],
)
def test_entry_self_heal(rows: list[list[int]], dirty: list[int], source: int) -> None:
    """Names are removed only when one copy is surely complete; otherwise those of all copies are kept."""
    plan = entry_plan(marks(rows, dirty, ENTRY), quorum=0)
    assert plan.source == source
    assert plan.sinks == ({1} if source == 0 else {0, 1})


_COUNTS = st.integers(0, 2)


@given(st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(_COUNTS, min_size=n, max_size=n), min_size=n, max_size=n)))
def test_a_source_is_accused_by_nobody_who_is_believed(rows: list[list[int]]) -> None:
    found = direction(DATA, marks(rows), quorum=0)
    fools = {i for i, row in enumerate(rows) if row[i]}
    for source in found.sources:
        assert not any(row[source] for i, row in enumerate(rows) if i not in fools)
    assert found.split_brain == (not found.sources)
    if not found.split_brain:
        assert not found.sources & found.sinks
