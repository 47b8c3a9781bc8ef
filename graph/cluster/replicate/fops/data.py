"""Fops that change a file's data."""

from __future__ import annotations

import errno

from fusemux.graph.cluster.replicate.core import inode_of
from fusemux.graph.cluster.replicate.locks import END
from fusemux.graph.cluster.replicate.writing import DataChange, Writing
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["Data"]


class Data(Writing):
    async def writev(self, frame: Frame, fd: Fd, data: bytes, offset: int, xdata: Xdata = None) -> int:
        inode = fd.inode
        size = len(data)
        known = inode.ctx[self.inode_slot]
        if (
            known is not None
            and known.token is self.token
            and fd.ctx[self.fd_slot] is self.opened
            and inode.gfid not in self.locks.held
        ):
            eager = self.eager.get(inode.gfid) or await self.begin(inode)
            if eager is not None and eager.token is self.token:
                replies, uneven = await self.loop("writev", (frame, fd, data, offset, xdata))
                for reply in replies:
                    uneven = uneven or reply != size
                if not uneven:
                    eager.wrote(fd, offset, size, self.clock.tick)
                    return size
                change = DataChange(
                    "writev", (frame, fd, data, offset, xdata), inode, offset, offset + size, fd, wrote=size
                )
                return await self.conclude(change, eager, replies, self.members.everyone)
        args = (frame, fd, data, offset, xdata)
        return await self.write_general(DataChange("writev", args, inode, offset, offset + size, fd, wrote=size))

    async def truncate(self, frame: Frame, target: Inode | Fd, size: int, xdata: Xdata = None) -> Iatt:
        inode = inode_of(target)
        files = (target,) if isinstance(target, Fd) else ()
        return await self.write(DataChange("truncate", (frame, target, size, xdata), inode, size, END, *files))

    async def fallocate(self, frame: Frame, fd: Fd, mode: int, offset: int, length: int, xdata: Xdata = None) -> Iatt:
        args = (frame, fd, mode, offset, length, xdata)
        return await self.write(DataChange("fallocate", args, fd.inode, offset, offset + length, fd))

    async def copy_file_range(
        self, frame: Frame, fd: Fd, offset: int, fd_out: Fd, offset_out: int, length: int, flags: int,
        xdata: Xdata = None,
    ) -> int:  # fmt: skip
        args = (frame, fd, offset, fd_out, offset_out, length, flags, xdata)
        change = DataChange("copy_file_range", args, fd_out.inode, offset_out, offset_out + length, fd, fd_out)
        await self._readable_everywhere(frame, fd)
        return await self.write(change)

    async def _readable_everywhere(self, frame: Frame, fd: Fd) -> None:
        """A copy whose source file is stale would copy stale data: let the caller read and write instead."""
        known = await self.known(frame, fd.inode)
        if known.data & self.members.up:
            raise FopError(errno.EXDEV, f"{self.name}: not all copies of the source are good")
