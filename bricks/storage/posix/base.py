"""What all fops of a brick's store share: addressing objects by gfid, attributes, time stamps.

`Store` is plain synchronous code: every method makes system calls and returns; errors are `OSError`s (or `FopError`s
where no system call failed).  The translator decides in which thread it runs.

State is bounded by what is in use: `dirs`, the directories lately used (see directories.py), and `opened`, the files
that are open; what is in `late` (see late.py) is in one of them, or is a directory that was evicted by the very fop that
changed it.  Everything else is found on the disk: an object by its handle, a name by its directory's descriptor.  No path
ever contains a user's name, so neither PATH_MAX nor a rename above can hurt.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from fusemux.bricks.storage.posix import mdata
from fusemux.bricks.storage.posix.directories import DirHandle, DirHandles
from fusemux.bricks.storage.posix.handle import DOT_GLUSTERFS, parse_link, path_of, unlink_path
from fusemux.bricks.storage.posix.late import LateTimes
from fusemux.bricks.storage.posix.mdata import Times
from fusemux.bricks.storage.posix.syscalls import Dirent, XattrsByPath, xattrs_at
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import DIRECTORY_BLOCKS, DIRECTORY_SIZE, ROOT_GFID, Iatt, Xdata, gfid_text

__all__ = ["UNCOUNTED", "DirStream", "OpenFile", "StoreBase", "stale"]

_new = tuple.__new__
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DEFAULT_ACL = "system.posix_acl_default"


UNCOUNTED = (b"", b"")
MADE_MAX = 256  # of one brick: then all are forgotten


class OpenFile:
    """A file that is open, once for all that opened it: offsets are always explicit, so one descriptor is enough.

    The descriptor closes with the last reference to the object, so no thread can meet another file at its number.
    """

    __slots__ = ("counter", "fd", "fresh", "gfid", "nameless", "passed_ns", "refs", "setid", "times")

    def __init__(self, gfid: bytes, fd: int, times: Times | None, *, setid: bool = False) -> None:
        self.gfid = gfid
        self.fd = fd
        self.times = times
        self.setid = setid  # whether set-user-ID or set-group-ID are on: writing must clear them
        self.refs = 1
        self.fresh = False  # it never had a name (O_TMPFILE), and may still get one
        self.passed_ns = 0  # not 0: the kernel may write it by itself, and this is when it was last seen to have
        # The xattr that was counted in last, and its value (None: there is none); UNCOUNTED: a new file, which has no such xattrs.
        self.counter: tuple[bytes, bytes | None] | None = None
        self.nameless = False  # the last name is gone, its handle lies in .glusterfs/unlink

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class DirStream:
    """A directory opened for reading: a descriptor of its own, because it has a position."""

    __slots__ = ("ahead", "fd", "gfid", "offset")

    def __init__(self, gfid: bytes, fd: int) -> None:
        self.gfid = gfid
        self.fd = fd
        self.offset = 0  # what the next entry comes after
        self.ahead: list[Dirent] = []  # reversed


def stale(gfid: bytes, why: str = "has no handle on this brick") -> FopError:
    return FopError(errno.ESTALE, f"{gfid_text(gfid)} {why}")


class StoreBase(LateTimes):
    def __init__(self, path: str, handles: DirHandles, *, fd_slot: int = 0, threads: bool = False) -> None:
        super().__init__(path)
        self.slot = fd_slot
        self.handles = handles
        self.dirs: dict[bytes, DirHandle] = {}
        self.opened: dict[bytes, OpenFile] = {}
        self.streams: set[DirStream] = set()
        self.made: dict[bytes, tuple[bytes, bytes]] = {}  # directory and only name of files made lately
        self.uid, self.gid = os.geteuid(), os.getegid()
        self.xattrs = XattrsByPath() if threads else xattrs_at()
        self.GFID = b"trusted.gfid"
        self.GFID2PATH = b"trusted.gfid2path."
        self.ctime = True
        self.gfid2path = True
        self.mapped = False  # see mapped.py
        self.umask = 0o077  # of the process; unless it is 0, modes are set again after a create
        self.counts_xattrs = threads  # a disk may need blocks for them, memory does not
        self.gl = -1  # .glusterfs
        self.shares = 1  # bricks of this volume on the same backing file system
        self.reserve: tuple[str, float] = ("percent", 1.0)
        self.max_links = 100
        self.file_bits = self.dir_bits = (
            0o7777,
            0,
        )  # options create-mask and force-create-mode, and those of directories
        self.fips = True
        self.separator = ":"
        self.room = 0  # bytes that may be stored before free space is looked at again

    def begin(self) -> None:
        """Open the brick, whose directory was checked."""
        root = os.open(self.path, _DIR)
        self.gl = os.open(DOT_GLUSTERFS, _DIR, dir_fd=root)
        self.base = os.path.join(os.path.abspath(self.path), ".glusterfs", "")
        self.root = DirHandle(self, ROOT_GFID, root, gfid_text(ROOT_GFID).encode() + b"/", self._times_fd(root))
        self.dirs[ROOT_GFID] = self.root
        self.blksize = os.fstat(root).st_blksize

    def forget(self, file: OpenFile) -> None:
        """Nobody has `file` open any more; if it has no name either, it is gone."""
        self.opened.pop(file.gfid, None)
        if file.nameless:
            self.late.pop(file.gfid, None)
            with suppress(FileNotFoundError):
                os.unlink(unlink_path(file.gfid), dir_fd=self.gl)
        elif self.late:
            self.record_late(file.gfid)

    def end(self) -> None:
        """Close everything, the users' files included.  Never raises."""
        self.record_all()
        if self.recorder is not None:
            self.recorder.leave(self)
            self.recorder = None
        self.handles.leave(self)
        for directory in list(self.dirs.values()):
            directory.close()
        self.dirs.clear()
        for file in list(self.opened.values()):
            self.forget(file)
            file.close()
        for stream in self.streams:
            os.close(stream.fd)
            stream.fd = -1
        self.streams.clear()
        if self.gl >= 0:
            os.close(self.gl)
            self.gl = -1

    # -- finding objects -------------------------------------------------------------------------------------

    def dir(self, gfid: bytes) -> DirHandle:
        """The directory `gfid`.  Raises ESTALE when there is none."""
        found = self.dirs.get(gfid)
        if found is not None:
            found.used = True
            return found
        return self._open_dir(gfid)

    def _open_dir(self, gfid: bytes) -> DirHandle:
        """Follow the handles' texts up to a directory that is open, then open downwards.

        The kernel would follow them itself, but only forty of them.
        """
        missing: list[tuple[bytes, bytes]] = []
        at = gfid
        while at not in self.dirs:
            try:
                parsed = parse_link(os.readlink(os.fsencode(path_of(at)), dir_fd=self.gl))
            except (FileNotFoundError, NotADirectoryError):
                raise stale(gfid) from None
            except OSError as error:
                if error.errno == errno.EINVAL:
                    raise FopError(errno.ENOTDIR, f"{gfid_text(at)} is no directory") from None
                raise
            if parsed is None:
                raise FopError(errno.ENOTDIR, f"{gfid_text(at)} is no directory")
            missing.append((at, parsed[1]))
            at = parsed[0]
            if len(missing) > 100_000 or at == gfid:
                raise FopError(errno.ELOOP, f"the handles of {gfid_text(gfid)} run in a circle")
        below = self.dirs[at]
        for at, name in reversed(missing):
            below = self._enter(at, below, name)
        return below

    def _enter(self, gfid: bytes, parent: DirHandle, name: bytes) -> DirHandle:
        try:
            fd = os.open(name, _DIR | os.O_NOFOLLOW, dir_fd=parent.fd)
        except (FileNotFoundError, NotADirectoryError):
            raise stale(gfid, "has a handle that leads nowhere") from None
        return self._adopt(gfid, fd)

    def _adopt(self, gfid: bytes, fd: int) -> DirHandle:
        """Make the open directory `fd` known as `gfid`; it must be that."""
        try:
            if os.getxattr(fd, self.GFID) != gfid:
                raise stale(gfid, "has a handle that leads to another directory")
            self.record_late(gfid)  # a fop that used it and another one may have evicted it before it was done with it
            times = self._times_fd(fd)
        except BaseException:
            os.close(fd)
            raise
        return self.keep_dir(gfid, fd, times)

    def keep_dir(self, gfid: bytes, fd: int, times: Times | None) -> DirHandle:
        directory = DirHandle(self, gfid, fd, gfid_text(gfid).encode() + b"/", times)
        self.dirs[gfid] = directory
        self.handles.add(directory)
        return directory

    def drop_dir(self, gfid: bytes) -> None:
        if self.late:
            self.record_late(gfid)
        self.dirs.pop(gfid, None)

    def learn(self, directory: DirHandle) -> None:
        """Find out what new entries of `directory` inherit; asked again after its mode, group or ACL has changed."""
        st = os.fstat(directory.fd)
        directory.group = st.st_gid if st.st_mode & stat.S_ISGID else None
        directory.acl = self.get_xattr(directory.fd, _DEFAULT_ACL) is not None

    def handle_path(self, gfid: bytes) -> str:
        """The absolute path of a handle."""
        return self.base + path_of(gfid)

    def where(self, target: Inode | Fd) -> int | str:
        """What `os` functions that take a path or a descriptor may use for `target`.

        Paths must be used with follow_symlinks=False.
        """
        if isinstance(target, Fd):
            handle = target.ctx[self.slot]
            if handle is None:
                raise FopError(errno.EBADF, "the file is not open on this brick")
            fd: int = handle.fd
            return fd
        gfid = target.gfid
        file = self.opened.get(gfid)
        if file is not None:
            return file.fd
        if gfid in self.dirs or target.type == stat.S_IFDIR:
            return self.dir(gfid).fd
        path = self.handle_path(gfid)
        return path if target.type else self._unknown(gfid, path)

    def _unknown(self, gfid: bytes, path: str) -> int | str:
        """`where` when the type is not known: a directory's handle is a symbolic link without a gfid of its own."""
        try:
            if stat.S_ISLNK(os.lstat(path).st_mode) and self.get_xattr(path, self.GFID) is None:
                return self.dir(gfid).fd
        except FileNotFoundError:
            raise stale(gfid) from None
        return path

    # -- attributes ------------------------------------------------------------------------------------------

    def get_xattr(self, where: int | str, name: bytes | str) -> bytes | None:
        """The raw value, None when absent."""
        try:
            if isinstance(where, int):
                return os.getxattr(where, name)
            return os.getxattr(where, name, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return None
            raise

    def set_xattr(self, where: int | str, name: bytes | str, value: bytes, flags: int = 0) -> None:
        if isinstance(where, int):
            os.setxattr(where, name, value, flags)
        else:
            os.setxattr(where, name, value, flags, follow_symlinks=False)

    def _times_fd(self, fd: int) -> Times | None:
        if not self.ctime:
            return None
        value = self.get_xattr(fd, self.MDATA)
        return None if value is None else mdata.unpack(value)

    def stat_of(self, where: int | str) -> os.stat_result:
        return os.fstat(where) if isinstance(where, int) else os.lstat(where)

    def stat_at(self, dirfd: int, name: bytes) -> os.stat_result:
        return os.stat(name, dir_fd=dirfd, follow_symlinks=False)

    def iatt(self, gfid: bytes, st: os.stat_result, times: Times | None, xdata: Xdata = None) -> Iatt:
        """The answer for an object: one link less than on the disk (the handle), its recorded times if it has any.

        All directories have the same size, as volumes of several bricks show them: what it is on a disk says nothing.
        """
        mode, nlink = st.st_mode, st.st_nlink
        if times is None:
            times = (st.st_ctime_ns, st.st_mtime_ns, st.st_atime_ns)
        if mode & 0o170000 == 0o040000:
            size, blocks = DIRECTORY_SIZE, DIRECTORY_BLOCKS
        else:
            nlink, size, blocks = nlink - 1, st.st_size, st.st_blocks
        return _new(Iatt, (
            gfid, mode, nlink, st.st_uid, st.st_gid, st.st_rdev,
            size, blocks, st.st_blksize, times[2], times[1], times[0], xdata,
        ))  # fmt: skip
