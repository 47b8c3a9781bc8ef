"""Open directories of bricks, bounded over the whole process.

A process may serve a hundred bricks and has 20,000 descriptors for all of them and for its open files, so directory
handles are shared out by one `DirHandles` per process.  It evicts by the clock algorithm: a use costs one
attribute store (`handle.used = True`), not a move in a list.

An evicted handle is not closed at once: a fop (or a thread of the pool) may still hold it.  It closes when the last
reference to it goes, which in CPython is at once and in whichever thread that happens.
"""

from __future__ import annotations

import os
import resource
from collections import deque
from typing import Protocol
from weakref import WeakKeyDictionary

from fusemux.bricks.storage.posix.mdata import Times
from fusemux.graph.framework.process import Process

__all__ = ["DirHandle", "DirHandles", "dir_handles"]


class Home(Protocol):
    """The store of the brick that a handle belongs to."""

    dirs: dict[bytes, DirHandle]

    def drop_dir(self, gfid: bytes) -> None: ...


class DirHandle:
    """One directory of a brick, opened.  `times` are its mdata, None when it has none."""

    __slots__ = ("acl", "fd", "gfid", "group", "home", "slash", "times", "used")

    def __init__(self, home: Home, gfid: bytes, fd: int, slash: bytes, times: Times | None) -> None:
        self.home = home
        self.gfid = gfid
        self.fd = fd
        self.slash = slash  # the gfid as text and a slash: what gfid2path records begin with
        self.times = times
        self.acl: bool | None = None  # whether new entries take a default ACL; None: this and `group` are not known
        self.group: int | None = None  # the group that new entries take from a set-group-ID directory
        self.used = True

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class DirHandles:
    """At most `limit` handles, over all bricks of the process."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._ring: deque[DirHandle] = deque()

    def __len__(self) -> int:
        return len(self._ring)

    def add(self, handle: DirHandle) -> None:
        """`handle` was put into its table; make room for it."""
        ring = self._ring
        while len(ring) >= self.limit:
            oldest = ring.popleft()
            if oldest.home.dirs.get(oldest.gfid) is not oldest:
                continue
            if oldest.used:
                oldest.used = False
                ring.append(oldest)
            else:
                oldest.home.drop_dir(oldest.gfid)
        ring.append(handle)

    def leave(self, home: Home) -> None:
        """A brick is detached: forget its handles."""
        self._ring = deque(handle for handle in self._ring if handle.home is not home)


_of_process: WeakKeyDictionary[Process, DirHandles] = WeakKeyDictionary()


def dir_handles(process: Process) -> DirHandles:
    """The one of `process`; an eighth of its descriptors, at most 2048."""
    handles = _of_process.get(process)
    if handles is None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        handles = _of_process[process] = DirHandles(max(64, min(2048, soft // 8)))
    return handles
