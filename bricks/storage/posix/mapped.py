"""Bricks of ordinary users: what only root may do is kept in `user.*` attributes instead, and nothing is lost.

    trusted.X, security.X      user.fusemux.trusted.X, user.fusemux.security.X
    owner and group            user.fusemux.stat
    owner's permissions        the backing file keeps at least rw (rwx), or we could not serve it; the true ones in user.fusemux.stat
    devices, fifos, sockets,   an empty regular file, for a symbolic link one with its text, and the true type in
    symbolic links             user.fusemux.stat, because only files and directories carry user.* attributes

`user.fusemux.stat` is 20 bytes, big-endian: mode with type (u32), uid (u32), gid (u32), rdev (u64).  It is there only
where it says something that the backing store does not.  The permissions of group and others, and ACLs, are those
of the backing file, so a default ACL is inherited as ever.

Such a brick cannot be served by GlusterFS as it is; copying it with the names mapped back makes it one that can.
(QEMU's 9p server keeps what it may not set in the same way, `security_model=mapped-xattr`.)
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from fusemux.bricks.storage.posix.directories import DirHandle, DirHandles
from fusemux.bricks.storage.posix.store import Store
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Frame, Xdata

__all__ = ["PREFIX", "MappedStore"]

PREFIX = b"user.fusemux."
_STAT = PREFIX + b"stat"
_FORMAT = struct.Struct(">IIIQ")
_MAPPED = (b"trusted.", b"security.")
_ACL_ACCESS = b"system.posix_acl_access"
_ACL_OWNER = struct.Struct("<HHI")  # tag 1 (the owner), permissions, unused id


class _Stat(NamedTuple):
    """The attributes that callers see; stands for an os.stat_result."""

    st_mode: int
    st_ino: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_rdev: int
    st_size: int
    st_blocks: int
    st_blksize: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int


class _Kept(NamedTuple):
    """The contents of user.fusemux.stat."""

    mode: int
    uid: int
    gid: int
    rdev: int


def _needed(mode: int) -> int:
    """What the backing file must grant its owner, which is us."""
    return 0o700 if stat.S_ISDIR(mode) else 0o600


class MappedStore(Store):
    def __init__(self, path: str, handles: DirHandles, *, fd_slot: int = 0, threads: bool = False) -> None:
        super().__init__(path, handles, fd_slot=fd_slot, threads=threads)
        self.mapped = True
        self.GFID = self.stored(self.GFID)
        self.MDATA = self.stored(self.MDATA)
        self.GFID2PATH = self.stored(self.GFID2PATH)

    # -- names of xattrs -------------------------------------------------------------------------------------

    def stored(self, name: bytes) -> bytes:
        if name.startswith(PREFIX):
            raise FopError(errno.EPERM, "user.fusemux. belongs to the brick")
        return PREFIX + name if name.startswith(_MAPPED) else name

    def shown(self, stored: bytes) -> bytes | None:
        if stored == _STAT:
            return None
        return stored.removeprefix(PREFIX)

    def get_value(self, where: int | str, stored: bytes) -> bytes | None:
        """An ACL says what the owner truly may."""
        value = super().get_value(where, stored)
        if stored != _ACL_ACCESS or value is None:
            return value
        return _with_owner(value, self.stat_of(where).st_mode >> 6 & 7)

    def put_value(self, where: int | str, stored: bytes, value: bytes, flags: int) -> None:
        if stored != _ACL_ACCESS:
            super().put_value(where, stored, value, flags)
            return
        owner = _owner_in(value)
        if owner is None:
            raise FopError(errno.EINVAL, "an ACL without an entry for the owner")
        mode, kept = self._native(where), self._kept(where)
        super().put_value(where, stored, _with_owner(value, owner | _needed(mode) >> 6), flags)
        self._keep(where, kept, (self._seen(mode, kept) & ~0o700) | owner << 6)

    def answers(
        self, xdata: Any, gfid: bytes, present: Iterable[bytes], where: int | str | tuple[int, bytes]
    ) -> dict[bytes, bytes]:
        answers = super().answers(xdata, gfid, present, where)
        if _ACL_ACCESS in answers:
            st = self.stat_at(*where) if isinstance(where, tuple) else self.stat_of(where)
            answers[_ACL_ACCESS] = _with_owner(answers[_ACL_ACCESS], st.st_mode >> 6 & 7)
        return answers

    # -- attributes ------------------------------------------------------------------------------------------

    def _native(self, where: int | str) -> int:
        return (os.fstat(where) if isinstance(where, int) else os.lstat(where)).st_mode

    def _kept(self, where: int | str) -> _Kept | None:
        value = self.get_xattr(where, _STAT)
        return None if value is None else _Kept(*_FORMAT.unpack(value))

    @staticmethod
    def _seen(native: int, kept: _Kept | None) -> int:
        """Type and owner's permissions as kept, all else as on the backing store."""
        return native if kept is None else native & 0o7077 | kept.mode & 0o170700

    def _keep(self, where: int | str, kept: _Kept | None, mode: int, uid: int = -1, gid: int = -1) -> None:
        """Record what the backing store cannot: -1 leaves an owner as it was."""
        before = kept or _Kept(mode, self.uid, self.gid, 0)
        now = _Kept(mode, before.uid if uid < 0 else uid, before.gid if gid < 0 else gid, before.rdev)
        plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        if plain and (now.uid, now.gid) == (self.uid, self.gid) and mode & 0o700 == self._native(where) & 0o700:
            if kept is not None:
                os.removexattr(where, _STAT, follow_symlinks=isinstance(where, int))
        elif now != kept:
            self.set_xattr(where, _STAT, _FORMAT.pack(*now))

    def _translate(self, st: os.stat_result, value: bytes | None) -> Any:
        kept = None if value is None else _Kept(*_FORMAT.unpack(value))
        mode = self._seen(st.st_mode, kept)
        uid, gid, rdev = (st.st_uid, st.st_gid, 0) if kept is None else (kept.uid, kept.gid, kept.rdev)
        return _Stat(
            mode, st.st_ino, st.st_nlink, uid, gid, rdev, st.st_size, st.st_blocks, st.st_blksize,
            st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns,
        )  # fmt: skip

    def stat_of(self, where: int | str) -> os.stat_result:
        st = super().stat_of(where)
        seen: os.stat_result = self._translate(st, self.get_xattr(where, _STAT))
        return seen

    def stat_at(self, dirfd: int, name: bytes) -> os.stat_result:
        st = super().stat_at(dirfd, name)
        if stat.S_ISLNK(st.st_mode):
            return st  # a directory's handle
        seen: os.stat_result = self._translate(st, self.xattrs.get(dirfd, name, _STAT))
        return seen

    def unmask(self, where: int | str, directory: DirHandle, mode: int) -> None:
        super().unmask(where, directory, mode)
        native = self._native(where)
        if native & ~mode & 0o700:  # a directory, which was made so that it could be opened
            os.chmod(where, stat.S_IMODE(native) & (mode | 0o7077))

    def own(self, where: int | str, frame: Frame, directory: DirHandle) -> None:
        mode = self._native(where)
        os.chmod(where, stat.S_IMODE(mode) | _needed(mode))  # before anything else: user.* follows the permissions
        kept = self._kept(where)
        gid = frame.gid if directory.group is None else directory.group
        self._keep(where, kept, self._seen(mode, kept), frame.uid, gid)

    def learn(self, directory: DirHandle) -> None:
        super().learn(directory)
        if directory.group is not None:
            directory.group = self.stat_of(directory.fd).st_gid

    def chown(self, where: int | str, uid: int, gid: int) -> None:
        mode, kept = self._native(where), self._kept(where)
        drop = 0o4000 | (0o2000 if mode & 0o010 else 0)
        if mode & drop and not stat.S_ISDIR(mode):
            mode &= ~drop
            os.chmod(where, stat.S_IMODE(mode))
        self._keep(where, kept, self._seen(mode, kept), uid, gid)

    def chmod(self, where: int | str, mode: int) -> None:
        native, kept = self._native(where), self._kept(where)
        if stat.S_ISLNK(self._seen(native, kept)):
            raise FopError(errno.EOPNOTSUPP, "a symbolic link has no mode")
        os.chmod(where, mode & 0o7777 | _needed(native))
        self._keep(where, kept, stat.S_IFMT(self._seen(native, kept)) | mode & 0o7777)

    # -- what is no file and no directory --------------------------------------------------------------------

    def make_node(self, directory: DirHandle, name: bytes, mode: int, rdev: int) -> None:
        self._stand_in(directory, name, mode, rdev, b"")

    def make_symlink(self, directory: DirHandle, name: bytes, text: bytes) -> None:
        if not 0 < len(text) < 4096:
            raise FopError(errno.ENAMETOOLONG if text else errno.ENOENT)
        self._stand_in(directory, name, stat.S_IFLNK | 0o777, 0, text)

    def _stand_in(self, directory: DirHandle, name: bytes, mode: int, rdev: int, text: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, stat.S_IMODE(mode), dir_fd=directory.fd)
        try:
            self.unmask(fd, directory, mode)
            os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | 0o600)
            os.write(fd, text)
            os.setxattr(fd, _STAT, _FORMAT.pack(mode, self.uid, self.gid, rdev))
        finally:
            os.close(fd)

    def readlink(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> bytes:
        path = self.handle_path(inode.gfid)
        if not stat.S_ISLNK(self.stat_of(path).st_mode):
            raise FopError(errno.EINVAL)
        with open(path, "rb") as file:
            return file.read()

    def listed_type(self, type_: int) -> int:
        return 0 if type_ == stat.S_IFREG >> 12 else type_ << 12  # it may stand for something else


def _owner_in(acl: bytes) -> int | None:
    """The owner's permissions in an ACL xattr: a header of 4 bytes, then entries of 8."""
    for at in range(4, len(acl) - 7, 8):
        tag, permissions, _ = _ACL_OWNER.unpack_from(acl, at)
        if tag == 1:
            return int(permissions)
    return None


def _with_owner(acl: bytes, permissions: int) -> bytes:
    changed = bytearray(acl)
    for at in range(4, len(acl) - 7, 8):
        tag, _, id_ = _ACL_OWNER.unpack_from(acl, at)
        if tag == 1:
            _ACL_OWNER.pack_into(changed, at, tag, permissions, id_)
    return bytes(changed)
