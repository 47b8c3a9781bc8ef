"""Recording times late: a stamp costs no system call of its own.

On a ramdisk the times of what is open (files, and the directories lately used) are kept in memory, where every fop looks first, and
reach the disk together: `INTERVAL_S` after the first change, and before that whenever the object is closed, evicted, synced
or its mdata are asked for by name.  A thousand files made in a directory so record its times once and not a thousand times, and a
file that is written and closed records its own once.

A process that is killed loses at most what the last `INTERVAL_S` brought, of times alone: a new file then has those of the backing
store, a directory those before.  Disks, and bricks that play a power cut (debug/volatile), record at once.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakKeyDictionary

import trio

from fusemux.graph.framework.process import Process

__all__ = ["INTERVAL_S", "Recorder", "recorder_of"]

INTERVAL_S = 0.05


class Keeper(Protocol):
    def record_all(self) -> None:
        """Record the times that are known in memory only.  Raises nothing."""


class Recorder:
    """Tells the stores of a process when to record: one task for all of them, and none while nothing is to be recorded."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._late: dict[Keeper, None] = {}

    def expect(self, store: Keeper) -> None:
        """`store` has times to record."""
        if not self._late:
            self._process.spawn(self._record, name="late times")
        self._late[store] = None

    def leave(self, store: Keeper) -> None:
        """`store` has recorded all, and ends."""
        self._late.pop(store, None)

    def record(self) -> None:
        """Record everything now, for whoever is about to look at the bricks themselves."""
        late, self._late = self._late, {}
        for store in late:
            store.record_all()

    async def _record(self) -> None:
        try:
            await trio.sleep(INTERVAL_S)
        finally:
            self.record()


_of_process: WeakKeyDictionary[Process, Recorder] = WeakKeyDictionary()


def recorder_of(process: Process) -> Recorder:
    recorder = _of_process.get(process)
    if recorder is None:
        recorder = _of_process[process] = Recorder(process)
    return recorder
