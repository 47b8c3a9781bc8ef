"""features/locks: the locks of a brick that several clients, or several heals, share.

inodelk and entrylk are internal (replicate, disperse, distribute and healing agree through them), each in a named
domain; lk are the users' fcntl(2) record locks, and those of flock(2).  What is granted and who waits is decided by `locktable.py`; this
translator only keeps the tables by gfid, parks who must wait, and drops what an owner leaves behind.

`domain`s are strings and independent of each other.  A lock that has to wait suspends its caller, F_SETLKW and blocking
commands only; cancelling the caller withdraws it.  Circles of waiting users are not looked for (no EDEADLK).  Source: GlusterFS features/locks.
"""

from __future__ import annotations

import errno
import fcntl
from collections import deque

import trio

from fusemux.bricks.features.locktable import EntryLock, Lock, Queue, RangeLock, RecordLocks, end_of
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import Flock, Frame, Xdata

__all__ = ["ENTRY_LOCK", "ENTRY_LOCK_NB", "ENTRY_UNLOCK", "Locks"]

ENTRY_LOCK, ENTRY_UNLOCK, ENTRY_LOCK_NB = 0, 1, 2
_RECORDS_MAX = 65536  # of one file
_Key = tuple[str, str, bytes]  # what is locked (ranges and names know nothing of each other), domain, gfid
_File = tuple[bytes, bool]  # gfid, and whether the locks are those of flock(2)


class _Waiter:
    """Somebody who waits for a record lock."""

    __slots__ = ("flock", "granted", "owner", "settled")

    def __init__(self, owner: object, flock: Flock) -> None:
        self.owner = owner
        self.flock = flock
        self.granted = False
        self.settled = trio.Event()

    def settle(self, *, granted: bool) -> None:
        self.granted = granted
        self.settled.set()


