"""Lock tables: who is granted, who waits, who is next."""

from __future__ import annotations

import fcntl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemux.bricks.features.locktable import EOF, EntryLock, Queue, RangeLock, RecordLocks, end_of
from fusemux.graph.framework.types import Flock


def read(owner: str, start: int = 0, end: int = EOF) -> RangeLock:
    return RangeLock(owner, False, start, end)


def write(owner: str, start: int = 0, end: int = EOF) -> RangeLock:
    return RangeLock(owner, True, start, end)


@pytest.mark.parametrize(
    ("held", "wanted", "granted"),
    [
        (write("a"), write("b"), False),
        (read("a"), read("b"), True),
        (read("a"), write("b"), False),
        (write("a"), write("a"), True),
        (write("a", 0, 10), write("b", 10, 20), True),
        (write("a", 0, 10), write("b", 9, 20), False),
        (EntryLock("a", b"x"), EntryLock("b", b"x"), False),
        (EntryLock("a", b"x"), EntryLock("b", b"y"), True),
        (EntryLock("a", b""), EntryLock("b", b"y"), False),
        (EntryLock("a", b"x"), EntryLock("b", b""), False),
    ],
)
def test_a_lock_is_granted_unless_another_owner_conflicts(held: Any, wanted: Any, granted: bool) -> None:
    queue = Queue()
    assert queue.acquire(held, wait=False)
    assert queue.acquire(wanted, wait=False) is granted


def test_a_reader_waits_behind_a_waiting_writer() -> None:
    queue = Queue()
    queue.acquire(read("a"), wait=True)
    assert not queue.acquire(write("b"), wait=True)
    assert not queue.acquire(read("c"), wait=True)
    assert queue.release(read("a")) == [write("b")]
    assert queue.release(write("b")) == [read("c")]


def test_an_owner_that_holds_a_lock_does_not_wait_behind_waiters() -> None:
    queue = Queue()
    queue.acquire(read("a"), wait=True)
    queue.acquire(write("b"), wait=True)
    assert queue.acquire(read("a", 5, 6), wait=False)


def test_a_withdrawn_waiter_lets_those_behind_it_pass() -> None:
    queue = Queue()
    queue.acquire(read("a"), wait=True)
    queue.acquire(write("b"), wait=True)
    queue.acquire(read("c"), wait=True)
    assert queue.withdraw(write("b")) == [read("c")]


def test_an_unlock_must_name_the_very_range() -> None:
    queue = Queue()
    queue.acquire(write("a", 0, 10), wait=True)
    with pytest.raises(ValueError, match="not in list"):
        queue.release(write("a", 0, 5))


def test_the_locks_of_a_gone_owner_pass_to_those_who_wait() -> None:
    queue = Queue()
    queue.acquire(write("a"), wait=True)
    queue.acquire(write("b"), wait=True)
    assert queue.drop_owner("a") == [write("b")]
    assert queue.granted == [write("b")]


_SPAN = st.tuples(st.integers(0, 12), st.integers(0, 6))
_STEP = st.tuples(st.sampled_from("abc"), st.sampled_from([fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK]), _SPAN)


@given(st.lists(_STEP, max_size=25))
def test_record_locks_agree_with_a_byte_by_byte_model(steps: list[tuple[str, int, tuple[int, int]]]) -> None:
    records, model = RecordLocks(), [{} for _ in range(30)]
    for owner, kind, (start, length) in steps:
        covered = range(start, min(end_of(start, length), 30))
        blocked = kind != fcntl.F_UNLCK and any(
            other != owner and (kind == fcntl.F_WRLCK or held == fcntl.F_WRLCK)
            for byte in covered
            for other, held in model[byte].items()
        )
        assert records.set(owner, Flock(kind, start, length)) is not blocked
        for byte in () if blocked else covered:
            model[byte].pop(owner, None)
            if kind != fcntl.F_UNLCK:
                model[byte][owner] = kind
    for byte in range(30):
        held = {
            lock.owner: fcntl.F_WRLCK if lock.write else fcntl.F_RDLCK
            for lock in records.held
            if lock.start <= byte < lock.end
        }
        assert held == model[byte]


def test_adjacent_record_locks_of_one_kind_are_joined() -> None:
    records = RecordLocks()
    records.set("a", Flock(fcntl.F_WRLCK, 0, 5))
    records.set("a", Flock(fcntl.F_WRLCK, 5, 5))
    assert records.held == [RangeLock("a", True, 0, 10)]
