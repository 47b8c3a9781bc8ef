"""Recording times late: a stamp costs no system call of its own.

On a ramdisk the times of what is open (files, and the directories lately used) are kept in memory, where every fop looks first, and
reach the disk together: `INTERVAL_S` after the first change, and before that whenever the object is closed, evicted, synced
or its mdata are asked for by name.  A thousand files made in a directory so record its times once and not a thousand times, and a
file that is written and closed records its own once.

A process that is killed loses at most what the last `INTERVAL_S` brought, of times alone: a new file then has those of the backing
store, a directory those before.  Bricks that are served from threads, as those on disks are
(option io-mode), and bricks that play a power cut (debug/volatile) record at once.
"""

from __future__ import annotations

import errno
import logging
import os
import weakref
from typing import Protocol
from weakref import WeakKeyDictionary

import trio

from fusemux.bricks.storage.posix import mdata
from fusemux.bricks.storage.posix.mdata import Times
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import gfid_text

__all__ = ["INTERVAL_S", "LateTimes", "Recorder", "recorder_of"]

log = logging.getLogger("fusemux.bricks")

INTERVAL_S = 0.05


class Known(Protocol):
    """A file that is open, or a directory lately used."""

    gfid: bytes
    fd: int
    times: Times | None


class LateTimes:
    """The part of a store that records times."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.MDATA = b"trusted.glusterfs.mdata"
        self.recorder: Recorder | None = None  # None: times are recorded at once
        self.late: dict[bytes, Known] = {}  # whose times are still to be recorded, by gfid

    def keep(self, known: Known, times: Times) -> None:
        """These are its times from now on; they are recorded now or, on a ramdisk, later."""
        known.times = times
        if self.recorder is None:
            self.record(known.fd, times)
            return
        if not self.late:
            self.recorder.expect(self)
        self.late[known.gfid] = known

    def record(self, fd: int, times: Times) -> None:
        """Times are the last step of an operation that has succeeded: a full disk must not make it fail."""
        try:
            os.setxattr(fd, self.MDATA, mdata.pack(*times))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise

    def record_late(self, gfid: bytes) -> None:
        """Record the times of one object, if that is still to be done.  Never raises."""
        known = self.late.pop(gfid, None)
        if known is not None:
            self._record(known)

    def record_all(self) -> None:
        """Record all times that are still to be recorded.  Never raises."""
        late, self.late = self.late, {}
        for known in late.values():
            self._record(known)

    def _record(self, known: Known) -> None:
        try:
            if known.times is not None:
                self.record(known.fd, known.times)
        except OSError as error:
            log.warning("%s: times of %s are not recorded: %s", self.path, gfid_text(known.gfid), error.strerror)


class Recorder:
    """Tells the stores of a process when to record: one task for all of them, and none while nothing is to be recorded."""

    def __init__(self, process: Process) -> None:
        self._process: Process = weakref.proxy(process)  # which refers to this one
        self._late: dict[LateTimes, None] = {}

    def expect(self, store: LateTimes) -> None:
        """`store` has times to record."""
        if not self._late:
            self._process.spawn(self._record, name="late times")
        self._late[store] = None

    def leave(self, store: LateTimes) -> None:
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
