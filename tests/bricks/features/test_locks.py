"""features/locks: callers park until they are granted, and cancelled waiters leave nothing behind."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Coroutine
from typing import Any

import pytest
import trio
import trio.testing

from fusemux.bricks.features.locks import ENTRY_LOCK, ENTRY_LOCK_NB, ENTRY_UNLOCK, Locks
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Flock, Frame

WHOLE_WRITE = Flock(fcntl.F_WRLCK, 0, 0)
UNLOCK = Flock(fcntl.F_UNLCK, 0, 0)
FILE = Inode(bytes(15) + b"\x07", 0o100000)


def frame(owner: int) -> Frame:
    made = Frame()
    made.lk_owner = owner
    return made


def new() -> Locks:
    return Locks("v-locks", {}, Process(strict=True))


async def refused_with(number: int, call: Coroutine[Any, Any, Any]) -> None:
    with pytest.raises(FopError) as refused:
        await call
    assert refused.value.errno == number


def idle(locks: Locks) -> bool:
    return set(locks.statedump().values()) == {0}


def test_a_nonblocking_inodelk_on_a_held_range_is_eagain() -> None:
    async def main() -> None:
        locks = new()
        await locks.inodelk(frame(1), "d", FILE, fcntl.F_SETLK, WHOLE_WRITE)
        with pytest.raises(FopError) as refused:
            await locks.inodelk(frame(2), "d", FILE, fcntl.F_SETLK, WHOLE_WRITE)
        assert refused.value.errno == errno.EAGAIN
        await locks.inodelk(frame(2), "another domain", FILE, fcntl.F_SETLK, WHOLE_WRITE)

    trio.run(main)


def test_ranges_and_names_of_one_directory_are_locked_apart() -> None:
    async def main() -> None:
        locks = new()
        await locks.inodelk(frame(1), "d", FILE, fcntl.F_SETLK, WHOLE_WRITE)
        await locks.entrylk(frame(2), "d", FILE, b"", ENTRY_LOCK_NB, 1)
        await locks.inodelk(frame(1), "d", FILE, fcntl.F_SETLK, UNLOCK)
        await locks.entrylk(frame(2), "d", FILE, b"", ENTRY_UNLOCK, 1)
        assert idle(locks)

    trio.run(main)


def test_waiters_are_granted_in_the_order_they_came() -> None:
    async def main() -> None:
        locks, order = new(), []

        async def user(owner: int) -> None:
            await locks.inodelk(frame(owner), "d", FILE, fcntl.F_SETLKW, WHOLE_WRITE)
            order.append(owner)
            await trio.lowlevel.checkpoint()
            await locks.inodelk(frame(owner), "d", FILE, fcntl.F_SETLK, UNLOCK)

        await locks.inodelk(frame(0), "d", FILE, fcntl.F_SETLK, WHOLE_WRITE)
        async with trio.open_nursery() as nursery:
            for owner in (1, 2, 3):
                nursery.start_soon(user, owner)
                await trio.testing.wait_all_tasks_blocked()
            await locks.inodelk(frame(0), "d", FILE, fcntl.F_SETLK, UNLOCK)
        assert order == [1, 2, 3]
        assert idle(locks)

    trio.run(main)


def test_a_cancelled_waiter_does_not_hold_up_those_behind_it() -> None:
    async def main() -> None:
        locks = new()
        await locks.entrylk(frame(1), "d", FILE, b"name", ENTRY_LOCK, 0)
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def impatient() -> None:
                with scope:
                    await locks.entrylk(frame(2), "d", FILE, b"", ENTRY_LOCK, 0)

            nursery.start_soon(impatient)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
        await locks.entrylk(frame(3), "d", FILE, b"other", ENTRY_LOCK_NB, 0)
        await locks.entrylk(frame(3), "d", FILE, b"other", ENTRY_UNLOCK, 0)
        await locks.entrylk(frame(1), "d", FILE, b"name", ENTRY_UNLOCK, 0)
        assert idle(locks)

    trio.run(main)


def test_unlocking_what_is_not_held_is_einval() -> None:
    async def main() -> None:
        locks = new()
        for call in (
            locks.inodelk(frame(1), "d", FILE, fcntl.F_SETLK, UNLOCK),
            locks.entrylk(frame(1), "d", FILE, b"x", ENTRY_UNLOCK, 0),
        ):
            with pytest.raises(FopError) as refused:
                await call
            assert refused.value.errno == errno.EINVAL

    trio.run(main)


def test_a_record_lock_waiter_wakes_when_the_range_is_free() -> None:
    async def main() -> None:
        locks, fd = new(), Fd(FILE)
        await locks.lk(frame(1), fd, fcntl.F_SETLK, WHOLE_WRITE)
        assert (await locks.lk(frame(2), fd, fcntl.F_GETLK, WHOLE_WRITE)).type == fcntl.F_WRLCK
        async with trio.open_nursery() as nursery:
            nursery.start_soon(locks.lk, frame(2), fd, fcntl.F_SETLKW, WHOLE_WRITE)
            await trio.testing.wait_all_tasks_blocked()
            await locks.lk(frame(1), fd, fcntl.F_SETLK, UNLOCK)
        with pytest.raises(FopError):
            await locks.lk(frame(1), fd, fcntl.F_SETLK, WHOLE_WRITE)
        locks.drop_owner(2)
        assert idle(locks)

    trio.run(main)


def test_flock_and_record_locks_of_one_file_do_not_meet() -> None:
    async def main() -> None:
        locks, fd = new(), Fd(FILE)
        await locks.lk(frame(1), fd, fcntl.F_SETLK, WHOLE_WRITE)
        await locks.lk(frame(2), fd, fcntl.F_SETLK, WHOLE_WRITE._replace(is_flock=True))
        with pytest.raises(FopError) as refused:
            await locks.lk(frame(1), fd, fcntl.F_SETLK, WHOLE_WRITE._replace(is_flock=True))
        assert refused.value.errno == errno.EAGAIN
        await locks.lk(frame(2), fd, fcntl.F_SETLK, UNLOCK._replace(is_flock=True))
        await locks.lk(frame(1), fd, fcntl.F_SETLK, UNLOCK)
        assert idle(locks)

    trio.run(main)


def test_who_holds_the_lock_in_the_way_is_told() -> None:
    async def main() -> None:
        locks, fd = new(), Fd(FILE)
        await locks.lk(frame(1), fd, fcntl.F_SETLK, Flock(fcntl.F_RDLCK, 10, 5, pid=4711, owner=1))
        assert await locks.lk(frame(1), fd, fcntl.F_GETLK, Flock(fcntl.F_WRLCK, 0, 0, pid=4712, owner=2)) == Flock(
            fcntl.F_RDLCK, 10, 5, 4711
        )
        assert (await locks.lk(frame(1), fd, fcntl.F_GETLK, Flock(fcntl.F_RDLCK, 0, 0, owner=2))).type == fcntl.F_UNLCK
        await locks.lk(frame(1), fd, fcntl.F_GETLK, Flock(fcntl.F_WRLCK, 0, 0)._replace(is_flock=True))
        await locks.lk(frame(1), fd, fcntl.F_SETLK, UNLOCK._replace(owner=1))
        assert not locks._records  # asking leaves nothing behind

    trio.run(main)


def test_record_lock_waiters_are_granted_in_the_order_they_came_and_may_give_up() -> None:
    async def main() -> None:
        locks, fd, order = new(), Fd(FILE), []

        async def user(owner: int, scope: trio.CancelScope) -> None:
            with scope:
                await locks.lk(frame(owner), fd, fcntl.F_SETLKW, WHOLE_WRITE)
                order.append(owner)
                await locks.lk(frame(owner), fd, fcntl.F_SETLK, UNLOCK)

        await locks.lk(frame(0), fd, fcntl.F_SETLK, WHOLE_WRITE)
        scopes = [trio.CancelScope() for _ in range(4)]
        async with trio.open_nursery() as nursery:
            for owner, scope in enumerate(scopes, 1):
                nursery.start_soon(user, owner, scope)
                await trio.testing.wait_all_tasks_blocked()
            scopes[1].cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert locks.statedump()["record-waiting"] == 3
            await locks.lk(frame(0), fd, fcntl.F_SETLK, UNLOCK)
        assert order == [1, 3, 4]
        assert idle(locks)

    trio.run(main)


def test_a_brick_that_goes_keeps_no_lock_and_nobody_waiting() -> None:
    async def main() -> None:
        locks, fd = new(), Fd(FILE)
        await locks.lk(frame(1), fd, fcntl.F_SETLK, WHOLE_WRITE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused_with, errno.ENOTCONN, locks.lk(frame(2), fd, fcntl.F_SETLKW, WHOLE_WRITE))
            await trio.testing.wait_all_tasks_blocked()
            await locks.fini()
        assert idle(locks)

    trio.run(main)


def test_the_locks_on_one_file_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        locks, fd = new(), Fd(FILE)
        monkeypatch.setattr("fusemux.bricks.features.locks._RECORDS_MAX", 1)
        await locks.lk(frame(1), fd, fcntl.F_SETLK, Flock(fcntl.F_WRLCK, 0, 1))
        await refused_with(errno.ENOLCK, locks.lk(frame(1), fd, fcntl.F_SETLK, Flock(fcntl.F_WRLCK, 5, 1)))

    trio.run(main)


def test_the_pieces_that_unlocking_leaves_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        locks, fd = new(), Fd(FILE)
        monkeypatch.setattr("fusemux.bricks.features.locks._RECORDS_MAX", 1)
        await locks.lk(frame(1), fd, fcntl.F_SETLK, Flock(fcntl.F_WRLCK, 0, 10))
        await refused_with(errno.ENOLCK, locks.lk(frame(1), fd, fcntl.F_SETLK, Flock(fcntl.F_UNLCK, 5, 1)))
        for start, length in ((0, 1), (9, 1), (0, 0)):
            await locks.lk(frame(1), fd, fcntl.F_SETLK, Flock(fcntl.F_UNLCK, start, length))
        assert idle(locks)

    trio.run(main)


def test_a_client_that_is_gone_waits_no_more() -> None:
    async def main() -> None:
        locks, fd = new(), Fd(FILE)
        await locks.lk(frame(1), fd, fcntl.F_SETLK, Flock(fcntl.F_WRLCK, 0, 1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused_with, errno.ENOTCONN, locks.lk(frame(2), fd, fcntl.F_SETLKW, WHOLE_WRITE))
            await trio.testing.wait_all_tasks_blocked()
            locks.drop_owner(2)
        locks.drop_owner(1)
        assert idle(locks)

    trio.run(main)
