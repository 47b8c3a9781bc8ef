"""features/locks: callers park until they are granted, and cancelled waiters leave nothing behind."""

from __future__ import annotations

import errno
import fcntl

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