class Locks(Translator):
    type = "features/locks"

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._queues: dict[_Key, Queue] = {}
        self._parked: dict[tuple[_Key, Lock], deque[trio.Event]] = {}
        self._records: dict[_File, RecordLocks] = {}
        self._waiting: dict[_File, list[_Waiter]] = {}  # for records, in the order they came

    # -- internal locks --------------------------------------------------------------------------------------

    async def inodelk(
        self, frame: Frame, domain: str, target: Inode | Fd, cmd: int, flock: Flock, xdata: Xdata = None
    ) -> None:
        """F_SETLK or F_SETLKW with F_RDLCK, F_WRLCK or F_UNLCK.  EAGAIN when it cannot be had now."""
        inode = target if isinstance(target, Inode) else target.inode
        owner = (frame.lk_owner, flock.owner)
        end = end_of(flock.start, flock.length)
        if flock.type == fcntl.F_UNLCK:
            self._unlock_range(("range", domain, inode.gfid), owner, flock.start, end)
            return
        lock = RangeLock(owner, flock.type == fcntl.F_WRLCK, flock.start, end)
        await self._lock(("range", domain, inode.gfid), lock, wait=cmd == fcntl.F_SETLKW)

    async def entrylk(
        self, frame: Frame, domain: str, inode: Inode, name: bytes, cmd: int, type: int, xdata: Xdata = None
    ) -> None:
        """ENTRY_LOCK waits, ENTRY_LOCK_NB answers EAGAIN, ENTRY_UNLOCK lets go (EINVAL when it is not held)."""
        lock, key = EntryLock(frame.lk_owner, name), ("name", domain, inode.gfid)
        if cmd == ENTRY_UNLOCK:
            self._unlock(key, lock)
        else:
            await self._lock(key, lock, wait=cmd == ENTRY_LOCK)

    async def _lock(self, key: _Key, lock: Lock, *, wait: bool) -> None:
        queue = self._queues.setdefault(key, Queue())
        if queue.acquire(lock, wait=wait):
            return
        if not wait:
            raise FopError(errno.EAGAIN, f"{key[1]}: held by another owner")
        event = trio.Event()
        parked = self._parked.setdefault((key, lock), deque())
        parked.append(event)
        try:
            await event.wait()
        except trio.Cancelled:
            if event.is_set():
                self._unlock(key, lock)
            else:
                parked.remove(event)
                self._granted(key, queue.withdraw(lock))
            raise

    def _unlock_range(self, key: _Key, owner: object, start: int, end: int) -> None:
        queue = self._queues.get(key)
        for lock in queue.granted if queue is not None else ():
            if isinstance(lock, RangeLock) and (lock.owner, lock.start, lock.end) == (owner, start, end):
                self._unlock(key, lock)
                return
        raise FopError(errno.EINVAL, f"{key[1]}: no lock [{start}, {end}) of this owner")

    def _unlock(self, key: _Key, lock: Lock) -> None:
        queue = self._queues.get(key)
        if queue is None or lock not in queue.granted:
            raise FopError(errno.EINVAL, f"{key[1]}: {lock!r} is not held")
        self._granted(key, queue.release(lock))
        if not queue:
            del self._queues[key]

    def _granted(self, key: _Key, locks: list[Lock]) -> None:
        for lock in locks:
            parked = self._parked[key, lock]
            parked.popleft().set()
            if not parked:
                del self._parked[key, lock]

    # -- record locks ----------------------------------------------------------------------------------------

    async def lk(self, frame: Frame, fd: Fd, cmd: int, flock: Flock, xdata: Xdata = None) -> Flock:
        """fcntl(2): F_GETLK answers the lock in the way (or F_UNLCK), F_SETLK EAGAIN, F_SETLKW waits.  ENOLCK: too many."""
        file, owner = (fd.inode.gfid, flock.is_flock), (frame.lk_owner, flock.owner)
        if cmd == fcntl.F_GETLK:
            return self._in_the_way(self._records.get(file), owner, flock)
        records = self._records.setdefault(file, RecordLocks())
        if len(records.held) >= _RECORDS_MAX and (flock.type != fcntl.F_UNLCK or records.splits(owner, flock)):
            raise FopError(errno.ENOLCK, f"{_RECORDS_MAX} locks are held on one file")
        if records.set(owner, flock):
            self._records_changed(file)
        elif cmd == fcntl.F_SETLKW:
            await self._wait_granted(file, _Waiter(owner, flock))
        else:
            raise FopError(errno.EAGAIN, "record lock held by another owner")
        return flock

    @staticmethod
    def _in_the_way(records: RecordLocks | None, owner: object, flock: Flock) -> Flock:
        lock = records.blocker(owner, flock) if records is not None else None
        if lock is None:
            return flock._replace(type=fcntl.F_UNLCK)
        length = 0 if lock.end >= 1 << 63 else lock.end - lock.start
        return Flock(fcntl.F_WRLCK if lock.write else fcntl.F_RDLCK, lock.start, length, lock.pid)

    async def _wait_granted(self, file: _File, waiter: _Waiter) -> None:
        self._waiting.setdefault(file, []).append(waiter)
        try:
            await waiter.settled.wait()
        finally:
            if not waiter.settled.is_set():  # cancelled: it was never asked for
                self._waiting[file].remove(waiter)
                self._forget_unused(file)
        if not waiter.granted:
            raise FopError(errno.ENOTCONN, "the lock's owner or the brick is gone")

    def _records_changed(self, file: _File) -> None:
        """Grant what waited, the oldest first; a lock that is granted may replace one that was in another's way."""
        records, waiting = self._records[file], self._waiting.get(file, [])
        while granted := next((w for w in waiting if records.set(w.owner, w.flock)), None):
            waiting.remove(granted)
            granted.settle(granted=True)
        self._forget_unused(file)

    def _forget_unused(self, file: _File) -> None:
        if not self._waiting.get(file):
            self._waiting.pop(file, None)
            if not self._records.get(file):
                self._records.pop(file, None)

    async def fini(self) -> None:
        """The brick goes: so do all locks on it, and nobody is granted one any more."""
        for waiting in self._waiting.values():
            for waiter in waiting:
                waiter.settle(granted=False)
        self._waiting.clear()
        self._records.clear()

    def drop_owner(self, owner: object) -> None:
        """The client with this lk_owner is gone: everything it held or waited for goes with it."""
        for key, queue in list(self._queues.items()):
            for held in {lock.owner for lock in (*queue.granted, *queue.waiting)}:
                if held == owner or (isinstance(held, tuple) and held[0] == owner):
                    self._granted(key, queue.drop_owner(held))
            if not queue:
                del self._queues[key]
        for file, records in list(self._records.items()):
            waiting = self._waiting.get(file, [])
            for waiter in [w for w in waiting if isinstance(w.owner, tuple) and w.owner[0] == owner]:
                waiting.remove(waiter)
                waiter.settle(granted=False)
            for held in {lock.owner for lock in records.held}:
                if isinstance(held, tuple) and held[0] == owner:
                    records.drop_owner(held)
            self._records_changed(file)

    def statedump(self) -> dict[str, object]:
        return {
            "internal-granted": sum(len(queue.granted) for queue in self._queues.values()),
            "internal-waiting": sum(len(queue.waiting) for queue in self._queues.values()),
            "record-locks": sum(len(records.held) for records in self._records.values()),
            "record-waiting": sum(len(waiting) for waiting in self._waiting.values()),
        }
