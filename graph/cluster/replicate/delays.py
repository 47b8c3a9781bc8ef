"""The clock of delayed post-ops: one background task for all replica sets of a process.

It ticks every half second while anything is delayed and sleeps otherwise, so a write only has to note the tick it happened in,
which costs nothing, and starts no task.  Every tick each set clears what has rested longer than its option says: after
post-op-delay-secs, and at most a tick later.  Sets whose children wait do that in a task of their own, one each.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakKeyDictionary

import trio

from fusemux.graph.framework.process import Process

__all__ = ["TICK_S", "Clock", "clock_of"]

TICK_S = 0.5


class Set(Protocol):
    name: str
    process: Process

    @property
    def suspends(self) -> bool: ...

    @property
    def has_delayed(self) -> bool: ...

    async def expire(self, tick: int) -> None:
        """Finish what was last touched too many ticks ago.  Never raises."""


class Clock:
    def __init__(self) -> None:
        self.tick = 0
        self.asleep = True  # nothing is delayed: `wake` when something is
        self._sets: list[Set] = []
        self._sweeping: set[int] = set()
        self._alarm: trio.Event | None = None
        self._task: trio.CancelScope | None = None

    def join(self, member: Set) -> None:
        self._sets.append(member)

    def leave(self, member: Set) -> None:
        if member in self._sets:
            self._sets.remove(member)
        if not self._sets and self._task is not None:
            self._task.cancel()
            self._task = self._alarm = None
            self.asleep = True

    def wake(self, process: Process) -> None:
        """Something is delayed now."""
        self.asleep = False
        if self._task is None:
            self._task = process.spawn(self._run, name="replicate: delayed post-ops")
        elif self._alarm is not None:
            self._alarm.set()

    async def _run(self) -> None:
        while True:
            if not any(member.has_delayed for member in self._sets):
                self.asleep = True
                self._alarm = trio.Event()
                await self._alarm.wait()
                self._alarm = None
            await trio.sleep(TICK_S)
            self.tick += 1
            for member in list(self._sets):
                if not member.has_delayed or id(member) in self._sweeping:
                    continue
                if member.suspends:
                    member.process.spawn(self._alone, member, name=f"{member.name}: delayed post-ops")
                else:
                    await member.expire(self.tick)

    async def _alone(self, member: Set) -> None:
        self._sweeping.add(id(member))
        try:
            await member.expire(self.tick)
        finally:
            self._sweeping.discard(id(member))


_clocks: WeakKeyDictionary[Process, Clock] = WeakKeyDictionary()


def clock_of(process: Process) -> Clock:
    """The one clock of `process`."""
    clock = _clocks.get(process)
    if clock is None:
        clock = _clocks[process] = Clock()
    return clock
