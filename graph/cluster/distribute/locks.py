"""FIFO locks on names and directories, inside one process.

GlusterFS takes entry and inode locks on a brick because many clients share a volume; here all callers are tasks of
one event loop, so a dictionary does.  A lock is only needed across awaits that may really wait: an operation whose
subvolumes all answer inline runs from start to end without anybody in between, provided nobody holds a lock
when it starts (`if locks.held`).

A key is (gfid of the directory, name), or (gfid, b"") for the directory itself.  Several keys are always taken
together and in one order, so nobody waits for a holder who waits for him.
"""

from __future__ import annotations

from collections import deque

import trio

__all__ = ["Key", "Locks"]

Key = tuple[bytes, bytes]


class _Waiter:
    __slots__ = ("event", "granted")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.granted = False


class Locks:
    """`keys = await locks.take(...)` and, in a `finally`, `locks.give(keys)`."""

    def __init__(self) -> None:
        self.held: dict[Key, deque[_Waiter] | None] = {}

    async def take(self, *wanted: Key) -> list[Key]:
        """Hold all of `wanted`; waits its turn for each.  Cancelled while waiting, it holds none."""
        keys = sorted(set(wanted))
        for count, key in enumerate(keys):
            if key not in self.held:
                self.held[key] = None
                continue
            try:
                await self._wait(key)
            except BaseException:
                self.give(keys[:count])
                raise
        return keys

    async def _wait(self, key: Key) -> None:
        waiters = self.held[key]
        if waiters is None:
            waiters = self.held[key] = deque()
        waiter = _Waiter()
        waiters.append(waiter)
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter.granted:
                self.give([key])
            else:
                waiters.remove(waiter)
            raise

    def give(self, keys: list[Key]) -> None:
        """Hand each key to the first who waits for it."""
        for key in keys:
            waiters = self.held[key]
            if waiters:
                waiter = waiters.popleft()
                waiter.granted = True
                waiter.event.set()
            else:
                del self.held[key]
