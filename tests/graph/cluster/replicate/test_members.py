"""Who is up, and what is told upwards."""

from __future__ import annotations

from fusemux.graph.cluster.replicate.members import Members
from fusemux.graph.cluster.replicate.quorum import rule
from fusemux.graph.framework.translator import Event


def members(count: int, type: str | None = None) -> Members:
    return Members(count, rule(count, type, None))


def test_nothing_is_told_before_all_children_have_reported() -> None:
    set_ = members(2)

    assert set_.change(0, True) is None
    assert set_.change(1, False) is Event.CHILD_UP


def test_after_waiting_long_enough_it_serves_with_those_that_have_reported() -> None:
    set_ = members(3)
    set_.change(0, True)
    set_.change(2, True)

    assert set_.announce(waited=True) is Event.CHILD_UP
    assert set_.change(1, True) is Event.SOME_DESCENDENT_UP


def test_a_set_counts_as_down_without_quorum_and_as_up_with_it() -> None:
    set_ = members(3)
    for child in range(3):
        set_.change(child, True)

    assert set_.change(2, False) is Event.SOME_DESCENDENT_DOWN
    assert set_.change(1, False) is Event.CHILD_DOWN
    assert set_.change(0, False) is Event.SOME_DESCENDENT_DOWN
    assert set_.change(1, True) is Event.SOME_DESCENDENT_UP
    assert set_.change(2, True) is Event.CHILD_UP


def test_a_report_that_changes_nothing_is_not_passed_on() -> None:
    set_ = members(2)
    set_.change(0, True)
    set_.change(1, True)
    generation = set_.generation

    assert set_.change(1, True) is None
    assert set_.generation == generation


def test_every_change_begins_a_generation_and_those_that_return_note_it() -> None:
    set_ = members(2)
    set_.change(0, True)
    set_.change(1, True)
    before = set_.generation
    set_.change(0, False)
    set_.change(0, True)

    assert set_.generation == before + 2
    assert set_.since == [set_.generation, before]


def test_another_quorum_may_change_whether_it_serves() -> None:
    set_ = members(2)
    set_.change(0, False)
    set_.change(1, True)
    set_.quorum = rule(2, "auto", None)

    assert set_.announce() is Event.CHILD_DOWN
