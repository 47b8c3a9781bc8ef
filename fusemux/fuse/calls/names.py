"""Calls on names: looking up, making, linking, renaming, removing.

The kernel checks permissions and most of POSIX's conditions (types, sticky bits, loops) before it asks.  What it lets
through and must not: names of more than 255 bytes.
"""

from __future__ import annotations

import errno
import logging
import stat

import trio

from fusemux.fuse.calls.recall import ADDRESS, NAMES_MAX
from fusemux.fuse.calls.state import NAME_MAX, BridgeState, unknown_node
from fusemux.fuse.nodes import ROOT_ID
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.gfids import gfid_of
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import EVERY_NAME, Frame, Iatt, gfid_text

__all__ = ["NameCalls"]

log = logging.getLogger("fusemux.fuse")

_GFID_REQ = (
    b"gfid-req"  # in a lookup's xdata: a gfid for what has none, because it was made on the bricks or a crash came
)
_PATH = b"glusterfs.ancestry.path"
_EVERYTHING = {EVERY_NAME: b""}
_BATCH = 512
_RENAME_FLAGS = (0, 1, 2)  # RENAME_NOREPLACE, RENAME_EXCHANGE


class NameCalls(BridgeState):
    def _parent(self, nodeid: int, name: bytes) -> Inode:
        """The directory that `name` is in, or shall be in."""
        if len(name) > NAME_MAX:
            raise FopError(errno.ENAMETOOLONG)
        try:
            return self.known[nodeid]
        except KeyError:
            raise unknown_node(nodeid) from None

    async def _child(self, frame: Frame, directory: Inode, parent: int, name: bytes) -> Inode:
        """The inode of a name.  The kernel has nearly always looked it up before."""
        inode = self.nodes.child(parent, name)
        if inode is not None:
            return inode
        iatt = await self.top.lookup(frame, directory, name)
        return self.itable.learn(iatt.gfid, stat.S_IFMT(iatt.mode))

    # -- finding ---------------------------------------------------------------------------------------------

    def lacks(self, parent: int, name: bytes) -> bool:
        """Whether it is known, without asking, that a lookup of this name answers ENOENT."""
        directory = self.known.get(parent)
        if directory is None or not self.recall.lacks(directory.gfid, name):
            return False
        special = name == b"." or name == b".." or ADDRESS in name
        return not special and len(name) <= NAME_MAX

    async def lookup(self, frame: Frame, parent: int, name: bytes) -> tuple[int, Iatt]:
        """Node id and attributes; the kernel holds one reference more.  ENOENT is raised."""
        if name == b"." or name == b"..":
            return await self._lookup_dots(frame, parent, name)
        directory = self._parent(parent, name)
        if self.lacks(parent, name):
            raise FopError(errno.ENOENT)
        try:
            iatt = await self.top.lookup(frame, directory, name)
        except FopError as error:
            if error.errno == errno.ENOENT:
                self.nodes.vacate((parent, name))
                if self.recall.in_vain(directory.gfid):
                    await self._read_names(directory)
            if error.errno != errno.ENODATA:
                raise
            iatt = await self.top.lookup(frame, directory, name, {_GFID_REQ: self.graph.process.new_gfid()})
        return self.nodes.enter(iatt, parent, name), iatt

    async def _read_names(self, directory: Inode) -> None:
        """All names of a directory, to be remembered, unless they are very many.

        The lookup that it is done for may be interrupted: what was opened then is closed nevertheless.
        """
        changes = self.recall.changes
        names = None
        fd = self.itable.fd(directory, 0)
        try:
            with trio.CancelScope(shield=True):
                await self.top.opendir(Frame(), directory, fd)
            try:
                names = await self._names_in(fd)
            finally:
                with trio.CancelScope(shield=True):
                    await self.top.release(Frame(), fd)
        except FopError as error:
            log.debug("the names in %s cannot be read: %s", gfid_text(directory.gfid), error)
        finally:
            self.nodes.closed(fd)
        self.recall.know(directory.gfid, names, changes)

    async def _names_in(self, fd: Fd) -> set[bytes] | None:
        """None when they are more than are remembered."""
        names: set[bytes] = set()
        offset = 0
        while len(names) <= NAMES_MAX:
            entries = await self.top.readdir(Frame(), fd, _BATCH, offset, False, _EVERYTHING)
            if not entries:
                return names
            names.update(entry.name for entry in entries)
            offset = entries[-1].offset
        return None

    async def _lookup_dots(self, frame: Frame, nodeid: int, name: bytes) -> tuple[int, Iatt]:
        """Those who come with a file handle (open_by_handle_at, NFS) ask for the node itself, and for a directory's parent.

        The kernel may have forgotten the node, or this process may never have known it: then its number must lead to it.
        """
        if name == b".." and nodeid != ROOT_ID:
            iatt = await self._parent_of(frame, nodeid)
        elif nodeid in self.known:
            iatt = await self._on(nodeid, "stat", frame)
        else:
            _, iatt = await self._found_by_number(frame, nodeid)
        return self.nodes.enter(iatt, 0, b""), iatt

    async def _parent_of(self, frame: Frame, nodeid: int) -> Iatt:
        place = self.nodes.places.get(nodeid)
        if place is not None and place[0] in self.known:  # the kernel may have forgotten the parent before its child
            known: Iatt = await self._on(place[0], "stat", frame)
            return known
        inode = self.known.get(nodeid)
        if inode is None:
            inode, _ = await self._found_by_number(frame, nodeid)
        try:
            path = bytes((await self.top.getxattr(frame, inode, _PATH))[_PATH])
        except (FopError, KeyError):
            raise FopError(errno.ESTALE, f"the parent of node {nodeid:#x} cannot be found") from None
        above = self.itable.root
        iatt: Iatt = await self.top.stat(frame, above)
        for name in path.split(b"/")[1:-1]:
            iatt = await self.top.lookup(frame, above, name)
            above = self.itable.learn(iatt.gfid, stat.S_IFMT(iatt.mode))
        return iatt

    async def _found_by_number(self, frame: Frame, nodeid: int) -> tuple[Inode, Iatt]:
        """What has the inode number `nodeid`.  Raises ESTALE."""
        gfid = gfid_of(nodeid)
        if gfid is None:
            raise unknown_node(nodeid)
        inode = self.itable.learn(gfid, 0)
        try:
            iatt: Iatt = await self.top.lookup(frame, inode, b"")
        except FopError as error:
            self.itable.discard(inode)
            raise unknown_node(nodeid) if error.errno == errno.ENOENT else error from None
        inode.type = stat.S_IFMT(iatt.mode)
        return inode, iatt

    def forget(self, nodeid: int, nlookup: int) -> None:
        """The kernel drops `nlookup` of its references."""
        self.nodes.forget(nodeid, nlookup)

    # -- making ----------------------------------------------------------------------------------------------

    async def mknod(self, frame: Frame, parent: int, name: bytes, mode: int, rdev: int) -> tuple[int, Iatt]:
        directory = self._parent(parent, name)
        try:
            iatt = await self.top.mknod(frame, directory, name, mode, rdev, self.graph.process.new_gfid())
        except BaseException:
            self.recall.forget(directory.gfid)
            raise
        self.recall.came(directory.gfid, name, frame.time_ns)
        return self.nodes.enter(iatt, parent, name), iatt

    async def mkdir(self, frame: Frame, parent: int, name: bytes, mode: int) -> tuple[int, Iatt]:
        directory = self._parent(parent, name)
        try:
            iatt = await self.top.mkdir(frame, directory, name, mode & 0o7777, self.graph.process.new_gfid())
        except BaseException:
            self.recall.forget(directory.gfid)
            raise
        self.recall.directory_came(directory.gfid, name, made=iatt.gfid)
        return self.nodes.enter(iatt, parent, name), iatt

    async def symlink(self, frame: Frame, parent: int, name: bytes, text: bytes) -> tuple[int, Iatt]:
        directory = self._parent(parent, name)
        try:
            iatt = await self.top.symlink(frame, directory, name, text, self.graph.process.new_gfid())
        except BaseException:
            self.recall.forget(directory.gfid)
            raise
        self.recall.came(directory.gfid, name, frame.time_ns)
        return self.nodes.enter(iatt, parent, name), iatt

    async def link(self, frame: Frame, nodeid: int, newparent: int, newname: bytes) -> tuple[int, Iatt]:
        directory = self._parent(newparent, newname)
        try:
            iatt = await self.top.link(frame, self._inode(nodeid), directory, newname)
        except BaseException:
            self.recall.forget(directory.gfid)
            raise
        self.recall.came(directory.gfid, newname, frame.time_ns)
        return self.nodes.enter(iatt, newparent, newname), iatt

    # -- removing and moving ---------------------------------------------------------------------------------

    async def unlink(self, frame: Frame, parent: int, name: bytes) -> None:
        directory = self._parent(parent, name)
        inode = await self._child(frame, directory, parent, name)
        last = None if stat.S_ISREG(inode.type) else await self._last_sight(frame, inode)
        try:
            await self.top.unlink(frame, directory, name, inode)
        except BaseException:
            self.recall.forget(directory.gfid)
            raise
        self.recall.went(directory.gfid, name, frame.time_ns)
        self.nodes.unnamed((parent, name), inode)
        if last is not None:
            self._remember(inode, last)

    async def rmdir(self, frame: Frame, parent: int, name: bytes) -> None:
        directory = self._parent(parent, name)
        inode = await self._child(frame, directory, parent, name)
        last = await self._last_sight(frame, inode)
        try:
            await self.top.rmdir(frame, directory, name, inode)
        except BaseException:
            self.recall.forget(directory.gfid, inode.gfid)
            raise
        self.recall.forget(inode.gfid)
        self.recall.directory_went(directory.gfid, name)
        self.nodes.unnamed((parent, name), inode)
        self._remember(inode, last)

    async def rename(self, frame: Frame, parent: int, name: bytes, newparent: int, newname: bytes, flags: int) -> None:
        if flags not in _RENAME_FLAGS:
            raise FopError(errno.EINVAL, f"unknown flags {flags:#x}")
        directory, newdirectory = self._parent(parent, name), self._parent(newparent, newname)
        inode = await self._child(frame, directory, parent, name)
        try:
            replaced: Inode | None = await self._child(frame, newdirectory, newparent, newname)
        except FopError as error:
            if error.errno != errno.ENOENT:
                raise
            replaced = None
        last = None if replaced is None or flags else await self._last_sight(frame, replaced)
        changed = [node.gfid for node in (directory, newdirectory, inode, replaced) if node is not None]
        try:
            await self.top.rename(frame, directory, name, newdirectory, newname, inode, replaced, flags)
        except BaseException:
            self.recall.forget(*changed)
            raise
        self.recall.look_again(*changed)
        if flags == 2 and replaced is not None:
            self.nodes.exchanged((parent, name), (newparent, newname), inode, replaced)
        elif replaced is not inode:
            self.recall.directory_went(directory.gfid, name)
            self.recall.directory_came(newdirectory.gfid, newname)
            self.nodes.moved((parent, name), (newparent, newname), inode, replaced)
            if replaced is not None:
                self.recall.forget(replaced.gfid)
                self._remember(replaced, last)

    async def _last_sight(self, frame: Frame, inode: Inode) -> Iatt | None:
        """The attributes of what is about to go while the kernel refers to it; None for files, which are kept while open.

        Of who is in a directory, or holds a fifo, nobody tells us.
        """
        if not inode.nlookup or stat.S_ISREG(inode.type):
            return None
        try:
            iatt: Iatt = await self.top.stat(frame, inode)
        except FopError:
            return None
        return iatt if iatt.nlink < 2 or stat.S_ISDIR(iatt.mode) else None

    def _remember(self, inode: Inode, last: Iatt | None) -> None:
        """A removed directory may still be somebody's working directory, and answers with what it was."""
        nodeid = self.nodes.find(inode)
        if last is not None and nodeid is not None:
            self.nodes.removed[nodeid] = last._replace(nlink=0)
