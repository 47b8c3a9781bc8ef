"""File fops: sent to the one subvolume that has the data.

The slot says where that is.  When the file turns out not to be there (ESTALE: a rebalance or somebody else's client has moved
it) it is searched once by its gfid and the fop is tried again there.

Fops that answer attributes look at two bits of the mode: sticky together with set-group-ID on a regular file is the mark of a
running migration, which users must not see, unless they set both themselves, which the linkto xattr tells.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any

from fusemux.graph.cluster.distribute.base import GONE, internal
from fusemux.graph.cluster.distribute.fops.listing import Listings
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fanout import fan_out
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["Dispatch"]

_MARKED, _MASK = 0o103000, 0o173000


class Dispatch(Listings):
    # The fops of reading and writing are written out: they are called most.

    async def open(self, frame: Frame, inode: Inode, flags: int, fd: Fd, xdata: Xdata = None) -> None:
        edge = inode.ctx[self.inode_slot] or await self.file(frame, inode)
        try:
            await edge.open(frame, inode, flags, fd, xdata)
        except FopError as error:
            if error.errno not in GONE:
                raise
            await (await self._moved_to(frame, inode, edge, error)).open(frame, inode, flags, fd, xdata)

    async def readv(self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Xdata = None) -> Any:
        edge = fd.inode.ctx[self.inode_slot] or await self.file(frame, fd.inode)
        try:
            return await edge.readv(frame, fd, size, offset, xdata)
        except FopError as error:
            if error.errno not in GONE:
                raise
            return await (await self._moved_to(frame, fd, edge, error)).readv(frame, fd, size, offset, xdata)

    async def writev(self, frame: Frame, fd: Fd, data: Any, offset: int, xdata: Xdata = None) -> int:
        edge = fd.inode.ctx[self.inode_slot] or await self.file(frame, fd.inode)
        try:
            written: int = await edge.writev(frame, fd, data, offset, xdata)
        except FopError as error:
            if error.errno not in GONE:
                raise
            moved = await self._moved_to(frame, fd, edge, error)
            written = await moved.writev(frame, fd, data, offset, xdata)
        return written

    async def flush(self, frame: Frame, fd: Fd, xdata: Xdata = None) -> None:
        edge = fd.inode.ctx[self.inode_slot]
        if edge.__class__ is Edge:
            await edge.flush(frame, fd, xdata)

    async def release(self, frame: Frame, fd: Fd, xdata: Xdata = None) -> None:
        edge = fd.inode.ctx[self.inode_slot]
        if edge.__class__ is Edge:
            await edge.release(frame, fd, xdata)
        else:
            await fan_out(self.children, "release", frame, fd, xdata)

    async def fsync(self, frame: Frame, fd: Fd, datasync: bool, xdata: Xdata = None) -> None:
        edge = fd.inode.ctx[self.inode_slot]
        if edge.__class__ is Edge:
            await edge.fsync(frame, fd, datasync, xdata)
        else:
            self.first_error(await self.ask_all("fsync", frame, fd, datasync, xdata))

    async def syncfs(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> None:
        self.first_error(await self.ask_all("syncfs", frame, inode, xdata))

    async def copy_file_range(
        self,
        frame: Frame,
        fd: Fd,
        offset: int,
        fd_out: Fd,
        offset_out: int,
        length: int,
        flags: int,
        xdata: Xdata = None,
    ) -> int:
        source, target = await self.file(frame, fd.inode), await self.file(frame, fd_out.inode)
        if source is not target:
            raise FopError(errno.EXDEV, f"one file is on {source.name}, the other on {target.name}")
        copied: int = await source.copy_file_range(frame, fd, offset, fd_out, offset_out, length, flags, xdata)
        return copied

    def first_error(self, answers: list[Any]) -> None:
        """Raise the first error, but for subvolumes that are down or have nothing there."""
        errors = [a for a in answers if isinstance(a, FopError)]
        real = [a for a in errors if a.errno not in (errno.ENOTCONN, *GONE)]
        if real or len(errors) == len(answers):
            raise (real or errors)[0]

    async def _moved_to(self, frame: Frame, target: Inode | Fd, edge: Any, error: FopError) -> Edge:
        """Where a file is that was not where it was known to be.  Raises `error` when it is nowhere else."""
        inode = target if isinstance(target, Inode) else target.inode
        inode.ctx[self.inode_slot] = None
        try:
            await self.resolve(frame, inode)
        except FopError:
            inode.ctx[self.inode_slot] = edge
            raise error from None
        moved = inode.ctx[self.inode_slot]
        if moved is edge or not isinstance(moved, Edge):
            raise error
        if isinstance(target, Fd):
            await edge.release(frame, target)  # it is opened anew where the file is now
        return moved

    async def unmarked(self, frame: Frame, edge: Edge, target: Inode | Fd, iatt: Iatt) -> Iatt:
        """`iatt` without the marks of a migration, if they are that."""
        try:
            await edge.getxattr(internal(frame), target, self.xattr.linkto)
        except FopError:
            return iatt
        return iatt._replace(mode=iatt.mode & ~0o3000)


def _to_file(name: str) -> Callable[..., Awaitable[Any]]:
    """A fop on files whose first argument is an inode, an open file, or either."""

    async def call(self: Dispatch, frame: Frame, target: Inode | Fd, *args: Any) -> Any:
        inode = target if target.__class__ is Inode else target.inode  # type: ignore[union-attr]
        edge = inode.ctx[self.inode_slot]
        if edge.__class__ is not Edge:
            edge = await self.file(frame, inode)
        try:
            reply = await getattr(edge, name)(frame, target, *args)
        except FopError as error:
            if error.errno not in GONE:
                raise
            edge = await self._moved_to(frame, target, edge, error)
            reply = await getattr(edge, name)(frame, target, *args)
        if reply.__class__ is Iatt and reply.mode & _MASK == _MARKED:
            return await self.unmarked(frame, edge, target, reply)
        return reply

    call.__name__ = name
    return call


for _name in ("readlink", "seek", "rchecksum", "truncate", "fallocate", "lk"):
    setattr(Dispatch, _name, _to_file(_name))
