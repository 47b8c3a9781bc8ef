"""Calls on what a node is: attributes, the text of links, permissions, space."""

from __future__ import annotations

import errno
import stat

from fusemux.fuse.calls.state import BridgeState, Call
from fusemux.fuse.permissions import allowed, groups_of
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Frame, Iatt, SetAttr, StatVfs

__all__ = ["AttributeCalls"]

_NOTHING = SetAttr()


async def _answer(iatt: Iatt) -> Iatt:
    return iatt


class AttributeCalls(BridgeState):
    def getattr(self, frame: Frame, nodeid: int, fh: int = 0) -> Call[Iatt]:
        """Attributes; through the open file `fh` where one is given."""
        if fh and fh in self.files:
            return self.top.stat(frame, self.files[fh].fd)
        iatt = self.recalled(nodeid)
        if iatt is not None:
            return _answer(iatt)
        inode = self.known.get(nodeid)
        if inode is not None and inode.type == stat.S_IFDIR and not self.nodes.removed:
            return self._look_at_directory(frame, inode)
        return self._getattr(frame, nodeid)

    def recalled(self, nodeid: int) -> Iatt | None:
        """The attributes of a directory that are remembered (`recall.py`), None where they are not."""
        inode = self.known.get(nodeid)
        if inode is None or inode.type != stat.S_IFDIR or self.nodes.removed:
            return None
        return self.recall.get(inode.gfid)

    async def _look_at_directory(self, frame: Frame, inode: Inode) -> Iatt:
        changes = self.recall.changes
        iatt: Iatt = await self.top.stat(frame, inode)
        self.recall.keep(iatt, changes)
        return iatt

    async def _getattr(self, frame: Frame, nodeid: int) -> Iatt:
        if nodeid in self.nodes.removed:
            return self.nodes.removed[nodeid]
        iatt: Iatt = await self._on(nodeid, "stat", frame)
        return iatt

    async def setattr(self, frame: Frame, nodeid: int, fh: int, size: int | None, attrs: SetAttr) -> Iatt:
        """Set the size (None: leave it), then the rest; the attributes afterwards."""
        iatt: Iatt | None = None
        if self.nodes.removed and nodeid in self.nodes.removed:
            return self._set_of_removed(nodeid, attrs)
        if size is not None:
            iatt = await self._truncate(frame, nodeid, fh, size)
        if attrs != _NOTHING:
            inode = self._inode(nodeid)
            try:
                iatt = await self._on(nodeid, "setattr", frame, attrs)
            finally:
                self.recall.look_again(inode.gfid)
        return iatt if iatt is not None else await self.getattr(frame, nodeid, fh)

    def _set_of_removed(self, nodeid: int, attrs: SetAttr) -> Iatt:
        """What is gone from the bricks changes only in the memory of those who still hold it."""
        iatt = self.nodes.removed[nodeid]
        given = {field: value for field, value in attrs._asdict().items() if value is not None}
        if attrs.mode is not None:
            given["mode"] = stat.S_IFMT(iatt.mode) | attrs.mode
        changed = self.nodes.removed[nodeid] = iatt._replace(**given)
        return changed

    async def _truncate(self, frame: Frame, nodeid: int, fh: int, size: int) -> Iatt:
        file = self.files.get(fh)
        iatt: Iatt
        if file is not None and file.fd.flags & 3:
            iatt = await self.top.truncate(frame, file.fd, size)
        else:
            iatt = await self._on(nodeid, "truncate", frame, size)
        return iatt

    async def readlink(self, frame: Frame, nodeid: int) -> bytes:
        return bytes(await self.top.readlink(frame, self._inode(nodeid)))

    async def access(self, frame: Frame, nodeid: int, mask: int) -> None:
        """EACCES when not all of `mask` (R 4, W 2, X 1) is granted; only asked without `default_permissions`."""
        iatt = await self.getattr(frame, nodeid)
        if not allowed(iatt, frame.uid, frame.gid, mask, lambda: groups_of(frame.pid)):
            raise FopError(errno.EACCES)

    async def statfs(self, frame: Frame, nodeid: int) -> StatVfs:
        space: StatVfs = await self.top.statfs(frame, self._inode(nodeid))
        return space

    async def syncfs(self, frame: Frame, nodeid: int) -> None:
        await self.top.syncfs(frame, self._inode(nodeid))
