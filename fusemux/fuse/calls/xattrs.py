"""Calls on extended attributes, as far as `xattr_policy` lets users see them."""

from __future__ import annotations

import errno

from fusemux.fuse import xattr_policy
from fusemux.fuse.calls.state import BridgeState
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Frame

__all__ = ["XattrCalls"]

_CAPABILITY = b"security.capability"  # the kernel asks for it before the first write to every file
_FLAGS = (0, 1, 2, 3)  # XATTR_CREATE, XATTR_REPLACE; both together always fail, as on any file system


class XattrCalls(BridgeState):
    async def setxattr(self, frame: Frame, nodeid: int, name: bytes, value: bytes, flags: int) -> None:
        xattr_policy.refuse_change(name, frame.uid)
        if flags not in _FLAGS:
            raise FopError(errno.EINVAL, f"unknown flags {flags:#x}")
        inode = self._inode(nodeid)
        inode.bare = False
        try:
            await self._on(nodeid, "setxattr", frame, {name: value}, flags)
        finally:
            self.recall.look_again(inode.gfid)

    async def getxattr(self, frame: Frame, nodeid: int, name: bytes) -> bytes:
        """ENODATA when there is none, or none for this user."""
        if name == _CAPABILITY and self._inode(nodeid).bare:
            raise FopError(errno.ENODATA)
        xattr_policy.refuse_reading(name, frame.uid)
        values = await self._on(nodeid, "getxattr", frame, name)
        try:
            return bytes(values[name])
        except KeyError:
            raise FopError(errno.ENODATA) from None

    async def listxattr(self, frame: Frame, nodeid: int) -> list[bytes]:
        return xattr_policy.visible(await self._on(nodeid, "getxattr", frame, None), frame.uid)

    async def removexattr(self, frame: Frame, nodeid: int, name: bytes) -> None:
        xattr_policy.refuse_change(name, frame.uid)
        inode = self._inode(nodeid)
        try:
            await self._on(nodeid, "removexattr", frame, name)
        finally:
            self.recall.look_again(inode.gfid)
