"""Calls on open directories.

An offset is the place behind an entry, as the graph names it; it stays good while other entries come and go.  1 and 2 are the places
behind `.` and `..`, which no backing file system gives to anything else.

Names are read ahead in batches.  Attributes are not: what was read for an earlier request may have changed since, and
the kernel would keep the old.
"""

from __future__ import annotations

import errno
import stat

from fusemux.fuse.calls.state import BridgeState
from fusemux.fuse.handles import OpenDirectory
from fusemux.fuse.nodes import ROOT_ID
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd
from fusemux.graph.framework.types import DirEntry, Frame

__all__ = ["DirectoryCalls"]

_BATCH = 512
_LOST = (errno.ESTALE, errno.ENOENT)


class DirectoryCalls(BridgeState):
    async def opendir(self, frame: Frame, nodeid: int) -> int:
        """A directory handle."""
        inode = self._inode(nodeid)
        fd = self.itable.fd(inode, 0, frame.pid)
        opened: Fd | None = fd
        try:
            await self.top.opendir(frame, inode, fd)
        except BaseException as error:
            self.nodes.closed(fd)
            gone = isinstance(error, FopError) and error.errno in _LOST and nodeid in self.nodes.removed
            if not gone:
                raise
            opened = None
        fh = self._next_handle()
        self.directories[fh] = OpenDirectory(opened, nodeid)
        return fh

    async def releasedir(self, frame: Frame, fh: int) -> None:
        directory = self.directories.pop(fh, None)
        if directory is None or directory.fd is None:
            return
        try:
            await self.top.release(frame, directory.fd)
        finally:
            self.nodes.closed(directory.fd)

    async def fsyncdir(self, frame: Frame, fh: int, datasync: bool) -> None:
        directory = self._directory(fh)
        if directory.fd is not None:
            await self.top.fsync(frame, directory.fd, datasync)

    async def readdir(self, frame: Frame, fh: int, offset: int, count: int) -> list[DirEntry]:
        """At most `count` entries behind `offset`; empty at the end."""
        directory = self._directory(fh)
        entries = self._dots(directory, offset)[:count]
        if entries:
            return entries
        if offset <= 2:
            offset = 0
            directory.ahead = []
        ahead, position = directory.ahead, self._place_ahead(directory, offset)
        if position == len(ahead):
            ahead = directory.ahead = await self._read(frame, directory, offset, max(count, _BATCH), plus=False)
            position = 0
        directory.position, directory.offset = position, offset
        return ahead[position : position + count]

    @staticmethod
    def _place_ahead(directory: OpenDirectory, offset: int) -> int:
        """Where among the entries read ahead `offset` leads; their end when nowhere."""
        ahead = directory.ahead
        if offset == directory.offset:
            return directory.position
        for position in range(directory.position, len(ahead)):
            if ahead[position].offset == offset:
                return position + 1
        return len(ahead)

    async def readdirplus(self, frame: Frame, fh: int, offset: int, count: int) -> list[DirEntry]:
        """The same with attributes, None for `.` and `..` and where they are not known.

        For each entry that reaches the kernel the binding calls `entered`.
        """
        directory = self._directory(fh)
        entries = self._dots(directory, offset)
        if len(entries) < count:
            entries += await self._read(frame, directory, 0 if offset <= 2 else offset, count - len(entries), plus=True)
        return entries[:count]

    def entered(self, entry: DirEntry, fh: int = 0) -> int:
        """The kernel takes this entry of directory `fh`, with its attributes: its node id."""
        assert entry.iatt is not None
        directory = self.directories.get(fh)
        return self.nodes.enter(entry.iatt, directory.nodeid if directory is not None else 0, entry.name)

    def _dots(self, directory: OpenDirectory, offset: int) -> list[DirEntry]:
        """`.` and `..`, as far as they lie behind `offset`."""
        if offset >= 2:
            return []
        nodeid = directory.nodeid
        place = self.nodes.places.get(nodeid)
        parent = place[0] if place is not None else ROOT_ID
        dots = [DirEntry(b".", 1, nodeid, stat.S_IFDIR), DirEntry(b"..", 2, parent, stat.S_IFDIR)]
        return dots[offset:]

    async def _read(
        self, frame: Frame, directory: OpenDirectory, offset: int, count: int, *, plus: bool
    ) -> list[DirEntry]:
        if directory.fd is None:
            return []
        entries: list[DirEntry] = await self.top.readdir(frame, directory.fd, count, offset, plus)
        self.recall.look_again(directory.fd.inode.gfid)  # it was read: an access time
        return entries
