"""A bridge over a file system in memory: the other end for tests of the kernel channel, with nothing else behind it."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Any

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import DirEntry, Frame, Iatt, SetAttr, StatVfs


class Node:
    def __init__(self, number: int, mode: int, uid: int, gid: int, rdev: int = 0) -> None:
        self.number = number
        self.gfid = number.to_bytes(16, "big")
        self.mode, self.uid, self.gid, self.rdev = mode, uid, gid, rdev
        self.nlink = 2 if stat.S_ISDIR(mode) else 1
        self.data = bytearray()
        self.text = b""
        self.names: dict[bytes, Node] = {}
        self.offsets: dict[bytes, int] = {}
        self.parent: Node = self
        self.xattrs: dict[bytes, bytes] = {}
        self.atime = self.mtime = self.ctime = time.time_ns()
        self.nlookup = self.nopen = 0

    def iatt(self) -> Iatt:
        size = len(self.data) or len(self.text)
        return Iatt(
            self.gfid, self.mode, self.nlink, self.uid, self.gid, self.rdev, size, -(-size // 512), 4096,
            self.atime, self.mtime, self.ctime,
        )  # fmt: skip

    def touch(self) -> None:
        self.mtime = self.ctime = time.time_ns()


class MemoryBridge:
    """All methods of fusemux.fuse.bridge.Bridge.  `before` is awaited at the start of every call that is named in it."""

    def __init__(self) -> None:
        self.root = Node(1, stat.S_IFDIR | 0o755, 0, 0)
        self.nodes = {1: self.root}
        self.handles: dict[int, Node] = {}
        self.access: dict[int, int] = {}  # of handles
        self.last_node = 1
        self.last_handle = 0
        self.last_offset = 2
        self.calls: list[str] = []
        self.record = False
        self.flushes = True
        self.passes = False
        self.waits = False
        self.before: dict[str, Callable[..., Any]] = {}
        self.on_invalidate: Callable[[int], None] | None = None
        self.on_invalidate_entry: Callable[[int, bytes], None] | None = None

    async def _enter(self, what: str, *args: Any) -> None:
        if self.record:
            self.calls.append(what)
        hook = self.before.get(what)
        if hook is not None:
            await hook(*args)

    def lacks(self, parent: int, name: bytes) -> bool:
        return False

    def recalled(self, nodeid: int) -> Iatt | None:
        return None

    def _node(self, nodeid: int) -> Node:
        node = self.nodes.get(nodeid)
        if node is None:
            raise FopError(errno.ESTALE, f"node {nodeid}")
        return node

    def _handle(self, fh: int) -> Node:
        node = self.handles.get(fh)
        if node is None:
            raise FopError(errno.EBADF, f"handle {fh}")
        return node

    def _child(self, parent: int, name: bytes) -> tuple[Node, Node]:
        directory = self._node(parent)
        child = directory.names.get(name)
        if child is None:
            raise FopError(errno.ENOENT)
        return directory, child

    def _make(self, frame: Frame, parent: int, name: bytes, mode: int, rdev: int = 0) -> Node:
        directory = self._node(parent)
        if len(name) > 255:
            raise FopError(errno.ENAMETOOLONG)
        if name in directory.names:
            raise FopError(errno.EEXIST)
        self.last_node += 1
        gid = directory.gid if directory.mode & stat.S_ISGID else frame.gid
        node = Node(self.last_node, mode & ~frame.umask, frame.uid, gid, rdev)
        self.nodes[node.number] = node
        self._add(directory, name, node)
        node.nlookup = 1
        return node

    def _add(self, directory: Node, name: bytes, node: Node) -> None:
        self.last_offset += 1
        directory.names[name] = node
        directory.offsets[name] = self.last_offset
        node.parent = directory
        directory.nlink += stat.S_ISDIR(node.mode)
        directory.touch()

    def _drop(self, directory: Node, name: bytes) -> None:
        node = directory.names.pop(name)
        del directory.offsets[name]
        directory.nlink -= stat.S_ISDIR(node.mode)
        directory.touch()

    def _removed(self, node: Node) -> None:
        node.nlink = 0 if stat.S_ISDIR(node.mode) else node.nlink - 1
        node.ctime = time.time_ns()
        self._settle(node)

    def _settle(self, node: Node) -> None:
        if not (node.nlink or node.nlookup or node.nopen):
            self.nodes.pop(node.number, None)

    def _open(self, node: Node, flags: int = os.O_RDWR) -> int:
        self.last_handle += 1
        self.access[self.last_handle] = flags & os.O_ACCMODE
        node.nopen += 1
        self.handles[self.last_handle] = node
        return self.last_handle

    def _close(self, fh: int) -> None:
        node = self.handles.pop(fh)
        del self.access[fh]
        node.nopen -= 1
        self._settle(node)

    def may_be_written(self, nodeid: int) -> bool:
        return any(node.number == nodeid for node in self.handles.values())

    async def disconnect(self) -> None:
        """The kernel is gone: nothing is open or referred to any more."""
        for fh in list(self.handles):
            self._close(fh)
        for node in list(self.nodes.values()):
            node.nlookup = 0
            if node is not self.root:
                self._settle(node)

    # -- names -----------------------------------------------------------------------------------------------

    async def lookup(self, frame: Frame, parent: int, name: bytes) -> tuple[int, Iatt]:
        if self.before or self.record:
            await self._enter("lookup", frame, parent, name)
        if len(name) > 255:
            raise FopError(errno.ENAMETOOLONG)
        if name == b".":
            child = self._node(parent)
        elif name == b"..":
            child = self._node(parent).parent
        else:
            _, child = self._child(parent, name)
        child.nlookup += 1
        return child.number, child.iatt()

    def forget(self, nodeid: int, nlookup: int) -> None:
        node = self.nodes.get(nodeid)
        if node is not None and node is not self.root:
            node.nlookup -= nlookup
            assert node.nlookup >= 0, f"node {nodeid} was forgotten more often than it was looked up"
            self._settle(node)

    async def getattr(self, frame: Frame, nodeid: int, fh: int = 0) -> Iatt:
        if self.before or self.record:
            await self._enter("getattr", frame, nodeid, fh)
        return self._node(nodeid).iatt()

    async def setattr(self, frame: Frame, nodeid: int, fh: int, size: int | None, attrs: SetAttr) -> Iatt:
        await self._enter("setattr", frame, nodeid, fh, size, attrs)
        node = self._node(nodeid)
        if size is not None:
            del node.data[size:]
            node.data.extend(bytes(size - len(node.data)))
            node.mtime = time.time_ns()
        if attrs.mode is not None:
            node.mode = stat.S_IFMT(node.mode) | attrs.mode
        node.uid = node.uid if attrs.uid is None else attrs.uid
        node.gid = node.gid if attrs.gid is None else attrs.gid
        node.atime = node.atime if attrs.atime_ns is None else attrs.atime_ns
        node.mtime = node.mtime if attrs.mtime_ns is None else attrs.mtime_ns
        node.ctime = time.time_ns()
        return node.iatt()

    async def readlink(self, frame: Frame, nodeid: int) -> bytes:
        await self._enter("readlink", frame, nodeid)
        return self._node(nodeid).text

    async def mknod(self, frame: Frame, parent: int, name: bytes, mode: int, rdev: int) -> tuple[int, Iatt]:
        await self._enter("mknod", frame, parent, name)
        node = self._make(frame, parent, name, mode, rdev)
        return node.number, node.iatt()

    async def mkdir(self, frame: Frame, parent: int, name: bytes, mode: int) -> tuple[int, Iatt]:
        await self._enter("mkdir", frame, parent, name)
        node = self._make(frame, parent, name, stat.S_IFDIR | mode)
        return node.number, node.iatt()

    async def symlink(self, frame: Frame, parent: int, name: bytes, text: bytes) -> tuple[int, Iatt]:
        await self._enter("symlink", frame, parent, name)
        node = self._make(frame, parent, name, stat.S_IFLNK | 0o777)
        node.text = text
        return node.number, node.iatt()

    async def link(self, frame: Frame, nodeid: int, newparent: int, newname: bytes) -> tuple[int, Iatt]:
        await self._enter("link", frame, nodeid, newparent, newname)
        node, directory = self._node(nodeid), self._node(newparent)
        if newname in directory.names:
            raise FopError(errno.EEXIST)
        self._add(directory, newname, node)
        node.nlink += 1
        node.nlookup += 1
        node.ctime = time.time_ns()
        return node.number, node.iatt()

    async def unlink(self, frame: Frame, parent: int, name: bytes) -> None:
        if self.before or self.record:
            await self._enter("unlink", frame, parent, name)
        directory, child = self._child(parent, name)
        self._drop(directory, name)
        self._removed(child)

    async def rmdir(self, frame: Frame, parent: int, name: bytes) -> None:
        await self._enter("rmdir", frame, parent, name)
        directory, child = self._child(parent, name)
        if child.names:
            raise FopError(errno.ENOTEMPTY)
        self._drop(directory, name)
        self._removed(child)

    async def rename(self, frame: Frame, parent: int, name: bytes, newparent: int, newname: bytes, flags: int) -> None:
        await self._enter("rename", frame, parent, name, newparent, newname, flags)
        directory, child = self._child(parent, name)
        target = self._node(newparent)
        replaced = target.names.get(newname)
        if flags & 1 and replaced is not None:
            raise FopError(errno.EEXIST)
        if flags & 2:
            if replaced is None:
                raise FopError(errno.ENOENT)
            self._drop(directory, name)
            self._drop(target, newname)
            self._add(directory, name, replaced)
            self._add(target, newname, child)
            return
        if replaced is child:
            return
        if replaced is not None:
            if replaced.names:
                raise FopError(errno.ENOTEMPTY)
            self._drop(target, newname)
            self._removed(replaced)
        self._drop(directory, name)
        self._add(target, newname, child)
        child.ctime = time.time_ns()

    # -- files -----------------------------------------------------------------------------------------------

    def access_of(self, fh: int) -> int:
        return self.access[fh]

    def only_written(self, fh: int) -> bool:
        return self.access_of(fh) == os.O_WRONLY and self._handle(fh).nopen == 1

    async def create(self, frame: Frame, parent: int, name: bytes, flags: int, mode: int) -> tuple[int, Iatt, int]:
        if self.before or self.record:
            await self._enter("create", frame, parent, name, flags, mode)
        node = self._make(frame, parent, name, stat.S_IFREG | stat.S_IMODE(mode))
        return node.number, node.iatt(), self._open(node, flags)

    async def tmpfile(self, frame: Frame, parent: int, flags: int, mode: int) -> tuple[int, Iatt, int]:
        await self._enter("tmpfile", frame, parent, flags, mode)
        node = self._make(frame, parent, b"\0tmpfile", stat.S_IFREG | stat.S_IMODE(mode))
        self._drop(self._node(parent), b"\0tmpfile")
        node.nlink = 0
        return node.number, node.iatt(), self._open(node)

    async def open(self, frame: Frame, nodeid: int, flags: int) -> int:
        if self.before or self.record:
            await self._enter("open", frame, nodeid, flags)
        node = self._node(nodeid)
        if flags & 0o1000:
            node.data.clear()
            node.touch()
        return self._open(node, flags)

    async def read(self, frame: Frame, fh: int, offset: int, size: int) -> bytes:
        if self.before or self.record:
            await self._enter("read", frame, fh, offset, size)
        return bytes(memoryview(self._handle(fh).data)[offset : offset + size])

    async def write(self, frame: Frame, fh: int, offset: int, data: memoryview) -> int:
        if self.before or self.record:
            await self._enter("write", frame, fh, offset, data)
        node = self._handle(fh)
        if len(node.data) < offset:
            node.data.extend(bytes(offset - len(node.data)))
        node.data[offset : offset + len(data)] = data
        node.touch()
        return len(data)

    async def flush(self, frame: Frame, fh: int) -> None:
        if self.before or self.record:
            await self._enter("flush", frame, fh)
        self._handle(fh)

    async def release(self, frame: Frame, fh: int) -> None:
        if self.before or self.record:
            await self._enter("release", frame, fh)
        self._close(fh)

    async def fsync(self, frame: Frame, fh: int, datasync: bool) -> None:
        await self._enter("fsync", frame, fh, datasync)

    async def fallocate(self, frame: Frame, fh: int, mode: int, offset: int, length: int) -> None:
        await self._enter("fallocate", frame, fh, mode, offset, length)
        if mode & ~3:
            raise FopError(errno.EOPNOTSUPP)
        node = self._handle(fh)
        if mode & 2:
            hole = slice(offset, min(offset + length, len(node.data)))
            node.data[hole] = bytes(max(0, hole.stop - hole.start))
        elif not mode & 1 and len(node.data) < offset + length:
            node.data.extend(bytes(offset + length - len(node.data)))

    async def lseek(self, frame: Frame, fh: int, offset: int, whence: int) -> int:
        await self._enter("lseek", frame, fh, offset, whence)
        size = len(self._handle(fh).data)
        if offset >= size:
            raise FopError(errno.ENXIO)
        return offset if whence == 3 else size

    async def copy_file_range(
        self, frame: Frame, fh_in: int, off_in: int, fh_out: int, off_out: int, length: int, flags: int
    ) -> int:
        await self._enter("copy_file_range", frame, fh_in, off_in, fh_out, off_out, length, flags)
        data = bytes(self._handle(fh_in).data[off_in : off_in + length])
        node = self._handle(fh_out)
        node.data.extend(bytes(max(0, off_out - len(node.data))))
        node.data[off_out : off_out + len(data)] = data
        return len(data)

    # -- directories -----------------------------------------------------------------------------------------

    async def opendir(self, frame: Frame, nodeid: int) -> int:
        await self._enter("opendir", frame, nodeid)
        return self._open(self._node(nodeid))

    async def releasedir(self, frame: Frame, fh: int) -> None:
        await self._enter("releasedir", frame, fh)
        self._close(fh)

    async def fsyncdir(self, frame: Frame, fh: int, datasync: bool) -> None:
        await self._enter("fsyncdir", frame, fh, datasync)

    async def readdir(self, frame: Frame, fh: int, offset: int, count: int) -> list[DirEntry]:
        await self._enter("readdir", frame, fh, offset, count)
        return [entry._replace(iatt=None) for entry in self._entries(fh, offset, count)]

    async def readdirplus(self, frame: Frame, fh: int, offset: int, count: int) -> list[DirEntry]:
        await self._enter("readdirplus", frame, fh, offset, count)
        return self._entries(fh, offset, count)

    def _entries(self, fh: int, offset: int, count: int) -> list[DirEntry]:
        node = self._handle(fh)
        dots = [DirEntry(b".", 1, node.number, stat.S_IFDIR), DirEntry(b"..", 2, node.parent.number, stat.S_IFDIR)]
        names = sorted(node.names, key=node.offsets.__getitem__)
        rest = [
            DirEntry(name, node.offsets[name], child.number, stat.S_IFMT(child.mode), child.iatt())
            for name, child in ((name, node.names[name]) for name in names)
        ]
        return [entry for entry in dots + rest if entry.offset > offset][:count]

    def entered(self, entry: DirEntry, fh: int = 0) -> int:
        node = self._node(entry.ino)
        node.nlookup += 1
        return entry.ino

    # -- others ----------------------------------------------------------------------------------------------

    async def statfs(self, frame: Frame, nodeid: int) -> StatVfs:
        await self._enter("statfs", frame, nodeid)
        return StatVfs(4096, 4096, 1000, 900, 800, 500, 400, 400)

    async def setxattr(self, frame: Frame, nodeid: int, name: bytes, value: bytes, flags: int) -> None:
        await self._enter("setxattr", frame, nodeid, name, value, flags)
        xattrs = self._node(nodeid).xattrs
        if flags & 1 and name in xattrs:
            raise FopError(errno.EEXIST)
        if flags & 2 and name not in xattrs:
            raise FopError(errno.ENODATA)
        xattrs[name] = value

    async def getxattr(self, frame: Frame, nodeid: int, name: bytes) -> bytes:
        await self._enter("getxattr", frame, nodeid, name)
        value = self._node(nodeid).xattrs.get(name)
        if value is None:
            raise FopError(errno.ENODATA)
        return value

    async def listxattr(self, frame: Frame, nodeid: int) -> list[bytes]:
        await self._enter("listxattr", frame, nodeid)
        return list(self._node(nodeid).xattrs)

    async def removexattr(self, frame: Frame, nodeid: int, name: bytes) -> None:
        await self._enter("removexattr", frame, nodeid, name)
        if self._node(nodeid).xattrs.pop(name, None) is None:
            raise FopError(errno.ENODATA)

    async def access(self, frame: Frame, nodeid: int, mask: int) -> None:
        await self._enter("access", frame, nodeid, mask)

    async def syncfs(self, frame: Frame, nodeid: int) -> None:
        await self._enter("syncfs", frame, nodeid)
