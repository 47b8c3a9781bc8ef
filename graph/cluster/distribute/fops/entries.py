"""Names of files: create, mknod, symlink, tmpfile, link, unlink.

A new file goes to the subvolume that its name hashes to, and that is all: one dictionary for the hash, one bisection,
one call.  What makes it more: that subvolume is filled (the file goes where most room is, a linkto file where it hashes),
another operation holds the name, or the subvolume may make us wait, so that the name must be held.

EEXIST may come from a linkto file whose data has gone.  A lookup removes such a one; then the name is tried again, once.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Awaitable, Callable
from time import monotonic

from fusemux.graph.cluster.distribute.base import GONE, internal
from fusemux.graph.cluster.distribute.directory import Directory
from fusemux.graph.cluster.distribute.fops.lookup import Lookups
from fusemux.graph.cluster.distribute.space import most_free
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["Entries"]

Make = Callable[[Edge], Awaitable[Iatt]]


class Entries(Lookups):
    async def create(
        self, frame: Frame, parent: Inode, name: bytes, flags: int, mode: int, gfid: bytes, fd: Fd, xdata: Xdata = None
    ) -> Iatt:
        directory = parent.ctx[self.inode_slot]
        if directory is None or directory.generation != self.generation:
            directory = await self.directory(frame, parent)
        forced: int | None = None
        if self.suffix in name:
            name, forced = self.forced(name)
        place = directory.layout.find(self.hash(name)) if forced is None else -1
        space = self.space
        if place >= 0 and not self.locks.held and monotonic() < space.expires and not space.filled[place]:
            edge = self.children[place]
            if not edge.suspends:
                try:
                    iatt: Iatt = await edge.create(frame, parent, name, flags, mode, gfid, fd, xdata)
                except FopError as error:
                    if error.errno not in (errno.EEXIST, errno.ENOSPC):
                        raise
                else:
                    fd.inode.ctx[self.inode_slot] = edge
                    return iatt

        def make(edge: Edge) -> Awaitable[Iatt]:
            return edge.create(frame, parent, name, flags, mode, gfid, fd, xdata)

        iatt, edge = await self._make_carefully(frame, parent, directory, name, gfid, make, forced)
        fd.inode.ctx[self.inode_slot] = edge
        return iatt

    async def mknod(
        self, frame: Frame, parent: Inode, name: bytes, mode: int, rdev: int, gfid: bytes, xdata: Xdata = None
    ) -> Iatt:
        directory = await self.directory(frame, parent)
        name, forced = self.forced(name)

        def make(edge: Edge) -> Awaitable[Iatt]:
            return edge.mknod(frame, parent, name, mode, rdev, gfid, xdata)

        iatt, edge = await self._make_carefully(frame, parent, directory, name, gfid, make, forced)
        self.place_file(gfid, iatt.mode, edge)
        return iatt

    async def symlink(
        self, frame: Frame, parent: Inode, name: bytes, text: bytes, gfid: bytes, xdata: Xdata = None
    ) -> Iatt:
        directory = await self.directory(frame, parent)
        iatt, edge = await self._make_carefully(
            frame, parent, directory, name, gfid, lambda edge: edge.symlink(frame, parent, name, text, gfid, xdata)
        )
        self.place_file(gfid, iatt.mode, edge)
        return iatt

    async def tmpfile(
        self, frame: Frame, parent: Inode, flags: int, mode: int, gfid: bytes, fd: Fd, xdata: Xdata = None
    ) -> Iatt:
        """It has no name yet, so its gfid is hashed instead; a name that it gets later points to it."""
        directory = await self.directory(frame, parent)
        space = await self.know_space(frame)
        place = directory.layout.find(self.hash_once(gfid.hex().encode()))
        if place < 0 or not self.up[place] or space.filled[place]:
            place = self._roomiest(directory, place)
        edge = self.children[place]
        iatt: Iatt = await edge.tmpfile(frame, parent, flags, mode, gfid, fd, xdata)
        fd.inode.ctx[self.inode_slot] = edge
        return iatt

    # -- making with care ------------------------------------------------------------------------------------

    async def _make_carefully(
        self,
        frame: Frame,
        parent: Inode,
        directory: Directory,
        name: bytes,
        gfid: bytes,
        make: Make,
        forced: int | None = None,
    ) -> tuple[Iatt, Edge]:
        """Make a file called `name`, where it hashes, where there is room, or on `forced`; returns it and where it is."""
        await self.know_space(frame)
        hashed = self.hashed(directory, name)
        for attempt in range(2):
            keys = await self.locks.take((parent.gfid, name))
            try:
                if forced is not None and forced != hashed:
                    return await self._make_elsewhere(frame, parent, name, gfid, hashed, forced, make)
                if forced is None and self.space.filled[hashed]:
                    return await self._make_where_room_is(frame, parent, directory, name, gfid, hashed, make)
                return await self._make_at_home(frame, parent, directory, name, gfid, hashed, make)
            except FopError as error:
                if attempt or error.errno != errno.EEXIST:
                    raise
            finally:
                self.locks.give(keys)
            await self._need_absent(frame, parent, name)
        raise AssertionError("the second attempt returns or raises")

    async def _make_at_home(
        self, frame: Frame, parent: Inode, directory: Directory, name: bytes, gfid: bytes, hashed: int, make: Make
    ) -> tuple[Iatt, Edge]:
        edge = self.children[hashed]
        try:
            return await make(edge), edge
        except FopError as error:
            if error.errno != errno.ENOSPC:
                raise
        self.space.forget()  # it has filled up since
        await self.know_space(frame)
        return await self._make_where_room_is(frame, parent, directory, name, gfid, hashed, make)

    async def _make_where_room_is(
        self, frame: Frame, parent: Inode, directory: Directory, name: bytes, gfid: bytes, hashed: int, make: Make
    ) -> tuple[Iatt, Edge]:
        place = self._roomiest(directory, hashed)
        if place == hashed:
            return await make(self.children[hashed]), self.children[hashed]
        return await self._make_elsewhere(frame, parent, name, gfid, hashed, place, make)

    async def _make_elsewhere(
        self, frame: Frame, parent: Inode, name: bytes, gfid: bytes, hashed: int, place: int, make: Make
    ) -> tuple[Iatt, Edge]:
        """A linkto file where the name hashes, the file on `place`."""
        if await self.see(frame, hashed, parent, name) is not None:
            raise FopError(errno.EEXIST)
        await self.make_linkto(frame, hashed, parent, name, gfid, place, owner=self._owner(frame))
        edge = self.children[place]
        try:
            return await make(edge), edge
        except BaseException:
            await self.remove_linkto(frame, hashed, parent, name, gfid)
            raise

    def _owner(self, frame: Frame) -> Iatt:
        """Who will own what `frame` makes, as far as linkto files care."""
        return Iatt(b"", 0, 0, frame.uid, frame.gid, 0, 0, 0, 0, 0, 0, 0)

    def _roomiest(self, directory: Directory, hashed: int) -> int:
        """Where a file goes that cannot go where it hashes: the subvolume of the layout with most room."""
        leaving = self.opt.decommissioned_bricks or ()
        usable = [
            e.place for e in directory.layout.extents
            if e.shares and self.up[e.place] and self.names[e.place] not in leaving
        ]  # fmt: skip
        best = most_free(self.space.stats, usable, self.limits)
        if best is not None:
            return best
        if hashed < 0:
            raise FopError(errno.ENOSPC, f"no subvolume of {self.name} has room")
        return hashed

    async def _need_absent(self, frame: Frame, parent: Inode, name: bytes) -> None:
        """Raise EEXIST unless what has the name is only a linkto file that leads nowhere, which is removed."""
        try:
            await self.lookup(internal(frame), parent, name)
        except FopError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        raise FopError(errno.EEXIST)

    # -- more names, fewer names -----------------------------------------------------------------------------

    async def link(self, frame: Frame, inode: Inode, parent: Inode, name: bytes, xdata: Xdata = None) -> Iatt:
        directory = await self.directory(frame, parent)
        cached = await self.file(frame, inode)
        hashed = self.hashed(directory, name)
        for attempt in range(2):
            keys = await self.locks.take((parent.gfid, name))
            try:
                if hashed == cached.index:
                    iatt: Iatt = await cached.link(frame, inode, parent, name, xdata)
                    return iatt
                return await self._link_elsewhere(frame, inode, parent, name, hashed, cached, xdata)
            except FopError as error:
                if attempt or error.errno != errno.EEXIST:
                    raise
            finally:
                self.locks.give(keys)
            await self._need_absent(frame, parent, name)
        raise AssertionError("the second attempt returns or raises")

    async def _link_elsewhere(
        self, frame: Frame, inode: Inode, parent: Inode, name: bytes, hashed: int, cached: Edge, xdata: Xdata
    ) -> Iatt:
        """The linkto file first: once the hard link is there the name can be seen in listings."""
        if await self.see(frame, hashed, parent, name) is not None:
            raise FopError(errno.EEXIST)
        owner: Iatt = await cached.stat(internal(frame), inode)
        await self.make_linkto(frame, hashed, parent, name, inode.gfid, cached.index, owner)
        try:
            iatt: Iatt = await cached.link(frame, inode, parent, name, xdata)
        except BaseException:
            await self.remove_linkto(frame, hashed, parent, name, inode.gfid)
            raise
        return iatt

    async def unlink(self, frame: Frame, parent: Inode, name: bytes, inode: Inode, xdata: Xdata = None) -> None:
        directory = parent.ctx[self.inode_slot]
        if directory is None or directory.generation != self.generation:
            directory = await self.directory(frame, parent)
        if self.suffix in name:
            name, _ = self.forced(name)
        place = directory.layout.find(self.hash(name))
        cached = inode.ctx[self.inode_slot]
        if cached is not None and cached is self.children[place] and not self.locks.held and not cached.suspends:
            await cached.unlink(frame, parent, name, inode, xdata)
            return
        keys = await self.locks.take((parent.gfid, name))
        try:
            await self._unlink_anywhere(frame, parent, name, inode, place, xdata)
        finally:
            self.locks.give(keys)

    async def _unlink_anywhere(
        self, frame: Frame, parent: Inode, name: bytes, inode: Inode, hashed: int, xdata: Xdata
    ) -> None:
        """The linkto file first: without the data it would be stale, without it the data is only harder to find."""
        cached = await self.file(frame, inode)
        if hashed >= 0 and hashed != cached.index:
            there = await self.see(frame, hashed, parent, name)
            if there is not None and there.gfid == inode.gfid and self.target_of(there) is not None:
                await self.remove_linkto(frame, hashed, parent, name, there.gfid)
        try:
            await cached.unlink(frame, parent, name, inode, xdata)
        except FopError as error:
            if error.errno not in GONE:
                raise
            await self._unlink_moved(frame, parent, name, inode, cached, error)

    async def _unlink_moved(
        self, frame: Frame, parent: Inode, name: bytes, inode: Inode, cached: Edge, error: FopError
    ) -> None:
        """The data is not where it was known to be: look for it once."""
        iatt = await self.resolve(frame, inode)
        moved = await self.file(frame, inode)
        if moved is cached or stat.S_ISDIR(iatt.mode):
            raise error
        await moved.unlink(frame, parent, name, inode)
