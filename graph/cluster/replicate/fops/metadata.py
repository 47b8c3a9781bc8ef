"""Fops that change attributes and xattrs: one metadata transaction each."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from fusemux.graph.cluster.replicate.changelog import METADATA
from fusemux.graph.cluster.replicate.choices import PREFIX as SPLIT_BRAIN
from fusemux.graph.cluster.replicate.core import inode_of
from fusemux.graph.cluster.replicate.fops.choosing import Choosing
from fusemux.graph.cluster.replicate.transaction import Change, Transactions
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Frame, Iatt, SetAttr, Xdata

__all__ = ["CHANGELOG_PREFIX", "Metadata"]

CHANGELOG_PREFIX = b"trusted.afr."


class Metadata(Choosing, Transactions):
    async def setattr(self, frame: Frame, target: Inode | Fd, attrs: SetAttr, xdata: Xdata = None) -> Iatt:
        args = (frame, target, attrs, xdata)
        return await self.change(Change(METADATA, "setattr", args, (inode_of(target), None)))

    async def setxattr(
        self, frame: Frame, target: Inode | Fd, xattrs: Mapping[bytes, bytes], flags: int, xdata: Xdata = None
    ) -> None:
        for name, value in xattrs.items():
            self._forbid(frame, name)
            if name.startswith(SPLIT_BRAIN) and frame.pid >= 0:
                await self.settle_split_brain(inode_of(target), name, value)
                return
        args = (frame, target, xattrs, flags, xdata)
        await self.change(Change(METADATA, "setxattr", args, (inode_of(target), None)))

    async def removexattr(self, frame: Frame, target: Inode | Fd, name: bytes, xdata: Xdata = None) -> None:
        self._forbid(frame, name)
        await self.change(Change(METADATA, "removexattr", (frame, target, name, xdata), (inode_of(target), None)))

    async def xattrop(
        self, frame: Frame, target: Inode | Fd, op: int, xattrs: Mapping[bytes, bytes], xdata: Xdata = None
    ) -> Mapping[bytes, bytes]:
        args = (frame, target, op, xattrs, xdata)
        return await self.change(Change(METADATA, "xattrop", args, (inode_of(target), None)))

    def _forbid(self, frame: Frame, name: bytes) -> None:
        """The changelog is not for users."""
        if name.startswith(CHANGELOG_PREFIX) and frame.pid >= 0:
            raise FopError(errno.EPERM, f"{name.decode()} belongs to {self.name}")
