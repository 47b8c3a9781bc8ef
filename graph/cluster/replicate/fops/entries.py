"""Fops that change names: one entry transaction each."""

from __future__ import annotations

import stat

from fusemux.graph.cluster.replicate.changelog import ENTRY
from fusemux.graph.cluster.replicate.transaction import Change, Transactions
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["Entries"]


class Entries(Transactions):
    async def create(
        self, frame: Frame, parent: Inode, name: bytes, flags: int, mode: int, gfid: bytes, fd: Fd, xdata: Xdata = None
    ) -> Iatt:
        args = (frame, parent, name, flags, mode, gfid, fd, xdata)
        known = parent.ctx[self.inode_slot]
        if known is not None and known.token is self.token and parent.gfid not in self.locks.held:
            replies, failed = await self.loop("create", args)
            if not failed:
                return self._made_open(fd, replies[0])
            change = Change(ENTRY, "create", args, (parent, name), made=(gfid, stat.S_IFREG))
            reply: Iatt = await self._conclude(
                change, self.members.everyone, replies, self.members.everyone, dirtied=False
            )
            return reply
        return await self._transact(Change(ENTRY, "create", args, (parent, name), made=(gfid, stat.S_IFREG)))

    def _made_open(self, fd: Fd, reply: Iatt) -> Iatt:
        """A new file is open, and empty, on all children."""
        fd.ctx[self.fd_slot] = self.opened
        fd.inode.ctx[self.inode_slot] = self.clean_copies(reply.gfid, empty=True)
        return reply

    async def tmpfile(
        self, frame: Frame, parent: Inode, flags: int, mode: int, gfid: bytes, fd: Fd, xdata: Xdata = None
    ) -> Iatt:
        args = (frame, parent, flags, mode, gfid, fd, xdata)
        made = (gfid, stat.S_IFREG)
        if not self.usual(parent):
            return await self._transact(Change(ENTRY, "tmpfile", args, (parent, None), made=made))
        replies, failed = await self.loop("tmpfile", args)
        if not failed:
            return self._made_open(fd, replies[0])
        change = Change(ENTRY, "tmpfile", args, (parent, None), made=made)
        return await self._conclude(change, self.members.everyone, replies, self.members.everyone, dirtied=False)

    async def mknod(
        self, frame: Frame, parent: Inode, name: bytes, mode: int, rdev: int, gfid: bytes, xdata: Xdata = None
    ) -> Iatt:
        args = (frame, parent, name, mode, rdev, gfid, xdata)
        return await self.change(Change(ENTRY, "mknod", args, (parent, name), made=(gfid, mode)))

    async def mkdir(
        self, frame: Frame, parent: Inode, name: bytes, mode: int, gfid: bytes, xdata: Xdata = None
    ) -> Iatt:
        args = (frame, parent, name, mode, gfid, xdata)
        return await self.change(Change(ENTRY, "mkdir", args, (parent, name), made=(gfid, stat.S_IFDIR)))

    async def symlink(
        self, frame: Frame, parent: Inode, name: bytes, text: bytes, gfid: bytes, xdata: Xdata = None
    ) -> Iatt:
        args = (frame, parent, name, text, gfid, xdata)
        return await self.change(Change(ENTRY, "symlink", args, (parent, name)))

    async def link(self, frame: Frame, inode: Inode, parent: Inode, name: bytes, xdata: Xdata = None) -> Iatt:
        return await self.change(
            Change(ENTRY, "link", (frame, inode, parent, name, xdata), (parent, name), gaining=inode)
        )

    async def unlink(self, frame: Frame, parent: Inode, name: bytes, inode: Inode, xdata: Xdata = None) -> None:
        known = parent.ctx[self.inode_slot]
        args = (frame, parent, name, inode, xdata)
        if known is not None and known.token is self.token and parent.gfid not in self.locks.held:
            replies, failed = await self.loop("unlink", args)
            if failed:
                change = Change(ENTRY, "unlink", args, (parent, name), losing=inode)
                await self._conclude(change, self.members.everyone, replies, self.members.everyone, dirtied=False)
            return
        await self._transact(Change(ENTRY, "unlink", args, (parent, name), losing=inode))

    async def rmdir(self, frame: Frame, parent: Inode, name: bytes, inode: Inode, xdata: Xdata = None) -> None:
        args = (frame, parent, name, inode, xdata)
        await self.change(Change(ENTRY, "rmdir", args, (parent, name), losing=inode))

    async def rename(
        self, frame: Frame, parent: Inode, name: bytes, newparent: Inode, newname: bytes, inode: Inode,
        replaced: Inode | None, flags: int, xdata: Xdata = None,
    ) -> Iatt:  # fmt: skip
        args = (frame, parent, name, newparent, newname, inode, replaced, flags, xdata)
        change = Change(ENTRY, "rename", args, (parent, name), (newparent, newname), losing=replaced)
        return await self.change(change)
