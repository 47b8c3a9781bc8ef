"""When things changed, and how much room there is: what nearly every fop that changes something settles.

An object's times lie in its mdata (see mdata.py) if it has any, else with the backing store.  A fop stamped with a time
(`frame.time_ns`) records that one; without a stamp the backing store's clock counts, and for an object that has mdata
the present, so that what is once recorded stays true.
"""

from __future__ import annotations

import errno
import os
from time import time_ns

from fusemux.bricks.storage.posix import mdata
from fusemux.bricks.storage.posix.base import OpenFile, StoreBase
from fusemux.bricks.storage.posix.directories import DirHandle
from fusemux.bricks.storage.posix.mdata import Times
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Frame

__all__ = ["Stamps"]


def _moved(old: int, new: int) -> int:
    newest = mdata.newer(old, new)
    return newest if newest != old else old + 1


class Stamps(StoreBase):
    def times_of(self, where: int | str, gfid: bytes) -> Times | None:
        """The recorded times of an object, from memory where it is known."""
        known = self.opened.get(gfid) or self.dirs.get(gfid)
        if known is not None:
            return self._true_times(known)
        if not self.ctime:
            return None
        if self.late:
            self.record_late(gfid)
        value = self.get_xattr(where, self.MDATA)
        return None if value is None else mdata.unpack(value)

    def times_at(self, dirfd: int, name: bytes, gfid: bytes) -> Times | None:
        """The recorded times of the object `gfid`, which is at `name`."""
        known = self.opened.get(gfid) or self.dirs.get(gfid)
        if known is not None:
            return self._true_times(known)
        if not self.ctime:
            return None
        if self.late:
            self.record_late(gfid)
        value = self.xattrs.get(dirfd, name, self.MDATA)
        return None if value is None else mdata.unpack(value)

    def _true_times(self, known: OpenFile | DirHandle) -> Times | None:
        """The times of what is open, with what the kernel has written by itself taken into account."""
        if known.__class__ is OpenFile and known.passed_ns:
            self.catch_up(known)
        return known.times

    def catch_up(self, file: OpenFile) -> None:
        """Record the time at which the kernel has last written `file`, if it has since it was seen last.

        Its clock for that ticks some milliseconds behind the one that frames are stamped by; yet what was written is newer than before.
        """
        st = os.fstat(file.fd)
        if st.st_mtime_ns == file.passed_ns:
            return
        file.passed_ns = st.st_mtime_ns
        if file.times is not None:
            ctime, mtime, atime = file.times
            if st.st_mtime_ns != mtime:  # else it was set, and not written
                mtime = _moved(mtime, st.st_mtime_ns)
                ctime = _moved(ctime, st.st_ctime_ns)
            self.keep(file, (ctime, mtime, atime))

    def keep_times(self, on: bool) -> None:
        """Option ctime: whether times are recorded in mdata and answered from it."""
        if on == self.ctime:
            return
        self.record_all()
        self.ctime = on
        for directory in self.dirs.values():
            directory.times = self._times_fd(directory.fd)
        for file in self.opened.values():
            file.times = self._times_fd(file.fd)

    def stamp_dir(self, directory: DirHandle, now: int) -> None:
        """An entry of `directory` changed at `now` (0: the backing store has noted it itself)."""
        times = directory.times
        if times is None:
            if not now or not self.ctime:
                return
            times = (0, 0, os.fstat(directory.fd).st_atime_ns)
        elif not now:
            now = time_ns()
        ctime, mtime, atime = times
        if now >= ctime and now >= mtime:
            ctime = mtime = now
        else:
            ctime, mtime = mdata.newer(ctime, now), mdata.newer(mtime, now)
        self.keep(directory, (ctime, mtime, atime))

    def stamp_file(self, file: OpenFile, now: int, *, modified: bool) -> None:
        """An open file's contents (`modified`) or attributes changed at `now`."""
        times = file.times
        if times is None:
            if not now or not self.ctime:
                return
            st = os.fstat(file.fd)
            times = (0, 0 if modified else st.st_mtime_ns, st.st_atime_ns)
        elif not now:
            now = time_ns()
        ctime, mtime, atime = times
        ctime = now if now >= ctime else mdata.newer(ctime, now)
        if modified:
            mtime = now if now >= mtime else mdata.newer(mtime, now)
        self.keep(file, (ctime, mtime, atime))

    def stamp_access(self, file: OpenFile, now: int) -> None:
        """An open file was read at `now`; only callers that keep access times come here."""
        if file.times is not None:
            ctime, mtime, atime = file.times
            self.keep(file, (ctime, mtime, mdata.newer(atime, now)))

    def stamp(self, where: int | str, gfid: bytes, now: int, *, modified: bool = False) -> Times | None:
        """The attributes (or, with `modified`, the contents) of any object changed at `now`; its times after that."""
        times = self.times_of(where, gfid)
        if times is None:
            if not now or not self.ctime:
                return None
            st = self.stat_of(where)
            times = (0, 0 if modified else st.st_mtime_ns, st.st_atime_ns)
        elif not now:
            now = time_ns()
        mtime = mdata.newer(times[1], now) if modified else times[1]
        return self.put_times(where, gfid, (mdata.newer(times[0], now), mtime, times[2]))

    def put_times(self, where: int | str, gfid: bytes, times: Times) -> Times:
        self.set_xattr(where, self.MDATA, mdata.pack(*times))
        known = self.opened.get(gfid) or self.dirs.get(gfid)
        if known is not None:
            known.times = times
        return times

    # -- space -----------------------------------------------------------------------------------------------

    def spend(self, frame: Frame, size: int) -> None:
        """`size` bytes are about to be stored.  Raises ENOSPC when they would eat into the reserve.

        The disk is only asked when a quarter of what was free then has been stored (at most 16 MiB).
        """
        self.room -= size
        if self.room < 0:
            self.measure(frame)

    def measure(self, frame: Frame) -> None:
        vfs = os.fstatvfs(self.root.fd)
        free = (vfs.f_bavail - self.reserved_blocks(vfs)) * vfs.f_frsize
        self.room = min(max(free, 0) // 4, 16 << 20)
        if free <= 0 and self.reserve[1] and frame.pid >= 0:
            raise FopError(errno.ENOSPC, f"{self.path}: only the reserve is left (option reserve)")

    def reserved_blocks(self, vfs: os.statvfs_result) -> int:
        kind, amount = self.reserve
        return int(vfs.f_blocks * amount / 100) if kind == "percent" else int(amount) // vfs.f_frsize
