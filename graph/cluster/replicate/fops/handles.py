"""Opening, flushing, syncing and closing.

A file is open on all children that are up.  One that comes back is given the file again before the next write (`reopen`).
Flush, fsync and release end what the last writes left behind (`settle`).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.changelog import DATA
from fusemux.graph.cluster.replicate.core import Replies
from fusemux.graph.cluster.replicate.eager import Opened
from fusemux.graph.cluster.replicate.fops.choosing import Choosing
from fusemux.graph.cluster.replicate.fops.data import Data
from fusemux.graph.cluster.replicate.transaction import Change
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Frame, Xdata

__all__ = ["Handles"]


class Handles(Choosing, Data):
    async def open(self, frame: Frame, inode: Inode, flags: int, fd: Fd, xdata: Xdata = None) -> None:
        args = (frame, inode, flags & ~os.O_TRUNC, fd, xdata)
        if self.usual(inode):
            replies, failed = await self.loop("open", args)
            if failed:
                await self._open_where(self.members.everyone, replies, frame, fd)
            else:
                fd.ctx[self.fd_slot] = self.opened
        else:
            await self._open_general("open", args)
        if flags & os.O_TRUNC:
            await self._cut(frame, fd)

    async def opendir(self, frame: Frame, inode: Inode, fd: Fd, xdata: Xdata = None) -> None:
        args = (frame, inode, fd, xdata)
        if self.usual(inode):
            replies, failed = await self.loop("opendir", args)
            if not failed:
                fd.ctx[self.fd_slot] = self.opened
                return
            await self._open_where(self.members.everyone, replies, frame, fd)
        else:
            await self._open_general("opendir", args)

    async def _open_general(self, fop: str, args: tuple[Any, ...]) -> None:
        frame, inode, fd = args[0], args[1], args[-2]
        known = await self.known(frame, inode)
        if stat.S_ISREG(inode.type) and not known.readable(DATA, self.arbiters):
            seen = fd.flags & os.O_ACCMODE == os.O_RDONLY and self.chosen(inode, known)
            if not seen and not await self.settled(inode):
                raise self.unreadable(inode)
        up = self.members.up
        self.require_quorum(up)
        grant = await self.locks.acquire(inode.gfid, locks.opening())
        try:
            await self.shielded(self._open_on_all, up, fop, args, frame, fd)
        finally:
            self.locks.release(grant)

    async def _open_on_all(self, up: int, fop: str, args: tuple[Any, ...], frame: Frame, fd: Fd) -> None:
        await self._open_where(up, await self.wind(up, fop, *args), frame, fd)

    async def _open_where(self, which: int, replies: Replies, frame: Frame, fd: Fd) -> None:
        """Note where it worked.  Raises FopError, having closed it again, when that is no quorum."""
        good = self.succeeded(which, replies)
        if not self.members.quorum(good):
            await self.wind(good, "release", frame, fd, None)
            raise self.failure(replies)
        fd.ctx[self.fd_slot] = Opened(self.generation, good)

    def unreadable(self, inode: Inode) -> FopError:
        """No copy that can be reached may be read: the good one is away, or there is none (split-brain)."""
        if self.members.complete:
            return FopError(errno.EIO, f"{self.name}: {inode.gfid.hex()} has no good copy (split-brain)")
        return FopError(errno.ENOTCONN, f"{self.name}: the good copies of {inode.gfid.hex()} are away")

    async def _cut(self, frame: Frame, fd: Fd) -> None:
        try:
            await self.truncate(frame, fd, 0)
        except BaseException:
            await self.shielded(self._release, frame, fd)
            raise

    # -- closing -----------------------------------------------------------------------------------------------

    async def flush(self, frame: Frame, fd: Fd, xdata: Xdata = None) -> None:
        if fd.inode.gfid in self.eager:
            await self.settle(fd.inode.gfid)
        if fd.ctx[self.fd_slot] is self.opened and self.inline:
            opened = self.members.everyone
            replies, failed = await self.loop("flush", (frame, fd, xdata))
            if not failed:
                return
        else:
            self.require_quorum(self.members.up)
            opened = self.open_on(fd)
            replies = await self.wind(opened, "flush", frame, fd, xdata)
        if opened and not self.succeeded(opened, replies):
            raise self.failure(replies)

    async def release(self, frame: Frame, fd: Fd, xdata: Xdata = None) -> None:
        if fd.inode.gfid in self.eager:
            await self.settle(fd.inode.gfid)
        if self.inline:
            await self._release(frame, fd)
        else:
            await self.shielded(self._release, frame, fd)

    async def _release(self, frame: Frame, fd: Fd) -> None:
        """Also on children that are down: what they keep of the file in this process must go."""
        if self.inline:
            await self.loop("release", (frame, fd, None))
        else:
            await self.wind(self.members.everyone, "release", frame, fd, None)

    # -- syncing -----------------------------------------------------------------------------------------------

    async def fsync(self, frame: Frame, fd: Fd, datasync: bool, xdata: Xdata = None) -> None:
        args = (frame, fd, datasync, xdata)
        if stat.S_ISDIR(fd.inode.type):
            opened = await self.reopen(frame, fd, self.members.up)
            self.require_quorum(opened)
            self.agreed(opened, await self.wind(opened, "fsync", *args))
            return
        if self.inline and fd.inode.gfid not in self.locks.held:
            await self._fsync(args, fd)
        else:
            await self.shielded(self._fsync, args, fd)

    async def _fsync(self, args: tuple[Any, ...], fd: Fd) -> None:
        """A copy that cannot keep what was written has missed it."""
        frame: Frame = args[0]
        opened = await self.reopen(frame, fd, self.members.up)
        self.require_quorum(opened)
        sources = (await self.known(frame, fd.inode)).sources(DATA)
        replies = await self.wind(opened, "fsync", *args)
        synced = self.succeeded(opened, replies)
        eager = self.eager.get(fd.inode.gfid)
        if synced == opened:
            if eager is not None:
                eager.unstable = False
                await self.settle(fd.inode.gfid)
            return
        if eager is not None:
            await self.settle(fd.inode.gfid)
        change = Change(DATA, "fsync", args, (fd.inode, None))
        await self._conclude(change, opened, replies, sources, dirtied=False)

    async def syncfs(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> None:
        await self.settle_all()
        up = self.members.up
        self.require_quorum(up)
        self.agreed(up, await self.wind(up, "syncfs", frame, inode, xdata))
