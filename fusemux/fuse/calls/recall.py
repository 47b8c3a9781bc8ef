"""What directories look like, from memory.

A kernel that checks permissions itself (`default_permissions`) asks for a directory's attributes after every change of its
entries: two to four of the ten requests of a file's life, by far the most where many work in one directory.  But such a change
sets nothing but two times, and to which value is known.  So they are answered from here, where nobody but this bridge
changes the volume; everything else that may change a directory, also what the graph reports (heals) and what fails (perhaps
half-way), forgets it.
"""

from __future__ import annotations

from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Iatt

__all__ = ["Recall"]

_LIMIT = 1024  # directories, some 300 bytes each; beyond that all are forgotten

_new = tuple.__new__


class Recall:
    """Attributes of directories by gfid.

    `changes` counts what may have changed any of them: an answer that was on its way meanwhile is not to be kept.
    """

    __slots__ = ("_links", "_process", "_seen", "changes", "on")

    def __init__(self, process: Process, *, on: bool) -> None:
        self._process = process
        self._links = 0
        self._seen: dict[bytes, Iatt] = {}
        self.changes = 0
        self.on = on

    def get(self, gfid: bytes) -> Iatt | None:
        if self._links != self._process.links:  # a brick went or came, a fault was placed, an option changed
            self._links = self._process.links
            self.changes += 1
            self._seen.clear()
        return self._seen.get(gfid)

    def keep(self, iatt: Iatt, changes: int) -> None:
        """`iatt` was asked for when there had been so many `changes`."""
        if changes != self.changes or not self.on:
            return
        if len(self._seen) >= _LIMIT:
            self._seen.clear()
        self._seen[iatt.gfid] = iatt

    def entry_changed(self, gfid: bytes, now: int) -> None:
        """A name that is no directory's came or went in the directory at `now` (ns; 0: the bricks know when)."""
        self.changes += 1
        iatt = self._seen.get(gfid)
        if iatt is None:
            return
        mtime, ctime = iatt.mtime_ns, iatt.ctime_ns
        if now < mtime or now < ctime:  # which one stays depends on how far ahead that lies, and on where it was set
            del self._seen[gfid]
            return
        self._seen[gfid] = _new(Iatt, (*iatt[:10], now, now, None))

    def forget(self, *gfids: bytes) -> None:
        """Anything may have changed about these."""
        self.changes += 1
        for gfid in gfids:
            self._seen.pop(gfid, None)
