"""Locks between the transactions of one replica set, within this process.

A transaction locks what it changes: a range of a file's data, an inode's metadata, names in directories.  Locks on one inode
are granted in the order they were asked for: one waits while an earlier one that it conflicts with is held or waits.
Whoever takes several takes them in one order: names before metadata, data, and opening, and by gfid among each.
An inode without locks is not in `held`, so a fop that runs to its end without waiting needs no lock of its own, only
`gfid in locks.held` to see that nobody else is in the middle of something.

In one process nobody else locks, so the bricks are not asked.  When several clients share the bricks, a transaction must
take the same locks there (inodelk and entrylk in the domain named like the translator) after the local ones.
"""

from __future__ import annotations

from typing import NamedTuple

import trio

__all__ = ["END", "Grant", "Locks", "Span", "data", "metadata", "name", "opening"]

END = 1 << 63  # beyond every offset
_ORDER = ("name", "metadata", "data", "opening")  # who holds one may wait for a later one only


class Span(NamedTuple):
    """What a lock covers of an inode: bytes [start, end) of its data, one name in it (None: all), or a thing that has no parts."""

    space: str
    start: int = 0
    end: int = END
    name: bytes | None = None

    def conflicts(self, other: Span) -> bool:
        if self.space != other.space:
            return False
        if self.space == "name":
            return self.name is None or other.name is None or self.name == other.name
        return self.start < other.end and other.start < self.end


def data(start: int = 0, end: int = END) -> Span:
    return Span("data", start, end)


def metadata() -> Span:
    return Span("metadata")


def opening() -> Span:
    """The opening of files on children that came back."""
    return Span("opening")


def name(name: bytes | None) -> Span:
    """None: the directory's names altogether."""
    return Span("name", name=name)


def _rank(lock: tuple[bytes, Span]) -> tuple[int, bytes, bytes]:
    gfid, span = lock
    return _ORDER.index(span.space), gfid, span.name or b""


class Grant:
    """One lock, held or waited for."""

    __slots__ = ("gfid", "granted", "span")

    def __init__(self, gfid: bytes, span: Span) -> None:
        self.gfid = gfid
        self.span = span
        self.granted: trio.Event | None = None  # None: held


class Locks:
    def __init__(self) -> None:
        self.held: dict[bytes, list[Grant]] = {}  # by gfid, in the order they were asked for

    async def acquire(self, gfid: bytes, span: Span) -> Grant:
        """Wait for the lock.  When cancelled while waiting, it was never asked for."""
        grant = Grant(gfid, span)
        queue = self.held.setdefault(gfid, [])
        blocked = any(span.conflicts(earlier.span) for earlier in queue)
        queue.append(grant)
        if blocked:
            grant.granted = trio.Event()
            try:
                await grant.granted.wait()
            except BaseException:
                self.release(grant)
                raise
        return grant

    def writers(self, gfid: bytes) -> int:
        """How many hold a lock on data of this inode."""
        return sum(1 for grant in self.held.get(gfid, ()) if grant.span.space == "data" and grant.granted is None)

    async def acquire_all(self, wanted: list[tuple[bytes, Span]]) -> list[Grant]:
        """Several locks, in an order that all callers share, so that none can wait for another in a circle.

        A lock on all names of a directory stands for those on single names of it.
        """
        whole = {gfid for gfid, span in wanted if span == name(None)}
        needed = {(gfid, span) for gfid, span in wanted if span.name is None or gfid not in whole}
        grants: list[Grant] = []
        try:
            for gfid, span in sorted(needed, key=_rank):
                grants.append(await self.acquire(gfid, span))
        except BaseException:
            self.release(*grants)
            raise
        return grants

    def release(self, *grants: Grant) -> None:
        for grant in grants:
            queue = self.held[grant.gfid]
            queue.remove(grant)
            if not queue:
                del self.held[grant.gfid]
                continue
            for place, waiting in enumerate(queue):
                event = waiting.granted
                if event is not None and not any(waiting.span.conflicts(earlier.span) for earlier in queue[:place]):
                    waiting.granted = None
                    event.set()
