"""Reading directories: the backing store's own entries with its own offsets.

An offset is what the backing file system gives (`d_off`): it names a place that stays while other entries come and go,
so telldir and seekdir are exact.  Entries are read ahead in batches; going back, or anywhere else than on, reads anew.
"""

from __future__ import annotations

import errno
import os
import stat

from fusemux.bricks.storage.posix.base import DirStream
from fusemux.bricks.storage.posix.data import DataFops
from fusemux.bricks.storage.posix.handle import DOT_GLUSTERFS
from fusemux.bricks.storage.posix.syscalls import Dirent, getdents
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import ROOT_GFID, DirEntry, Frame, Iatt, Xdata, ino_of

__all__ = ["ListingFops"]

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class ListingFops(DataFops):
    def opendir(self, frame: Frame, inode: Inode, fd: Fd, xdata: Xdata = None) -> None:
        stream = DirStream(inode.gfid, os.open(b".", _DIR, dir_fd=self.dir(inode.gfid).fd))
        self.streams.add(stream)
        fd.ctx[self.slot] = stream

    def readdir(self, frame: Frame, fd: Fd, count: int, offset: int, plus: bool, xdata: Xdata = None) -> list[DirEntry]:
        stream = fd.ctx[self.slot]
        if type(stream) is not DirStream:
            raise FopError(errno.EBADF if stream is None else errno.ENOTDIR)
        if offset != stream.offset or offset == 0:
            os.lseek(stream.fd, offset, os.SEEK_SET)
            stream.ahead = []
            stream.offset = offset
        entries: list[DirEntry] = []
        while len(entries) < count:
            if not stream.ahead:
                stream.ahead = getdents(stream.fd)[::-1]
                if not stream.ahead:
                    break
            self._take(stream, count, entries, plus, xdata)
        return entries

    def _take(self, stream: DirStream, count: int, entries: list[DirEntry], plus: bool, xdata: Xdata) -> None:
        """Move entries from those read ahead to `entries`."""
        ahead = stream.ahead
        root = stream.gfid == ROOT_GFID
        while ahead and len(entries) < count:
            dirent = ahead.pop()
            stream.offset = dirent.offset
            if root and dirent.name == DOT_GLUSTERFS:
                continue
            entry = self._entry_of(stream, dirent, plus, xdata)
            if entry is not None:
                entries.append(entry)

    def _entry_of(self, stream: DirStream, dirent: Dirent, plus: bool, xdata: Xdata) -> DirEntry | None:
        """None when the name has gone since."""
        name, offset, type_ = dirent
        try:
            if plus:
                iatt = self.glance(stream.fd, name, xdata)
                if iatt is not None:
                    return DirEntry(name, offset, ino_of(iatt.gfid), stat.S_IFMT(iatt.mode), iatt)
                return DirEntry(name, offset, 0, self.listed_type(type_))
            gfid = self.xattrs.get(stream.fd, name, self.GFID)
        except FileNotFoundError:
            return None
        return DirEntry(name, offset, 0 if gfid is None else ino_of(gfid), self.listed_type(type_))

    def listed_type(self, type_: int) -> int:
        """S_IFMT bits from a DT_ number, 0 when the backing store does not know."""
        return type_ << 12

    def glance(self, dirfd: int, name: bytes, xdata: Xdata) -> Iatt | None:
        """`look` that mends nothing: None for a name without gfid."""
        st = self.stat_at(dirfd, name)
        gfid = self.xattrs.get(dirfd, name, self.GFID)
        if gfid is None:
            return None
        times = self.times_at(dirfd, name, gfid)
        if xdata is None:
            return self.iatt(gfid, st, times)
        if self.late:
            self.record_late(gfid)
        return self.iatt(gfid, st, times, self.answers(xdata, gfid, self.xattrs.list(dirfd, name), (dirfd, name)))
