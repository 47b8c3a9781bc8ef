"""Attributes and xattrs: setattr, getxattr, setxattr, removexattr, xattrop.

What the brick keeps its own books in cannot be set by callers and does not appear in lists; asked for by name it is
answered.  The counters of replication and erasure coding do appear: the translators above need them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from time import time_ns

from fusemux.bricks.storage.posix.base import UNCOUNTED, OpenFile
from fusemux.bricks.storage.posix.mdata import Times, newer
from fusemux.bricks.storage.posix.virtual import VirtualXattrs
from fusemux.bricks.storage.posix.xattrop import combine
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Frame, Iatt, SetAttr, Xdata

__all__ = ["AttributeFops"]

_OWN = (b"trusted.gfid", b"trusted.glusterfs.volume-id", b"trusted.glusterfs.mdata", b"trusted.pgfid.",
        b"trusted.gfid2path.")  # fmt: skip
_INTERNAL = (
    b"trusted.glusterfs.",
    b"trusted.afr.",
    b"trusted.ec.",
    b"trusted.bit-rot.",
)  # bookkeeping: no change of the file
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")


def _gfid(target: Inode | Fd) -> bytes:
    return target.gfid if isinstance(target, Inode) else target.inode.gfid


class AttributeFops(VirtualXattrs):
    def setattr(self, frame: Frame, target: Inode | Fd, attrs: SetAttr, xdata: Xdata = None) -> Iatt:
        gfid, where = _gfid(target), self.where(target)
        if attrs.uid is not None or attrs.gid is not None:
            self.chown(where, -1 if attrs.uid is None else attrs.uid, -1 if attrs.gid is None else attrs.gid)
        if attrs.mode is not None:
            self.chmod(where, attrs.mode)
        times = self.times_of(where, gfid)
        if attrs.atime_ns is not None or attrs.mtime_ns is not None:
            self._set_times(where, attrs, times)
        st = self.stat_of(where)
        times = self._record_times(frame, where, gfid, attrs, times, st)
        self._relearn(gfid, attrs, st)
        return self.iatt(gfid, st, times)

    def chown(self, where: int | str, uid: int, gid: int) -> None:
        if isinstance(where, int):
            os.fchown(where, uid, gid)
        else:
            os.lchown(where, uid, gid)

    def chmod(self, where: int | str, mode: int) -> None:
        if isinstance(where, str) and stat.S_ISLNK(os.lstat(where).st_mode):
            raise FopError(errno.EOPNOTSUPP, "a symbolic link has no mode")
        os.chmod(where, mode & 0o7777)

    def _set_times(self, where: int | str, attrs: SetAttr, times: Times | None) -> None:
        """On the backing store too, for whoever reads the brick without mdata."""
        if times is None:
            st = self.stat_of(where)
            times = (0, st.st_mtime_ns, st.st_atime_ns)
        atime = times[2] if attrs.atime_ns is None else attrs.atime_ns
        mtime = times[1] if attrs.mtime_ns is None else attrs.mtime_ns
        if isinstance(where, int):
            os.utime(where, ns=(atime, mtime))
        else:
            os.utime(where, ns=(atime, mtime), follow_symlinks=False)

    def _record_times(
        self, frame: Frame, where: int | str, gfid: bytes, attrs: SetAttr, times: Times | None, st: os.stat_result
    ) -> Times | None:
        now = frame.time_ns
        if times is None:
            if not self.ctime or (not now and attrs.ctime_ns is None):
                return None
            times = (0, st.st_mtime_ns, st.st_atime_ns)
        ctime, mtime, atime = times
        if attrs.ctime_ns is not None:
            ctime = attrs.ctime_ns
        else:
            ctime = newer(ctime, now or time_ns())
        if attrs.mtime_ns is not None:
            mtime = attrs.mtime_ns
        if attrs.atime_ns is not None:
            atime = attrs.atime_ns
        return self.put_times(where, gfid, (ctime, mtime, atime))

    def _relearn(self, gfid: bytes, attrs: SetAttr, st: os.stat_result) -> None:
        """What is remembered of an object's mode and group: what entries inherit, what writing must clear."""
        if attrs.mode is None and attrs.gid is None and attrs.uid is None:
            return
        directory, file = self.dirs.get(gfid), self.opened.get(gfid)
        if directory is not None:
            directory.acl = None
        if file is not None:
            file.setid = st.st_mode & 0o6000 != 0

    # -- xattrs ----------------------------------------------------------------------------------------------

    def getxattr(
        self, frame: Frame, target: Inode | Fd, name: bytes | None, xdata: Xdata = None
    ) -> Mapping[bytes, bytes]:
        where = self.where(target)
        if self.late:
            self.record_late(_gfid(target))
        if name is None:
            return self._all(where)
        value = self.get_value(where, self.stored(name))
        return {name: self.virtual(target, where, name) if value is None else value}

    def get_value(self, where: int | str, stored: bytes) -> bytes | None:
        """What `getxattr` answers for the xattr that is kept as `stored`; None when absent."""
        return self.get_xattr(where, stored)

    def put_value(self, where: int | str, stored: bytes, value: bytes, flags: int) -> None:
        self.set_xattr(where, stored, value, flags)

    def _all(self, where: int | str) -> dict[bytes, bytes]:
        values: dict[bytes, bytes] = {}
        for text in os.listxattr(where, follow_symlinks=isinstance(where, int)):
            stored = os.fsencode(text)
            name = self.shown(stored)
            if name is None or name.startswith(_OWN):
                continue
            value = self.get_value(where, stored)
            if value is not None:
                values[name] = value
        return values

    def setxattr(
        self, frame: Frame, target: Inode | Fd, xattrs: Mapping[bytes, bytes], flags: int, xdata: Xdata = None
    ) -> None:
        gfid, where = _gfid(target), self.where(target)
        for name in xattrs:
            self._check_settable(name)
        counted = False
        for name, value in xattrs.items():
            self.put_value(where, self.stored(name), bytes(value), flags)
            counted = counted or not name.startswith(_INTERNAL)
        self._xattrs_changed(frame, gfid, where, xattrs, counted)

    def _check_settable(self, name: bytes) -> None:
        if name.startswith(_OWN):
            raise FopError(errno.EPERM, f"{name.decode(errors='replace')} belongs to the brick")

    def _xattrs_changed(
        self,
        frame: Frame,
        gfid: bytes,
        where: int | str,
        names: Mapping[bytes, bytes] | tuple[bytes, ...],
        counted: bool,
    ) -> None:
        directory, file = self.dirs.get(gfid), self.opened.get(gfid)
        if file is not None:
            file.counter = None
        if any(name in names for name in _ACLS):
            if directory is not None:
                directory.acl = None
            if file is not None:
                file.setid = os.fstat(file.fd).st_mode & 0o6000 != 0
        if counted:
            self.stamp(where, gfid, frame.time_ns)

    def removexattr(self, frame: Frame, target: Inode | Fd, name: bytes, xdata: Xdata = None) -> None:
        self._check_settable(name)
        gfid, where = _gfid(target), self.where(target)
        os.removexattr(where, self.stored(name), follow_symlinks=isinstance(where, int))
        self._xattrs_changed(frame, gfid, where, (name,), not name.startswith(_INTERNAL))

    def xattrop(
        self, frame: Frame, target: Inode | Fd, op: int, xattrs: Mapping[bytes, bytes], xdata: Xdata = None
    ) -> Mapping[bytes, bytes]:
        where = self.where(target)
        file = self.opened.get(_gfid(target))
        results: dict[bytes, bytes] = {}
        for name, argument in xattrs.items():
            stored = self.stored(name)
            before = self._counted(file, where, stored)
            after, write = combine(op, before, bytes(argument))
            if write is not None:
                self.set_xattr(where, stored, write)
            if file is not None:
                file.counter = (stored, before if write is None else write)
            results[name] = after
        return results

    def _counted(self, file: OpenFile | None, where: int | str, stored: bytes) -> bytes | None:
        """The value of a counter, from memory where it was the last one of this open file: all changes come through this store."""
        known = file.counter if file is not None else None
        if known is UNCOUNTED:
            return None
        if known is not None and known[0] == stored:
            return known[1]
        return self.get_xattr(where, stored)
