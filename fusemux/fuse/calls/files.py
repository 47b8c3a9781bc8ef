"""Calls on open files."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from fusemux.fuse.calls.attributes import AttributeCalls
from fusemux.fuse.calls.names import NameCalls
from fusemux.fuse.calls.state import Call
from fusemux.fuse.handles import OpenFile
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd
from fusemux.graph.framework.types import Frame, Iatt

__all__ = ["FileCalls"]

# What the bricks need to know of open(2)'s flags.  O_APPEND stays with the kernel, which sends offsets: pages of a mapped file
# may be written back through any handle, also one that was opened for appending.
_KEPT = os.O_ACCMODE | os.O_SYNC | os.O_DSYNC


class FileCalls(NameCalls, AttributeCalls):
    def _flags(self, flags: int) -> int:
        kept = flags & _KEPT
        if self.writeback_cache and kept & os.O_ACCMODE == os.O_WRONLY:
            kept ^= os.O_WRONLY | os.O_RDWR  # the kernel reads what surrounds a partly written page
        return kept

    def _opened(self, fd: Fd, nodeid: int, frame: Frame) -> int:
        fh = self._next_handle()
        self.files[fh] = OpenFile(fd, nodeid, frame)
        return fh

    def opener(self, fh: int) -> Frame:
        """A frame for a request that does not say who makes it: whoever opened the file."""
        try:
            file = self.files[fh]
        except KeyError:
            return Frame()
        return Frame(file.uid, file.gid, file.pid)

    # -- opening and closing ---------------------------------------------------------------------------------

    async def create(self, frame: Frame, parent: int, name: bytes, flags: int, mode: int) -> tuple[int, Iatt, int]:
        """Node id, attributes, file handle of a new file, or, without O_EXCL, of the one that is there already."""
        directory = self._parent(parent, name)
        gfid = self.graph.process.new_gfid()
        fd = self.itable.fd(self.itable.link(gfid, stat.S_IFREG), self._flags(flags), frame.pid)
        try:
            iatt: Iatt = await self.top.create(frame, directory, name, fd.flags, mode & 0o7777, gfid, fd)
        except BaseException as error:
            self.recall.forget(directory.gfid)
            self._unmade(fd)
            if isinstance(error, FopError) and error.errno == errno.EEXIST and not flags & os.O_EXCL:
                return await self._open_existing(frame, parent, name, flags)
            raise
        fd.inode.bare = True
        self.recall.came(directory.gfid, name, frame.time_ns)
        nodeid = self.nodes.enter(iatt, parent, name)
        return nodeid, iatt, self._opened(fd, nodeid, frame)

    async def tmpfile(self, frame: Frame, parent: int, flags: int, mode: int) -> tuple[int, Iatt, int]:
        """O_TMPFILE: a file without a name."""
        directory = self._parent(parent, b"")
        gfid = self.graph.process.new_gfid()
        fd = self.itable.fd(self.itable.link(gfid, stat.S_IFREG), self._flags(flags), frame.pid)
        try:
            iatt: Iatt = await self.top.tmpfile(frame, directory, fd.flags, mode & 0o7777, gfid, fd)
        except BaseException:
            self._unmade(fd)
            raise
        nodeid = self.nodes.enter(iatt, 0, b"")
        return nodeid, iatt, self._opened(fd, nodeid, frame)

    def _unmade(self, fd: Fd) -> None:
        """The inode that was made up for a new file never came to be."""
        self.nodes.closed(fd)
        self.itable.discard(fd.inode)

    async def _open_existing(self, frame: Frame, parent: int, name: bytes, flags: int) -> tuple[int, Iatt, int]:
        """Somebody else was faster; as open(2) does it."""
        nodeid, iatt = await self.lookup(frame, parent, name)
        try:
            if stat.S_ISDIR(iatt.mode):
                raise FopError(errno.EISDIR)
            if stat.S_ISLNK(iatt.mode):
                raise FopError(errno.ESTALE, "the kernel shall look it up again and follow it")
            fh = await self.open(frame, nodeid, flags)
            if flags & os.O_TRUNC:
                iatt = await self.getattr(frame, nodeid, fh)
        except BaseException:
            self.nodes.forget(nodeid, 1)
            raise
        return nodeid, iatt, fh

    async def open(self, frame: Frame, nodeid: int, flags: int) -> int:
        """A file handle."""
        inode = self._inode(nodeid)
        fd = self.itable.fd(inode, self._flags(flags), frame.pid)
        try:
            await self.top.open(frame, inode, fd.flags, fd)
            if flags & os.O_TRUNC:
                await self._truncate_opened(frame, nodeid, fd)
        except BaseException:
            self.nodes.closed(fd)
            raise
        return self._opened(fd, nodeid, frame)

    async def _truncate_opened(self, frame: Frame, nodeid: int, fd: Fd) -> None:
        """open(2) with O_TRUNC; Linux allows it together with O_RDONLY."""
        try:
            if fd.flags & os.O_ACCMODE:
                await self.top.truncate(frame, fd, 0)
            else:
                await self._on(nodeid, "truncate", frame, 0)
        except BaseException:
            await self.top.release(frame, fd)
            raise

    async def flush(self, frame: Frame, fh: int) -> None:
        """close(2) of one of the descriptors that share the handle."""
        await self.top.flush(frame, self._file(fh).fd)

    async def release(self, frame: Frame, fh: int) -> None:
        """Nobody uses the handle any more."""
        file = self.files.pop(fh, None)
        if file is None:
            return
        if self._orphans and self._orphans.get(file.nodeid) is file.fd:
            del self._orphans[file.nodeid]
        try:
            await self.top.release(frame, file.fd)
        finally:
            self.nodes.closed(file.fd)

    # -- contents --------------------------------------------------------------------------------------------

    def read(self, frame: Frame, fh: int, offset: int, size: int) -> Call[Any]:
        """Up to `size` bytes (bytes-like); fewer at the end of the file."""
        file = self.files.get(fh)
        return self.top.readv(frame, file.fd, size, offset) if file is not None else _not_open(fh)

    def write(self, frame: Frame, fh: int, offset: int, data: Any) -> Call[int]:
        """The number of bytes written: all of them, or an error."""
        file = self.files.get(fh)
        return self.top.writev(frame, file.fd, data, offset) if file is not None else _not_open(fh)

    async def fsync(self, frame: Frame, fh: int, datasync: bool) -> None:
        await self.top.fsync(frame, self._file(fh).fd, datasync)

    async def fallocate(self, frame: Frame, fh: int, mode: int, offset: int, length: int) -> None:
        await self.top.fallocate(frame, self._file(fh).fd, mode, offset, length)

    async def lseek(self, frame: Frame, fh: int, offset: int, whence: int) -> int:
        """SEEK_DATA or SEEK_HOLE; the kernel does the others.

        The kernel neither checks the offset nor writes back before it asks: a binding must see to the latter where the file `may_be_written`.
        """
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise FopError(errno.EINVAL)
        if offset < 0:
            raise FopError(errno.ENXIO)
        found: int = await self.top.seek(frame, self._file(fh).fd, offset, whence)
        return found

    def may_be_written(self, nodeid: int) -> bool:
        """Whether somebody has the file open for writing, so that the kernel may hold data that was not written yet."""
        return any(file.fd.flags & 3 for file in self.files.values() if file.nodeid == nodeid)

    async def copy_file_range(
        self, frame: Frame, fh_in: int, off_in: int, fh_out: int, off_out: int, length: int, flags: int
    ) -> int:
        if flags:
            raise FopError(errno.EINVAL)
        source, target = self._file(fh_in).fd, self._file(fh_out).fd
        count: int = await self.top.copy_file_range(frame, source, off_in, target, off_out, length, 0)
        return count


async def _not_open(fh: int) -> Any:
    raise FopError(errno.EBADF, f"file handle {fh} is not open")
