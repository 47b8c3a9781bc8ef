"""Files that are open: their contents.

All that opened a file share one descriptor, opened for reading and writing if that is possible at all: the kernel's
writeback cache reads what it only wants to write.  Offsets come from above, so O_APPEND is stripped; O_DIRECT would
refuse the kernel's buffers and is stripped too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zlib
from typing import Any

from fusemux.bricks.storage.posix import mdata
from fusemux.bricks.storage.posix.base import DirStream, OpenFile, stale
from fusemux.bricks.storage.posix.rename import RenameFops
from fusemux.bricks.storage.posix.syscalls import fallocate, syncfs
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Frame, Iatt, StatVfs, Xdata, gfid_text

__all__ = ["DataFops"]

_SYNC = os.O_SYNC | os.O_DSYNC
_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KEEP_SIZE, _PUNCH, _ZERO = 1, 2, 16


class DataFops(RenameFops):
    def open(self, frame: Frame, inode: Inode, flags: int, fd: Fd, xdata: Xdata = None) -> None:
        gfid = inode.gfid
        file = self.opened.get(gfid)
        if file is None:
            file = self.opened[gfid] = self._open(gfid)
        else:
            file.refs += 1
        fd.ctx[self.slot] = file
        if flags & os.O_TRUNC:
            self._resize(frame, file, 0)

    def _open(self, gfid: bytes) -> OpenFile:
        path = self.handle_path(gfid)
        try:
            fd = os.open(path, os.O_RDWR | _OPEN)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise stale(gfid) from None
            if error.errno == errno.ELOOP and self.get_xattr(path, self.GFID) is None:
                raise FopError(errno.EISDIR, f"{gfid_text(gfid)} is a directory") from None
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY):
                raise
            fd = os.open(path, os.O_RDONLY | _OPEN)
        try:
            st = self.stat_of(fd)
            if not stat.S_ISREG(st.st_mode):
                raise FopError(
                    errno.EISDIR if stat.S_ISDIR(st.st_mode) else errno.ENXIO, f"{gfid_text(gfid)} is no file"
                )
            value = self.get_xattr(fd, self.MDATA)
        except BaseException:
            os.close(fd)
            raise
        times = None if value is None else mdata.unpack(value)
        return OpenFile(gfid, fd, times if self.ctime else None, setid=st.st_mode & 0o6000 != 0)

    def backing(self, fd: Fd) -> int | None:
        """A descriptor by which the kernel may read and write the file by itself.

        Not of a file with set-user-ID or set-group-ID: who writes must lose them.
        """
        file = fd.ctx[self.slot]
        if type(file) is not OpenFile or file.setid:
            return None
        if not file.passed_ns:
            file.passed_ns = os.fstat(file.fd).st_mtime_ns
        return file.fd

    def flush(self, frame: Frame, fd: Fd, xdata: Xdata = None) -> None:
        return None

    def release(self, frame: Frame, fd: Fd, xdata: Xdata = None) -> None:
        handle = fd.ctx[self.slot]
        fd.ctx[self.slot] = None
        if type(handle) is OpenFile:
            handle.refs -= 1
            if handle.passed_ns:
                self.catch_up(handle)
            if not handle.refs:
                self.forget(handle)
        elif handle is not None:
            self.close_stream(handle)

    def close_stream(self, stream: DirStream) -> None:
        if stream.fd >= 0:
            os.close(stream.fd)
            stream.fd = -1
            self.streams.discard(stream)

    # -- contents --------------------------------------------------------------------------------------------

    def readv(self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Xdata = None) -> bytes:
        file = self.file(fd)
        data = os.pread(file.fd, size, offset)
        if frame.time_ns and file.times is not None:
            self.stamp_access(file, frame.time_ns)
        return data

    def file(self, fd: Fd) -> OpenFile:
        handle = fd.ctx[self.slot]
        if type(handle) is not OpenFile:
            raise FopError(errno.EBADF if handle is None else errno.EISDIR)
        return handle

    def writev(self, frame: Frame, fd: Fd, data: Any, offset: int, xdata: Xdata = None) -> int:
        file = fd.ctx[self.slot]
        if type(file) is not OpenFile:
            file = self.file(fd)
        size = len(data)
        self.room -= size
        if self.room < 0:
            self.measure(frame)
        done = os.pwrite(file.fd, data, offset)
        while done < size:
            done += os.pwrite(file.fd, memoryview(data)[done:], offset + done)
        if file.setid and frame.uid:
            self._drop_setid(file)
        if frame.time_ns or file.times is not None:
            self.stamp_file(file, frame.time_ns, modified=True)
        if fd.flags & _SYNC:
            os.fdatasync(file.fd)
        return size

    def _drop_setid(self, file: OpenFile) -> None:
        """An unprivileged write takes set-user-ID away, and set-group-ID where it is not a locking mark."""
        mode = os.fstat(file.fd).st_mode
        drop = 0o4000 | (0o2000 if mode & 0o010 else 0)
        if mode & drop:
            os.fchmod(file.fd, stat.S_IMODE(mode) & ~drop)
        file.setid = False

    def truncate(self, frame: Frame, target: Inode | Fd, size: int, xdata: Xdata = None) -> Iatt:
        gfid = target.gfid if isinstance(target, Inode) else target.inode.gfid
        file = self.opened.get(gfid)
        if file is not None:
            return self._resize(frame, file, size)
        file = self._open(gfid)
        iatt = self._resize(frame, file, size)
        self.record_late(gfid)
        return iatt

    def _resize(self, frame: Frame, file: OpenFile, size: int) -> Iatt:
        os.ftruncate(file.fd, size)
        return self._changed(frame, file)

    def _changed(self, frame: Frame, file: OpenFile) -> Iatt:
        if file.setid and frame.uid:
            self._drop_setid(file)
        self.stamp_file(file, frame.time_ns, modified=True)
        st = self.stat_of(file.fd)
        if file.passed_ns:
            file.passed_ns = st.st_mtime_ns  # this was not the kernel by itself
        return self.iatt(file.gfid, st, file.times)

    def fallocate(self, frame: Frame, fd: Fd, mode: int, offset: int, length: int, xdata: Xdata = None) -> Iatt:
        file = self.file(fd)
        if not mode & _PUNCH:
            self.spend(frame, length)
        try:
            fallocate(file.fd, mode, offset, length)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP or mode & ~_KEEP_SIZE != _ZERO:
                raise
            self._zero(file, mode & _KEEP_SIZE, offset, length)
        return self._changed(frame, file)

    def _zero(self, file: OpenFile, keep_size: int, offset: int, length: int) -> None:
        """FALLOC_FL_ZERO_RANGE where the backing store has none: a hole, then blocks for it."""
        fallocate(file.fd, _PUNCH | _KEEP_SIZE, offset, length)
        fallocate(file.fd, keep_size, offset, length)

    def copy_file_range(
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
        source, target = self.file(fd), self.file(fd_out)
        self.spend(frame, length)
        done = os.copy_file_range(source.fd, target.fd, length, offset, offset_out)
        self._changed(frame, target)
        return done

    def seek(self, frame: Frame, fd: Fd, offset: int, whence: int, xdata: Xdata = None) -> int:
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise FopError(errno.EINVAL, "only SEEK_DATA and SEEK_HOLE")
        return os.lseek(self.file(fd).fd, offset, whence)

    def rchecksum(self, frame: Frame, fd: Fd, offset: int, length: int, xdata: Xdata = None) -> tuple[int, bytes]:
        data = os.pread(self.file(fd).fd, length, offset)
        strong = hashlib.sha256(data) if self.fips else hashlib.md5(data, usedforsecurity=False)
        return zlib.adler32(data, 0), strong.digest()

    # -- stable storage --------------------------------------------------------------------------------------

    def fsync(self, frame: Frame, fd: Fd, datasync: bool, xdata: Xdata = None) -> None:
        handle = fd.ctx[self.slot]
        if handle is None:
            raise FopError(errno.EBADF)
        self.record_late(handle.gfid)
        (os.fdatasync if datasync else os.fsync)(handle.fd)

    def syncfs(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> None:
        self.record_all()
        syncfs(self.root.fd)

    def statfs(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> StatVfs:
        """The space of this brick: bricks that share a file system share it evenly, and the reserve is not for users."""
        v = os.fstatvfs(self.root.fd)
        shares = self.shares
        available = max(0, v.f_bavail - self.reserved_blocks(v))
        return StatVfs(
            v.f_bsize, v.f_frsize, v.f_blocks // shares, v.f_bfree // shares, available // shares,
            v.f_files // shares, v.f_ffree // shares, v.f_favail // shares, v.f_namemax,
        )  # fmt: skip
