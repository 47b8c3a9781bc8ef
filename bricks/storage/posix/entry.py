"""Making names: create, mknod, mkdir, symlink, link, and files without a name.

Order, for the sake of crashes: the object, its gfid, all that is recorded with it, and last the handle, so that a file with a
handle lacks nothing (see lookup.py) but times, if they are recorded late; a directory's handle comes before its records.
When a step fails what was made before is taken back.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from fusemux.bricks.storage.posix import mdata
from fusemux.bricks.storage.posix.base import MADE_MAX, UNCOUNTED, OpenFile, stale
from fusemux.bricks.storage.posix.directories import DirHandle
from fusemux.bricks.storage.posix.handle import path_of, path_record, unlink_path
from fusemux.bricks.storage.posix.lookup import LookupFops
from fusemux.bricks.storage.posix.mdata import Times
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Frame, Iatt, Xdata, gfid_text

__all__ = ["EntryFops"]

_new = tuple.__new__
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMESPACES = (b"trusted.", b"user.", b"security.", b"system.")
_BLOCK = 4096  # what a new object is taken to need


class EntryFops(LookupFops):
    def create(
        self, frame: Frame, parent: Inode, name: bytes, flags: int, mode: int, gfid: bytes, fd: Fd, xdata: Xdata = None
    ) -> Iatt:
        directory = self.parent(parent, name)
        self.room -= _BLOCK
        if self.room < 0:
            self.measure(frame)
        mode = self.permissions(directory, mode, frame, self.file_bits)
        new = os.open(name, _CREATE, mode, dir_fd=directory.fd)
        try:
            if self.umask:
                self.unmask(new, directory, mode)
            times = self._born(frame, directory, name, new, gfid, xdata, stays=True)
            iatt = self._newborn(frame, directory, new, mode, gfid, times)
        except BaseException:
            self._unmake(directory, name, gfid, new)
            raise
        self.stamp_dir(directory, frame.time_ns)
        file = fd.ctx[self.slot] = self.opened[gfid] = OpenFile(gfid, new, times, setid=mode & 0o6000 != 0)
        if times is not None and self.recorder is not None:
            self.keep(file, times)
        if xdata is None:
            file.counter = UNCOUNTED
        if len(self.made) >= MADE_MAX:
            self.made.clear()
        self.made[gfid] = (directory.gfid, name)
        return iatt

    def _newborn(
        self, frame: Frame, directory: DirHandle, new: int, mode: int, gfid: bytes, times: Times | None
    ) -> Iatt:
        """The attributes of an empty file: known without asking, where nothing but the caller decides them."""
        if times is None or directory.acl or self.mapped or self.counts_xattrs:
            return self.iatt(gfid, self.stat_of(new), times)
        group = frame.gid if directory.group is None else directory.group
        now = times[0]
        return _new(Iatt, (gfid, 0o100000 | mode, 1, frame.uid, group, 0, 0, 0, self.blksize, now, now, now, None))

    def permissions(self, directory: DirHandle, mode: int, frame: Frame, bits: tuple[int, int]) -> int:
        """The mode to create with: a default ACL stands in for the umask; `bits` are masked out and forced."""
        if directory.acl is None:
            self.learn(directory)
        keep, force = bits
        return (mode if directory.acl else mode & ~frame.umask) & keep | force

    def unmask(self, where: int | str, directory: DirHandle, mode: int) -> None:
        """Give a new object the permissions that the process's own umask has withheld."""
        if mode & self.umask and not directory.acl:
            os.chmod(where, mode & 0o7777)

    def _born(
        self,
        frame: Frame,
        directory: DirHandle,
        name: bytes,
        new: int,
        gfid: bytes,
        xdata: Xdata,
        *,
        stays: bool = False,
    ) -> Times | None:
        """Make the empty regular file `new` an object of the brick; its first times, still to be recorded if it `stays` open."""
        if frame.uid != self.uid or frame.gid != self.gid or self.mapped:
            self.own(new, frame, directory)
        os.setxattr(new, self.GFID, gfid)
        times = self._first_times(new, frame, late=stays and self.recorder is not None)
        if self.gfid2path:
            os.setxattr(new, *path_record(self.GFID2PATH, directory.slash, name))
        if xdata is not None:
            self.give(new, xdata)
        self.link_handle(directory, name, gfid)
        return times

    def _first_times(self, where: int | str, frame: Frame, *, late: bool = False) -> Times | None:
        now = frame.time_ns
        if not now or not self.ctime:
            return None
        if not late:
            self.set_xattr(where, self.MDATA, mdata.pack(now, now, now))
        return now, now, now

    def own(self, where: int | str, frame: Frame, directory: DirHandle) -> None:
        """Give a new object to the caller; its group to that of a set-group-ID directory."""
        gid = frame.gid if directory.group is None else -1
        if isinstance(where, int):
            mode = os.fstat(where).st_mode
            os.fchown(where, frame.uid, gid)
        else:
            mode = os.lstat(where).st_mode
            os.lchown(where, frame.uid, gid)
        if mode & 0o6000 and not stat.S_ISLNK(mode):
            os.chmod(where, mode & 0o7777)  # chown has cleared these bits

    def give(self, where: int | str, xdata: Xdata) -> None:
        """Set the xattrs that came along with a create."""
        for key, value in (xdata or {}).items():
            if isinstance(value, bytes) and key.startswith(_NAMESPACES):
                self.set_xattr(where, self.stored(key), value)

    def _unmake(self, directory: DirHandle, name: bytes, gfid: bytes, fd: int = -1) -> None:
        """A create failed half-way: remove the name, and the handle if it is of this object."""
        try:
            made = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            try:
                held = os.stat(path_of(gfid), dir_fd=self.gl, follow_symlinks=False)
                if held.st_ino == made.st_ino:
                    os.unlink(path_of(gfid), dir_fd=self.gl)
            except FileNotFoundError:
                pass
            os.unlink(name, dir_fd=directory.fd)
        finally:
            if fd >= 0:
                os.close(fd)

    def record_name(self, where: int | str, directory: DirHandle, name: bytes) -> None:
        if self.gfid2path:
            self.set_xattr(where, *path_record(self.GFID2PATH, directory.slash, name))

    def erase_name(self, where: int | str, directory: DirHandle, name: bytes) -> None:
        """Forget that a file has this name; that it was not recorded is legal."""
        key, _ = path_record(self.GFID2PATH, directory.slash, name)
        try:
            if isinstance(where, int):
                os.removexattr(where, key)
            else:
                os.removexattr(where, key, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise

    # -- without opening -------------------------------------------------------------------------------------

    def mknod(
        self, frame: Frame, parent: Inode, name: bytes, mode: int, rdev: int, gfid: bytes, xdata: Xdata = None
    ) -> Iatt:
        directory = self.parent(parent, name)
        self.spend(frame, _BLOCK)
        if stat.S_IFMT(mode) in (stat.S_IFREG, 0):
            if os.path.lexists(self.handle_path(gfid)):
                return self._another_name(frame, directory, name, gfid)
            mode = self.permissions(directory, mode & 0o7777, frame, self.file_bits)
            new = os.open(name, _CREATE, mode, dir_fd=directory.fd)
            try:
                self.unmask(new, directory, mode)
                times = self._born(frame, directory, name, new, gfid, xdata)
                st = self.stat_of(new)
            except BaseException:
                self._unmake(directory, name, gfid)
                raise
            finally:
                os.close(new)
            self.stamp_dir(directory, frame.time_ns)
            return self.iatt(gfid, st, times)
        mode = stat.S_IFMT(mode) | self.permissions(directory, mode, frame, self.file_bits) & 0o7777
        return self._make(frame, directory, name, gfid, xdata, lambda: self.make_node(directory, name, mode, rdev))

    def symlink(self, frame: Frame, parent: Inode, name: bytes, text: bytes, gfid: bytes, xdata: Xdata = None) -> Iatt:
        directory = self.parent(parent, name)
        self.spend(frame, _BLOCK)
        if directory.acl is None:
            self.learn(directory)
        text = bytes(text)
        return self._make(frame, directory, name, gfid, xdata, lambda: self.make_symlink(directory, name, text))

    def make_node(self, directory: DirHandle, name: bytes, mode: int, rdev: int) -> None:
        os.mknod(name, mode, rdev, dir_fd=directory.fd)
        self.unmask(self.path_at(directory, name), directory, mode)

    def make_symlink(self, directory: DirHandle, name: bytes, text: bytes) -> None:
        os.symlink(text, name, dir_fd=directory.fd)

    def _make(
        self, frame: Frame, directory: DirHandle, name: bytes, gfid: bytes, xdata: Xdata, make: Callable[[], None]
    ) -> Iatt:
        """Make an object that cannot be opened."""
        make()
        try:
            here = self.path_at(directory, name)
            if frame.uid != self.uid or frame.gid != self.gid or self.mapped:
                self.own(here, frame, directory)
            self.set_xattr(here, self.GFID, gfid)
            times = self._first_times(here, frame)
            self.record_name(here, directory, name)
            self.give(here, xdata)
            self.link_handle(directory, name, gfid)
            st = self.stat_of(here)
        except BaseException:
            self._unmake(directory, name, gfid)
            raise
        self.stamp_dir(directory, frame.time_ns)
        return self.iatt(gfid, st, times)

    def mkdir(self, frame: Frame, parent: Inode, name: bytes, mode: int, gfid: bytes, xdata: Xdata = None) -> Iatt:
        directory = self.parent(parent, name)
        self.spend(frame, _BLOCK)
        mode = self.permissions(directory, mode & 0o1777, frame, self.dir_bits)
        os.mkdir(name, mode | 0o700 if self.mapped else mode, dir_fd=directory.fd)
        new = -1
        try:
            new = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
            self.unmask(new, directory, mode if directory.group is None else mode | 0o2000)
            if frame.uid != self.uid or frame.gid != self.gid or self.mapped:
                self.own(new, frame, directory)
            os.setxattr(new, self.GFID, gfid)
            self._claim(directory, name, gfid)
            times = self._first_times(new, frame)
            if xdata is not None:
                self.give(new, xdata)
            st = self.stat_of(new)
        except BaseException:
            if new >= 0:
                os.close(new)
            os.rmdir(name, dir_fd=directory.fd)
            raise
        self.keep_dir(gfid, new, times)
        self.stamp_dir(directory, frame.time_ns)
        return self.iatt(gfid, st, times)

    def _claim(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        """Make the handle of a new directory; one that is left from a crash in rmdir serves, or gives way."""
        self.drop_dir(gfid)
        try:
            self.link_directory(directory, name, gfid)
        except FileExistsError:
            if self.link_is(directory, name, gfid):
                return
            try:
                self.dir(gfid)
            except FopError:
                os.unlink(path_of(gfid), dir_fd=self.gl)
                self.link_directory(directory, name, gfid)
                return
            raise FopError(
                errno.EEXIST, f"{gfid_text(gfid)} is already associated with another directory than {name!r}"
            ) from None

    # -- links -----------------------------------------------------------------------------------------------

    def link(self, frame: Frame, inode: Inode, parent: Inode, name: bytes, xdata: Xdata = None) -> Iatt:
        return self._another_name(frame, self.parent(parent, name), name, inode.gfid)

    def _another_name(self, frame: Frame, directory: DirHandle, name: bytes, gfid: bytes) -> Iatt:
        self.made.pop(gfid, None)
        file = self.opened.get(gfid)
        nameless = file is not None and file.nameless
        if file is not None and nameless and not file.fresh:
            raise FopError(errno.ENOENT, f"{gfid_text(gfid)} has lost its last name")
        handle = unlink_path(gfid) if nameless else path_of(gfid)
        try:
            st = os.stat(handle, dir_fd=self.gl, follow_symlinks=False)
        except FileNotFoundError:
            raise stale(gfid) from None
        if stat.S_ISLNK(st.st_mode) and self.get_xattr(self.base + handle, self.GFID) is None:
            raise FopError(errno.EPERM, f"{gfid_text(gfid)} is a directory")
        if st.st_nlink > self.max_links:
            raise FopError(errno.EMLINK, f"{gfid_text(gfid)} has {st.st_nlink - 1} names (option max-hardlinks)")
        os.link(handle, name, src_dir_fd=self.gl, dst_dir_fd=directory.fd, follow_symlinks=False)
        if file is not None and nameless:
            self.link_handle(directory, name, gfid)
            os.unlink(handle, dir_fd=self.gl)
            file.nameless = file.fresh = False
        where: int | str = file.fd if file is not None else self.handle_path(gfid)
        self.record_name(where, directory, name)
        times = self.stamp(where, gfid, frame.time_ns)
        self.stamp_dir(directory, frame.time_ns)
        return self.iatt(gfid, self.stat_of(where), times)

    def tmpfile(
        self, frame: Frame, parent: Inode, flags: int, mode: int, gfid: bytes, fd: Fd, xdata: Xdata = None
    ) -> Iatt:
        """A file without a name is kept like one whose last name was removed while it was open."""
        directory = self.dir(parent.gfid)
        self.spend(frame, _BLOCK)
        mode = self.permissions(directory, mode, frame, self.file_bits)
        new = os.open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=directory.fd)
        try:
            self.unmask(new, directory, mode)
            if frame.uid != self.uid or frame.gid != self.gid or self.mapped:
                self.own(new, frame, directory)
            os.setxattr(new, self.GFID, gfid)
            os.link(f"/proc/self/fd/{new}", unlink_path(gfid), dst_dir_fd=self.gl, follow_symlinks=True)
            times = self._first_times(new, frame)
            self.give(new, xdata)
            st = self.stat_of(new)
        except BaseException:
            os.close(new)
            raise
        file = fd.ctx[self.slot] = self.opened[gfid] = OpenFile(gfid, new, times, setid=mode & 0o6000 != 0)
        file.nameless = file.fresh = True
        return self.iatt(gfid, st, times)
