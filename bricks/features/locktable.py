"""Lock tables of one inode: who holds what, who waits, who is next.  Pure: no I/O, no tasks.

Two kinds, as GlusterFS's features/locks keeps them (design facts, bricks section 7):

* `Queue` of `RangeLock` (inodelk) or `EntryLock` (entrylk).  Ranges are never merged or split: an unlock names exactly
  what was locked.  An owner never conflicts with itself.  A new lock also waits behind an earlier *waiting* one it conflicts
  with, so writers do not starve; except when its owner already holds a lock here, because nested heal locks would
  then wait for themselves.  An `EntryLock` on b'' is on all names.  Read locks on entries act as write
  locks, as they do in GlusterFS for practical purposes.
* `RecordLocks` (lk): fcntl(2) record locks.  An owner's ranges merge and split; a new lock replaces what the
  owner held there.  Locks of flock(2) are in a table of their own.

A range is [start, end); a length of 0 reaches to the end of any file.
"""

from __future__ import annotations

import fcntl
from collections.abc import Hashable
from typing import NamedTuple

from fusemux.graph.framework.types import Flock

__all__ = ["EntryLock", "Lock", "Queue", "RangeLock", "RecordLocks", "end_of"]

EOF = 1 << 64


def end_of(start: int, length: int) -> int:
    """Where a lock of `length` at `start` ends; length 0 means never."""
    return EOF if length == 0 else start + length


class RangeLock(NamedTuple):
    owner: Hashable
    write: bool
    start: int
    end: int
    pid: int = 0  # whom F_GETLK names

    def conflicts(self, other: RangeLock) -> bool:
        return (
            self.owner != other.owner
            and (self.write or other.write)
            and self.start < other.end
            and other.start < self.end
        )


class EntryLock(NamedTuple):
    owner: Hashable
    name: bytes

    def conflicts(self, other: EntryLock) -> bool:
        return self.owner != other.owner and (not self.name or not other.name or self.name == other.name)


Lock = RangeLock | EntryLock


class Queue:
    """The locks of one domain on one inode: granted ones, and waiting ones in order of arrival."""

    __slots__ = ("granted", "waiting")

    def __init__(self) -> None:
        self.granted: list[Lock] = []
        self.waiting: list[Lock] = []

    def __bool__(self) -> bool:
        return bool(self.granted or self.waiting)

    def acquire(self, lock: Lock, *, wait: bool) -> bool:
        """True when granted now.  False: it waits in the queue, or with `wait` off nothing has changed."""
        if not self._blocked(lock, self.waiting):
            self.granted.append(lock)
            return True
        if wait:
            self.waiting.append(lock)
        return False

    def release(self, lock: Lock) -> list[Lock]:
        """Let go of exactly `lock`; the waiting locks that are granted by that.  ValueError when it is not held."""
        self.granted.remove(lock)
        return self._promote()

    def withdraw(self, lock: Lock) -> list[Lock]:
        """A waiter gives up; the locks that waited only behind it."""
        self.waiting.remove(lock)
        return self._promote()

    def drop_owner(self, owner: Hashable) -> list[Lock]:
        """Everything of `owner` goes (its client is gone); the locks that are granted by that."""
        self.granted = [lock for lock in self.granted if lock.owner != owner]
        self.waiting = [lock for lock in self.waiting if lock.owner != owner]
        return self._promote()

    def _blocked(self, lock: Lock, ahead: list[Lock]) -> bool:
        if any(lock.conflicts(held) for held in self.granted):  # type: ignore[arg-type]
            return True
        if any(held.owner == lock.owner for held in self.granted):
            return False
        return any(lock.conflicts(other) for other in ahead)  # type: ignore[arg-type]

    def _promote(self) -> list[Lock]:
        granted: list[Lock] = []
        still: list[Lock] = []
        for lock in self.waiting:
            if self._blocked(lock, still):
                still.append(lock)
            else:
                self.granted.append(lock)
                granted.append(lock)
        self.waiting = still
        return granted


class RecordLocks:
    """fcntl(2) record locks of one inode: for each owner disjoint ranges, sorted."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: list[RangeLock] = []

    def __bool__(self) -> bool:
        return bool(self.held)

    def blocker(self, owner: Hashable, flock: Flock) -> RangeLock | None:
        """The first lock of somebody else that stands in the way (F_GETLK)."""
        wanted = RangeLock(owner, flock.type == fcntl.F_WRLCK, flock.start, end_of(flock.start, flock.length))
        return next((lock for lock in self.held if wanted.conflicts(lock)), None)

    def splits(self, owner: Hashable, flock: Flock) -> bool:
        """Whether unlocking this range leaves two pieces of one lock."""
        start, end = flock.start, end_of(flock.start, flock.length)
        return any(lock.owner == owner and lock.start < start and end < lock.end for lock in self.held)

    def set(self, owner: Hashable, flock: Flock) -> bool:
        """Lock or unlock a range; False when somebody else's lock stands in the way."""
        if flock.type != fcntl.F_UNLCK and self.blocker(owner, flock) is not None:
            return False
        start, end = flock.start, end_of(flock.start, flock.length)
        kept: list[RangeLock] = []
        for lock in self.held:
            kept += _without(lock, start, end) if lock.owner == owner else [lock]
        if flock.type != fcntl.F_UNLCK:
            kept.append(RangeLock(owner, flock.type == fcntl.F_WRLCK, start, end, flock.pid))
        self.held = _merged(kept, owner)
        return True

    def drop_owner(self, owner: Hashable) -> bool:
        """Everything of `owner` goes; whether there was anything."""
        before = len(self.held)
        self.held = [lock for lock in self.held if lock.owner != owner]
        return len(self.held) != before


def _without(lock: RangeLock, start: int, end: int) -> list[RangeLock]:
    """What is left of `lock` when [start, end) is cut out."""
    parts = []
    if lock.start < start:
        parts.append(lock._replace(end=min(lock.end, start)))
    if lock.end > end:
        parts.append(lock._replace(start=max(lock.start, end)))
    return parts


def _merged(locks: list[RangeLock], owner: Hashable) -> list[RangeLock]:
    """`locks` with the adjacent ranges of `owner` that are of one kind joined."""
    mine = sorted((lock for lock in locks if lock.owner == owner), key=lambda lock: lock.start)
    joined: list[RangeLock] = []
    for lock in mine:
        if joined and joined[-1].write == lock.write and joined[-1].end >= lock.start:
            joined[-1] = joined[-1]._replace(end=max(joined[-1].end, lock.end))
        else:
            joined.append(lock)
    return [lock for lock in locks if lock.owner != owner] + joined
