"""Several mounts of one volume: bridges on one graph that tell each other what they have changed.

Each kernel keeps its own nodes, names and references, so each mount has a `Bridge` of its own; inodes, open files' state and
what is known of removed files belong to the graph and are shared.  Before a call that changes something is answered, the other kernels
have been told that the attributes of what it touched are stale (`_tell`).  A binding that serves such a bridge sees to the rest:

    names       are not cached, so each use of a path asks for all names in it; invalidating a name would wait for a lock of the kernel
                whose holder may be waiting for us, through the other mount
    contents    are looked at again when attributes have changed; pages that are mapped are dropped a little later
    passthrough, writeback cache   would keep changes from us: off

O_APPEND cannot be left to kernels here: each knows only its own idea of where the file ends (`append`).
Not handled: an access time that a read through one mount has set shows at the other when it next asks.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio

from fusemux.fuse.bridge import Bridge, BridgeOptions
from fusemux.fuse.calls.locks import LockCalls
from fusemux.fuse.nodes import ROOT_ID, NodeTable, Place
from fusemux.graph.cluster.distribute.locks import Locks
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import DirEntry, Frame, Iatt, SetAttr

__all__ = ["Company", "LockingBridge", "SharedBridge"]

_RENAMES = b"\xff" * 16  # stands for all renames from one directory to another: only one at a time


class LockingBridge(LockCalls, Bridge):
    """The bridge of a mount whose locks the bricks keep."""

    def __init__(self, graph: Graph, *, options: BridgeOptions) -> None:
        super().__init__(graph, options=options)
        self.begin_locks()

    @property
    def flushes(self) -> bool:
        """Every close(2) may end locks."""
        return self.options.locks or super().flushes


class SharedNodeTable(NodeTable):
    """What one of several kernels knows.  `Inode.nlookup` counts the references of all."""

    def __init__(self, alone: NodeTable, company: Company) -> None:
        super().__init__(alone.itable, alone.limit)
        self._held: dict[int, int] = {}  # references of this kernel
        self._unlinked = company.unlinked
        self._linked = company.linked

    def enter(self, iatt: Iatt, parent: int, name: bytes) -> int:
        nodeid = super().enter(iatt, parent, name)
        self._held[nodeid] = self._held.get(nodeid, 0) + 1
        return nodeid

    def forget(self, nodeid: int, nlookup: int) -> None:
        inode = self.known.get(nodeid)
        if inode is None or nodeid == ROOT_ID:
            return
        held = self._held[nodeid]
        if held > nlookup:
            self._held[nodeid] = held - nlookup
            inode.nlookup -= nlookup
            return
        del self._held[nodeid]
        inode.nlookup -= held
        if inode.nlookup:
            self._unknown(nodeid, inode)
        else:
            inode.nlookup = 1
            super().forget(nodeid, 1)

    def _unknown(self, nodeid: int, inode: Inode) -> None:
        """This kernel knows it no more, another one does."""
        del self.known[nodeid]
        place = self.places.pop(nodeid, None)
        if place is not None:
            del self.names[place]
        self._aliases.pop(inode.gfid, None)
        self.removed.pop(nodeid, None)

    def _place(self, place: Place, inode: Inode, nodeid: int) -> None:
        if nodeid in self.known:
            super()._place(place, inode, nodeid)
        else:
            self.vacate(place)


class Company:
    """The bridges of one graph, and what they have in common."""

    def __init__(self) -> None:
        self.bridges: list[SharedBridge] = []
        self.unlinked: set[Inode] = set()
        self.linked: set[Inode] = set()
        self.changes = 0
        self.changing = Locks()  # of directories
        self.appending: dict[bytes, trio.Lock] = {}  # by gfid, while somebody appends and the graph may wait


class SharedBridge(LockingBridge):
    """The bridge of one of several mounts of a volume."""

    def __init__(self, graph: Graph, company: Company, *, options: BridgeOptions) -> None:
        super().__init__(graph, options=options)
        self.nodes = SharedNodeTable(self.nodes, company)
        self.nodes.on_excess = self._excess
        self.known = self.nodes.known
        self.company = company
        self.doubtful: set[int] = set()  # nodes that changed while the kernel was about to learn of them
        company.bridges.append(self)

    def close(self) -> None:
        super().close()
        if self in self.company.bridges:
            self.company.bridges.remove(self)

    # -- telling the others ----------------------------------------------------------------------------------

    def _others(self) -> Iterable[SharedBridge]:
        return (bridge for bridge in self.company.bridges if bridge is not self)

    def _tell(self, *inodes: Inode | None) -> None:
        """These have changed."""
        self.company.changes += 1
        for bridge in self._others():
            for inode in inodes:
                nodeid = bridge.nodes.find(inode) if inode is not None else None
                if nodeid is not None and bridge.on_invalidate is not None:
                    bridge.on_invalidate(nodeid)

    def _tell_name(self, parent: int, name: bytes, *inodes: Inode | None) -> None:
        """A name is another's, or nobody's, now, so its directory has changed, and these inodes."""
        directory = self.known.get(parent)
        if directory is None:
            return
        for bridge in self._others():
            known_as = bridge.nodes.find(directory)
            if known_as is not None:
                bridge.nodes.vacate((known_as, name))
        self._tell(directory, *inodes)

    def _remember(self, inode: Inode, last: Iatt | None) -> None:
        super()._remember(inode, last)
        for bridge in self._others():
            super(SharedBridge, bridge)._remember(inode, last)

    @asynccontextmanager
    async def _alone(self, *places: Place) -> AsyncIterator[None]:
        """Change these names while no other place changes anything in their directories, or in what they name.

        One kernel sees to that for its own callers, with the same locks: see directory-locking in Linux's documentation.
        """
        directories = {inode.gfid for parent, _ in places if (inode := self.known.get(parent)) is not None}
        if len(directories) > 1:
            directories.add(_RENAMES)
        named = (self.nodes.child(*place) for place in places)
        directories |= {inode.gfid for inode in named if inode is not None and stat.S_ISDIR(inode.type)}
        keys = await self.company.changing.take(*((gfid, b"") for gfid in directories))
        try:
            self._require_there(*(parent for parent, _ in places))
            yield
        finally:
            self.company.changing.give(keys)

    def _require_there(self, *directories: int) -> None:
        """One kernel knows which directories it has removed, but not which ones another has."""
        if any(nodeid in self.nodes.removed for nodeid in directories):
            raise FopError(errno.ENOENT, "the directory was removed at another place")

    # -- finding ---------------------------------------------------------------------------------------------

    async def lookup(self, frame: Frame, parent: int, name: bytes) -> tuple[int, Iatt]:
        """Who is told of a node only now was not told what has changed since the bricks were asked."""
        before = self.company.changes
        try:
            nodeid, iatt = await super().lookup(frame, parent, name)
        except FopError:
            self._require_there(parent)
            raise
        self._doubt(nodeid, before)
        return nodeid, iatt

    def _doubt(self, nodeid: int, before: int) -> None:
        """What the kernel is about to learn of the node may be out of date when anything has changed since `before`."""
        if self.company.changes != before:
            self.doubtful.add(nodeid)

    async def readdirplus(self, frame: Frame, fh: int, offset: int, count: int) -> list[DirEntry]:
        before = self.company.changes
        entries = await super().readdirplus(frame, fh, offset, count)
        if self.company.changes != before:
            return [entry._replace(iatt=None) for entry in entries]
        return entries

    def forget(self, nodeid: int, nlookup: int) -> None:
        super().forget(nodeid, nlookup)
        if nodeid not in self.known:
            self.doubtful.discard(nodeid)

    # -- names -----------------------------------------------------------------------------------------------

    async def mknod(self, frame: Frame, parent: int, name: bytes, mode: int, rdev: int) -> tuple[int, Iatt]:
        async with self._alone((parent, name)):
            made = await super().mknod(frame, parent, name, mode, rdev)
        self._tell_name(parent, name)
        return made

    async def mkdir(self, frame: Frame, parent: int, name: bytes, mode: int) -> tuple[int, Iatt]:
        async with self._alone((parent, name)):
            made = await super().mkdir(frame, parent, name, mode)
        self._tell_name(parent, name)
        return made

    async def symlink(self, frame: Frame, parent: int, name: bytes, text: bytes) -> tuple[int, Iatt]:
        async with self._alone((parent, name)):
            made = await super().symlink(frame, parent, name, text)
        self._tell_name(parent, name)
        return made

    async def link(self, frame: Frame, nodeid: int, newparent: int, newname: bytes) -> tuple[int, Iatt]:
        async with self._alone((newparent, newname)):
            before = self.company.changes
            made = await super().link(frame, nodeid, newparent, newname)
            self._doubt(made[0], before)
        self._tell_name(newparent, newname, self.known.get(nodeid))
        return made

    async def unlink(self, frame: Frame, parent: int, name: bytes) -> None:
        async with self._alone((parent, name)):
            inode = self.nodes.child(parent, name)
            await super().unlink(frame, parent, name)
        self._tell_name(parent, name, inode)

    async def rmdir(self, frame: Frame, parent: int, name: bytes) -> None:
        async with self._alone((parent, name)):
            inode = self.nodes.child(parent, name)
            await super().rmdir(frame, parent, name)
        self._tell_name(parent, name, inode)

    async def rename(self, frame: Frame, parent: int, name: bytes, newparent: int, newname: bytes, flags: int) -> None:
        async with self._alone((parent, name), (newparent, newname)):
            moved, replaced = self.nodes.child(parent, name), self.nodes.child(newparent, newname)
            await super().rename(frame, parent, name, newparent, newname, flags)
        self._tell_name(parent, name, moved)
        self._tell_name(newparent, newname, replaced)

    # -- files -----------------------------------------------------------------------------------------------

    async def create(self, frame: Frame, parent: int, name: bytes, flags: int, mode: int) -> tuple[int, Iatt, int]:
        async with self._alone((parent, name)):
            made = await super().create(frame, parent, name, flags, mode)
        self._tell_name(parent, name, self.known.get(made[0]))
        return made

    async def open(self, frame: Frame, nodeid: int, flags: int) -> int:
        fh = await super().open(frame, nodeid, flags)
        if flags & os.O_TRUNC:
            self._tell(self.known.get(nodeid))
        return fh

    async def write(self, frame: Frame, fh: int, offset: int, data: Any) -> int:
        fd = self._file(fh).fd
        try:
            return await super().write(frame, fh, offset, data)
        finally:
            self._tell(fd.inode)  # one that fails may have written a part

    async def append(self, frame: Frame, fh: int, data: Any) -> int:
        """A write(2) with O_APPEND: to the end of the file, wherever the kernel believes that to be."""
        fd = self._file(fh).fd
        try:
            return await self._append(frame, fd, data)
        finally:
            self._tell(fd.inode)

    async def _append(self, frame: Frame, fd: Fd, data: Any) -> int:
        if not self.top.suspends:
            return await self._append_now(frame, fd, data)
        appending = self.company.appending
        lock = appending.setdefault(fd.inode.gfid, trio.Lock())
        try:
            async with lock:
                return await self._append_now(frame, fd, data)
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                appending.pop(fd.inode.gfid, None)

    async def _append_now(self, frame: Frame, fd: Fd, data: Any) -> int:
        end: Iatt = await self.top.stat(frame, fd)
        count: int = await self.top.writev(frame, fd, data, end.size)
        return count

    async def fallocate(self, frame: Frame, fh: int, mode: int, offset: int, length: int) -> None:
        await super().fallocate(frame, fh, mode, offset, length)
        self._tell(self._file(fh).fd.inode)

    async def copy_file_range(
        self, frame: Frame, fh_in: int, off_in: int, fh_out: int, off_out: int, length: int, flags: int
    ) -> int:
        count = await super().copy_file_range(frame, fh_in, off_in, fh_out, off_out, length, flags)
        self._tell(self._file(fh_out).fd.inode)
        return count

    # -- attributes ------------------------------------------------------------------------------------------

    async def setattr(self, frame: Frame, nodeid: int, fh: int, size: int | None, attrs: SetAttr) -> Iatt:
        """Unlike those of other requests the kernel takes these attributes, and those of `link`, even if they changed meanwhile."""
        before = self.company.changes
        try:
            iatt = await super().setattr(frame, nodeid, fh, size, attrs)
            self._doubt(nodeid, before)
            return iatt
        finally:
            self._tell(self.known.get(nodeid))  # the size may have been set before the rest failed

    async def setxattr(self, frame: Frame, nodeid: int, name: bytes, value: bytes, flags: int) -> None:
        await super().setxattr(frame, nodeid, name, value, flags)
        self._tell(self.known.get(nodeid))

    async def removexattr(self, frame: Frame, nodeid: int, name: bytes) -> None:
        await super().removexattr(frame, nodeid, name)
        self._tell(self.known.get(nodeid))
