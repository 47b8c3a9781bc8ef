"""A whole file system in memory, as the one translator of a graph: the bridge's other side without bricks.

Files that were unlinked are found only through who has them open, as on bricks.  `calls` counts the fops.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Mapping
from itertools import count
from typing import Any

from fusemux.graph.framework import registry
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import ROOT_GFID, DirEntry, Frame, Iatt, SetAttr, StatVfs, ino_of
from fusemux.graph.framework.volfile import Section

_clock = count(1_700_000_000_000_000_000, 1001)


class Thing:
    """A file, directory, link or device."""

    def __init__(self, gfid: bytes, mode: int, frame: Frame, parent: Thing | None = None) -> None:
        self.gfid = gfid
        self.mode = mode
        self.uid = frame.uid
        self.gid = frame.gid
        if parent is not None and parent.mode & stat.S_ISGID:
            self.gid = parent.gid
            if stat.S_ISDIR(mode):
                self.mode |= stat.S_ISGID
        self.nlink = 2 if stat.S_ISDIR(mode) else 1
        self.rdev = 0
        self.data = bytearray()
        self.entries: dict[bytes, tuple[Thing, int]] = {}  # name -> thing, place
        self.places = count(3)
        self.xattrs: dict[bytes, bytes] = {}
        self.atime = self.mtime = self.ctime = next(_clock)

    def iatt(self) -> Iatt:
        size = len(self.data) if not stat.S_ISDIR(self.mode) else 4096
        return Iatt(
            self.gfid, self.mode, self.nlink, self.uid, self.gid, self.rdev, size, (size + 511) // 512, 4096,
            self.atime, self.mtime, self.ctime,
        )  # fmt: skip

    def changed(self) -> None:
        self.mtime = self.ctime = next(_clock)


class Memory(Translator):
    type = "test/memory"
    children_min = children_max = 0
    fd_slots = 1
    repeats = True

    def __init__(self, name: str, given: Mapping[str, str], process: Process) -> None:
        super().__init__(name, given, process)
        self.root = Thing(ROOT_GFID, stat.S_IFDIR | 0o755, Frame())
        self.things: dict[bytes, Thing] = {ROOT_GFID: self.root}
        self.calls: Counter[str] = Counter()

    @property
    def suspends(self) -> bool:
        return False

    def _thing(self, fop: str, target: Inode | Fd) -> Thing:
        self.calls[fop] += 1
        if isinstance(target, Fd):
            thing: Thing | None = target.ctx[self.fd_slot]
        else:
            thing = self.things.get(target.gfid)
        if thing is None:
            raise FopError(errno.ESTALE, "no such gfid")
        return thing

    def _child(self, directory: Thing, name: bytes) -> Thing:
        try:
            return directory.entries[name][0]
        except KeyError:
            raise FopError(errno.ENOENT) from None

    # -- reading ---------------------------------------------------------------------------------------------

    async def lookup(self, frame: Frame, inode: Inode, name: bytes, xdata: Any = None) -> Iatt:
        thing = self._thing("lookup", inode)
        return (self._child(thing, name) if name else thing).iatt()

    async def stat(self, frame: Frame, target: Inode | Fd, xdata: Any = None) -> Iatt:
        return self._thing("stat", target).iatt()

    async def readlink(self, frame: Frame, inode: Inode, xdata: Any = None) -> bytes:
        return bytes(self._thing("readlink", inode).data)

    async def readv(self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Any = None) -> bytes:
        return bytes(self._thing("readv", fd).data[offset : offset + size])

    async def readdir(
        self, frame: Frame, fd: Fd, count: int, offset: int, plus: bool, xdata: Any = None
    ) -> list[DirEntry]:
        thing = self._thing("readdir", fd)
        found: list[DirEntry] = []
        for name, (child, place) in thing.entries.items():
            if place > offset and len(found) < count:
                kind = stat.S_IFMT(child.mode)
                found.append(DirEntry(name, place, ino_of(child.gfid), kind, child.iatt() if plus else None))
        return found

    async def statfs(self, frame: Frame, inode: Inode, xdata: Any = None) -> StatVfs:
        self._thing("statfs", inode)
        return StatVfs(4096, 4096, 1000, 600, 500, 10000, 10000 - len(self.things), 10000 - len(self.things))

    async def seek(self, frame: Frame, fd: Fd, offset: int, whence: int, xdata: Any = None) -> int:
        size = len(self._thing("seek", fd).data)
        if offset >= size:
            raise FopError(errno.ENXIO)
        return offset if whence == os.SEEK_DATA else size

    # -- open files ------------------------------------------------------------------------------------------

    async def open(self, frame: Frame, inode: Inode, flags: int, fd: Fd, xdata: Any = None) -> None:
        fd.ctx[self.fd_slot] = self._thing("open", inode)

    async def opendir(self, frame: Frame, inode: Inode, fd: Fd, xdata: Any = None) -> None:
        fd.ctx[self.fd_slot] = self._thing("opendir", inode)

    async def flush(self, frame: Frame, fd: Fd, xdata: Any = None) -> None:
        self._thing("flush", fd)

    async def release(self, frame: Frame, fd: Fd, xdata: Any = None) -> None:
        self._thing("release", fd)
        fd.ctx[self.fd_slot] = None

    async def fsync(self, frame: Frame, fd: Fd, datasync: bool, xdata: Any = None) -> None:
        self._thing("fsync", fd)

    async def syncfs(self, frame: Frame, inode: Inode, xdata: Any = None) -> None:
        self._thing("syncfs", inode)

    # -- names -----------------------------------------------------------------------------------------------

    def _make(self, fop: str, frame: Frame, parent: Inode, name: bytes, mode: int, gfid: bytes) -> Thing:
        directory = self._thing(fop, parent)
        if name in directory.entries:
            raise FopError(errno.EEXIST)
        thing = self.things[gfid] = Thing(gfid, mode, frame, directory)
        self._enter(directory, name, thing)
        return thing

    def _enter(self, directory: Thing, name: bytes, thing: Thing) -> None:
        directory.entries[name] = (thing, next(directory.places))
        directory.nlink += stat.S_ISDIR(thing.mode)
        directory.changed()

    async def create(
        self, frame: Frame, parent: Inode, name: bytes, flags: int, mode: int, gfid: bytes, fd: Fd, xdata: Any = None
    ) -> Iatt:
        thing = self._make("create", frame, parent, name, stat.S_IFREG | mode, gfid)
        fd.ctx[self.fd_slot] = thing
        return thing.iatt()

    async def tmpfile(
        self, frame: Frame, parent: Inode, flags: int, mode: int, gfid: bytes, fd: Fd, xdata: Any = None
    ) -> Iatt:
        thing = Thing(gfid, stat.S_IFREG | mode, frame, self._thing("tmpfile", parent))
        thing.nlink = 0
        fd.ctx[self.fd_slot] = thing
        return thing.iatt()

    async def mknod(
        self, frame: Frame, parent: Inode, name: bytes, mode: int, rdev: int, gfid: bytes, xdata: Any = None
    ) -> Iatt:
        thing = self._make("mknod", frame, parent, name, mode, gfid)
        thing.rdev = rdev
        return thing.iatt()

    async def mkdir(self, frame: Frame, parent: Inode, name: bytes, mode: int, gfid: bytes, xdata: Any = None) -> Iatt:
        return self._make("mkdir", frame, parent, name, stat.S_IFDIR | mode, gfid).iatt()

    async def symlink(
        self, frame: Frame, parent: Inode, name: bytes, text: bytes, gfid: bytes, xdata: Any = None
    ) -> Iatt:
        thing = self._make("symlink", frame, parent, name, stat.S_IFLNK | 0o777, gfid)
        thing.data += text
        return thing.iatt()

    async def link(self, frame: Frame, inode: Inode, parent: Inode, name: bytes, xdata: Any = None) -> Iatt:
        thing, directory = self._thing("link", inode), self._thing("link", parent)
        if name in directory.entries:
            raise FopError(errno.EEXIST)
        self._enter(directory, name, thing)
        thing.nlink += 1
        thing.ctime = next(_clock)
        return thing.iatt()

    def _drop(self, directory: Thing, name: bytes, thing: Thing) -> None:
        del directory.entries[name]
        directory.changed()
        if stat.S_ISDIR(thing.mode):
            directory.nlink -= 1
            thing.nlink = 0
        else:
            thing.nlink -= 1
        thing.ctime = next(_clock)
        if not thing.nlink:
            del self.things[thing.gfid]

    async def unlink(self, frame: Frame, parent: Inode, name: bytes, inode: Inode, xdata: Any = None) -> None:
        directory = self._thing("unlink", parent)
        thing = self._child(directory, name)
        assert thing.gfid == inode.gfid, "the caller names the wrong inode"
        self._drop(directory, name, thing)

    async def rmdir(self, frame: Frame, parent: Inode, name: bytes, inode: Inode, xdata: Any = None) -> None:
        directory = self._thing("rmdir", parent)
        thing = self._child(directory, name)
        assert thing.gfid == inode.gfid, "the caller names the wrong inode"
        if thing.entries:
            raise FopError(errno.ENOTEMPTY)
        self._drop(directory, name, thing)

    async def rename(
        self, frame: Frame, parent: Inode, name: bytes, newparent: Inode, newname: bytes, inode: Inode,
        replaced: Inode | None, flags: int, xdata: Any = None,
    ) -> Iatt:  # fmt: skip
        old, new = self._thing("rename", parent), self._thing("rename", newparent)
        thing = self._child(old, name)
        there = new.entries[newname][0] if newname in new.entries else None
        assert thing.gfid == inode.gfid, "the caller names the wrong inode"
        assert (there.gfid if there else None) == (replaced.gfid if replaced else None), "the wrong inode is replaced"
        if there is not None and flags == 1:
            raise FopError(errno.EEXIST)
        if there is not None and flags == 2:
            old.entries[name] = (there, old.entries[name][1])
            new.entries[newname] = (thing, new.entries[newname][1])
            return thing.iatt()
        if there is thing:
            return thing.iatt()
        if there is not None:
            if there.entries:
                raise FopError(errno.ENOTEMPTY)
            self._drop(new, newname, there)
        del old.entries[name]
        old.nlink -= stat.S_ISDIR(thing.mode)
        old.changed()
        self._enter(new, newname, thing)
        thing.ctime = next(_clock)
        return thing.iatt()

    # -- contents and attributes -----------------------------------------------------------------------------

    async def writev(self, frame: Frame, fd: Fd, data: bytes, offset: int, xdata: Any = None) -> int:
        thing = self._thing("writev", fd)
        if len(thing.data) < offset:
            thing.data.extend(bytes(offset - len(thing.data)))
        thing.data[offset : offset + len(data)] = data
        thing.changed()
        return len(data)

    async def truncate(self, frame: Frame, target: Inode | Fd, size: int, xdata: Any = None) -> Iatt:
        thing = self._thing("truncate", target)
        del thing.data[size:]
        thing.data.extend(bytes(size - len(thing.data)))
        thing.changed()
        return thing.iatt()

    async def fallocate(self, frame: Frame, fd: Fd, mode: int, offset: int, length: int, xdata: Any = None) -> Iatt:
        thing = self._thing("fallocate", fd)
        if mode:
            raise FopError(errno.EOPNOTSUPP)
        thing.data.extend(bytes(max(0, offset + length - len(thing.data))))
        return thing.iatt()

    async def copy_file_range(
        self, frame: Frame, fd: Fd, offset: int, fd_out: Fd, offset_out: int, length: int, flags: int, xdata: Any = None
    ) -> int:
        return await self.writev(frame, fd_out, await self.readv(frame, fd, length, offset), offset_out)

    async def setattr(self, frame: Frame, target: Inode | Fd, attrs: SetAttr, xdata: Any = None) -> Iatt:
        thing = self._thing("setattr", target)
        if attrs.mode is not None:
            thing.mode = stat.S_IFMT(thing.mode) | attrs.mode
        thing.uid = thing.uid if attrs.uid is None else attrs.uid
        thing.gid = thing.gid if attrs.gid is None else attrs.gid
        thing.atime = thing.atime if attrs.atime_ns is None else attrs.atime_ns
        thing.mtime = thing.mtime if attrs.mtime_ns is None else attrs.mtime_ns
        thing.ctime = next(_clock) if attrs.ctime_ns is None else attrs.ctime_ns
        return thing.iatt()

    # -- extended attributes ---------------------------------------------------------------------------------

    async def setxattr(
        self, frame: Frame, target: Inode | Fd, xattrs: Mapping[bytes, bytes], flags: int, xdata: Any = None
    ) -> None:
        thing = self._thing("setxattr", target)
        for name in xattrs:
            if name.startswith(b"system."):
                raise FopError(errno.EOPNOTSUPP)
            if flags == os.XATTR_CREATE and name in thing.xattrs:
                raise FopError(errno.EEXIST)
            if flags == os.XATTR_REPLACE and name not in thing.xattrs:
                raise FopError(errno.ENODATA)
        thing.xattrs.update(xattrs)

    async def getxattr(
        self, frame: Frame, target: Inode | Fd, name: bytes | None, xdata: Any = None
    ) -> Mapping[bytes, bytes]:
        thing = self._thing("getxattr", target)
        stored = {b"trusted.gfid": thing.gfid, **thing.xattrs}
        if name is None:
            return stored
        if name not in stored:
            raise FopError(errno.ENODATA)
        return {name: stored[name]}

    async def removexattr(self, frame: Frame, target: Inode | Fd, name: bytes, xdata: Any = None) -> None:
        if self._thing("removexattr", target).xattrs.pop(name, None) is None:
            raise FopError(errno.ENODATA)


registry._cache[Memory.type] = Memory  # what a package's entry point would do


async def memory_graph(process: Process, name: str = "memory") -> Graph:
    """A started graph of one `Memory`; `graph.top.translator` is it."""
    graph = Graph([Section(name, Memory.type)], process)
    await graph.start()
    return graph
