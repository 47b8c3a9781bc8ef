"""A directory and a record of everything that was done in it, so that two directories can be compared call by call.

A script calls `w.mkdir(b"d", 0o755)`, `w.open(...)`, ...: the methods are those of `CALLS`, named like the system calls.
Each writes one line into the transcript: the call, its arguments, and its result or the name of its errno.  A failing call
never raises: it returns None (an fd: -1), and the script goes on, the same on both sides.

What cannot be equal is made comparable here: inode numbers become the order in which they were first seen, times
become what has changed since the last look, sizes of directories and device numbers of the file system are left out.

Some calls cannot pass through the binding under test (`lacks`: label -> what happens instead, a key of `INSTEAD`).  On the
reference side these are not carried out but imitated, so both sides stay comparable; the side under test must really
answer so, and when it one day succeeds the comparison fails until the row is removed.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import pickle
import stat
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.parity import libc

Line = tuple[str, str]

CLOCK_REALTIME_COARSE = 5  # linux/time.h; what file systems stamp with
SHOWN = 64  # longer results are shown by their length and digest


def _scanned(path: bytes) -> list[tuple[bytes, str]]:
    with os.scandir(path) as entries:
        return sorted((entry.name, _type(entry.stat(follow_symlinks=False).st_mode)) for entry in entries)


def _type(mode: int) -> str:
    return {
        stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
        stat.S_IFSOCK: "socket", stat.S_IFCHR: "char", stat.S_IFBLK: "block",
    }[stat.S_IFMT(mode)]  # fmt: skip


def _seek_without_holes(fd: int, offset: int, whence: int) -> int:
    """What the kernel answers for a file system that does not know of holes."""
    size = os.fstat(fd).st_size
    if not 0 <= offset < size:
        raise OSError(errno.ENXIO, "past the end")
    return offset if whence == os.SEEK_DATA else size


def _allocate_not_at_all(fd: int, mode: int, offset: int, length: int) -> None:
    """The kernel's own checks come first; then a mode that tmpfs refuses as a file system without fallocate refuses all."""
    if mode in (0, libc.FALLOC_KEEP_SIZE, libc.FALLOC_KEEP_SIZE | libc.FALLOC_PUNCH_HOLE):
        mode = libc.FALLOC_COLLAPSE_RANGE
    libc.fallocate(fd, mode, offset, length)


def _open_without_tmpfile(path: bytes, flags: int, mode: int) -> int:
    os.close(os.open(path, flags, mode))
    raise OSError(errno.EOPNOTSUPP, "no O_TMPFILE")


INSTEAD: dict[str, Callable[..., Any]] = {
    "no holes": _seek_without_holes,
    "no fallocate": _allocate_not_at_all,
    "no O_TMPFILE": _open_without_tmpfile,
}


def _readv(fd: int, *lengths: int) -> bytes:
    buffers = [bytearray(length) for length in lengths]
    count = os.readv(fd, buffers)
    return b"".join(buffers)[:count]


CALLS: dict[str, Callable[..., Any]] = {
    **{name: getattr(os, name) for name in (
        "open", "close", "read", "write", "pread", "pwrite", "writev", "pwritev", "lseek", "truncate", "ftruncate", "fsync",
        "fdatasync", "mkdir", "rmdir", "rename", "link", "symlink", "unlink", "readlink", "chmod", "fchmod",
        "chown", "fchown", "lchown", "access", "setxattr", "getxattr", "removexattr", "mknod", "mkfifo", "posix_fallocate",
        "copy_file_range", "sendfile", "umask", "chdir", "fchdir", "utime", "sync", "dup")},
    "readv": _readv,
    "renameat2": libc.renameat2,
    "fallocate": libc.fallocate,
    "utimensat": libc.utimensat,
    "linkat": libc.linkat,
    "syncfs": libc.syncfs,
    "scandir": _scanned,
    "listdir": lambda path: sorted(os.listdir(path)),
    "listxattr": lambda path, **kw: sorted(name for name in os.listxattr(path, **kw) if shown_xattr(name)),
}  # fmt: skip

STATS = ("stat", "lstat", "fstat")


def shown_xattr(name: str) -> bool:
    """security.* depends on the machine; trusted.* and system.* are compared."""
    return not name.startswith("security.")


def shown(value: Any) -> str:
    if isinstance(value, bytes) and len(value) > SHOWN:
        return f"<{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()[:16]}>"
    return repr(value)


class World:
    """One side of a comparison: `root` is the working directory while scripts run."""

    def __init__(self, *, lacks: Mapping[str, str] | None = None, lines: list[Line] | None = None) -> None:
        self.lacks = lacks or {}  # only on the reference side
        self.lines: list[Line] = [] if lines is None else lines
        self.held: list[int] = []
        self._inodes: dict[int, int] = {}
        self._seen: dict[int, tuple[int, int, int]] = {}

    # -- recording -------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in STATS:
            return lambda *args, **kw: self.step(
                _label(name, args, kw), lambda: self._stat(getattr(os, name)(*args, **kw))
            )
        try:
            call = CALLS[name]
        except KeyError:
            raise AttributeError(name) from None
        if name == "open":
            return lambda *args, **kw: self._open(*args, **kw)
        return lambda *args, **kw: self.step(_label(name, args, kw), lambda: call(*args, **kw), kind=name, args=args)

    def step(self, label: str, action: Callable[[], Any], *, kind: str = "", args: tuple[Any, ...] = ()) -> Any:
        """Do something of the script's own and record its result or its errno."""
        instead = self._instead(kind, args)
        if instead is not None:
            action = functools.partial(instead, *args)
        try:
            result = action()
        except OSError as error:
            self.lines.append((label, _errno_name(error)))
            return None
        self.lines.append((label, shown(result)))
        return result

    def say(self, label: str, value: Any) -> None:
        """Record something that the script has worked out."""
        self.lines.append((label, shown(value)))

    def _instead(self, kind: str, args: tuple[Any, ...]) -> Callable[..., Any] | None:
        """What happens instead of this call where the side under test lacks it."""
        if not self.lacks or kind not in _FLAG_AT:
            return None
        flag = _flag_name(kind, args[_FLAG_AT[kind]])
        name = self.lacks.get(f"{kind}:{flag}", self.lacks.get(kind))
        return INSTEAD[name] if name is not None else None

    def _open(self, path: bytes, flags: int, mode: int = 0o666) -> int:
        label = f"open({path!r}, {open_flags(flags)}, {mode:#o})"
        call = self._instead("open", (path, flags)) or os.open
        try:
            fd: int = call(path, flags, mode)
        except OSError as error:
            self.lines.append((label, _errno_name(error)))
            return -1
        self.lines.append((label, "fd"))
        return fd

    # -- what is comparable of a stat -----------------------------------------------------------------------

    def inode(self, number: int) -> int:
        """Inode numbers as the order in which they were seen: equal numbers are hard links."""
        return self._inodes.setdefault(number, len(self._inodes))

    def _stat(self, st: os.stat_result) -> dict[str, Any]:
        kind = _type(st.st_mode)
        fields: dict[str, Any] = {
            "type": kind,
            "mode": oct(stat.S_IMODE(st.st_mode)),
            "uid": st.st_uid,
            "gid": st.st_gid,
        }
        fields["nlink"] = st.st_nlink
        fields["inode"] = self.inode(st.st_ino)
        if kind in ("file", "symlink"):
            fields["size"] = st.st_size
        if kind in ("char", "block"):
            fields["rdev"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
        return fields

    # -- times ----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Wait until the clock that file systems stamp with has passed the present moment, so that a change shows in the times.

        It moves in steps, and a late step leaves it behind stamps that were taken from the fine clock.
        """
        now = time.time_ns()
        while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= now:
            pass

    def times(self, target: bytes | int, *, atime: bool = False) -> None:
        """Record which times have changed since the last look at this inode; `first` on the first look."""
        label = f"times({target!r})"
        try:
            st = os.stat(target, follow_symlinks=False) if isinstance(target, bytes) else os.fstat(target)
        except OSError as error:
            self.lines.append((label, _errno_name(error)))
            return
        now = (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns)
        before = self._seen.get(st.st_ino)
        self._seen[st.st_ino] = now
        if before is None:
            self.lines.append((label, "first"))
            return
        words = [word for word, old, new in zip(("atime", "mtime", "ctime"), before, now, strict=True) if old != new]
        self.lines.append((label, "changed: " + " ".join(word for word in words if atime or word != "atime")))

    def exact_times(self, path: bytes) -> None:
        """Record access and modification time, which the script has set, to the nanosecond."""
        self.step(f"exact_times({path!r})", lambda: (os.lstat(path).st_atime_ns, os.lstat(path).st_mtime_ns))

    # -- files that stay open between calls, for random sequences ---------------------------------------------

    def hold(self, path: bytes, flags: int) -> None:
        """Open a file and keep it in the next place of `held`."""
        fd = self._open(path, flags)
        if fd >= 0:
            self.held.append(fd)

    def on_held(self, place: int, call: str, *args: Any) -> None:
        getattr(self, call)(self.held[place % len(self.held)], *args)

    def close_held(self, place: int) -> None:
        self.close(self.held.pop(place % len(self.held)))

    def write_whole(self, path: bytes, data: bytes) -> None:
        fd = self._open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK)
        self.write(fd, data)
        self.close(fd)

    def read_whole(self, path: bytes) -> None:
        fd = self._open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.read(fd, 1 << 20)
        self.close(fd)

    def set_times(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        def both() -> tuple[int, int]:
            os.utime(path, ns=(atime_ns, mtime_ns))
            st = os.stat(path)
            return st.st_atime_ns, st.st_mtime_ns

        self.step(f"set_times({path!r}, {atime_ns}, {mtime_ns})", both)

    # -- other processes ------------------------------------------------------------------------------------

    def child(self, script: Callable[[World], None], *, uid: int = 0, gid: int = 0, groups: Sequence[int] = ()) -> None:
        """Run `script` in a forked child, as another user if asked, and take over what it recorded."""
        self.lines.append(("child", f"uid={uid} gid={gid} groups={list(groups)}"))
        self.lines += forked(lambda: self._in_child(script, uid, gid, groups))

    def _in_child(self, script: Callable[[World], None], uid: int, gid: int, groups: Sequence[int]) -> list[Line]:
        if os.geteuid() == 0:
            os.setgroups(list(groups))
            os.setgid(gid)
            os.setuid(uid)
        self.lines = []
        script(self)
        return self.lines

    # -- the whole tree -------------------------------------------------------------------------------------

    def snapshot(self, top: bytes = b".") -> None:
        """Record every entry below `top` with all that is comparable: the side effects of the script."""
        for folder, names in sorted(_walk(top)):
            self.lines.append((f"tree {folder!r}", repr(names)))
            for name in names:
                self._entry(os.path.join(folder, name))

    def _entry(self, path: bytes) -> None:
        try:
            fields = self._stat(os.lstat(path))
            if fields["type"] == "file":
                fields["content"] = _digest(path)
            elif fields["type"] == "symlink":
                fields["text"] = os.readlink(path)
            names = sorted(name for name in os.listxattr(path, follow_symlinks=False) if shown_xattr(name))
            fields["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        except OSError as error:
            self.lines.append((f"tree {path!r}", _errno_name(error)))
            return
        self.lines.append((f"tree {path!r}", repr(fields)))


def _walk(top: bytes) -> list[tuple[bytes, list[bytes]]]:
    found, waiting = [], [top]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except PermissionError:
            listed = [(b"(not for this user)", False)]
        found.append((folder, [name for name, _ in listed]))
        waiting += [os.path.join(folder, name) for name, is_dir in listed if is_dir]
    return found


def _digest(path: bytes) -> str:
    if os.path.getsize(path) > 64 << 20:
        return "sparse"
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def forked(work: Callable[[], Any]) -> Any:
    """The result of `work`, done in a forked child."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read_end)
            with os.fdopen(write_end, "wb") as pipe:
                try:
                    answer = (True, work())
                except BaseException:
                    answer = (False, traceback.format_exc())
                pickle.dump(answer, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        raw = pipe.read()
    os.waitpid(pid, 0)
    if not raw:
        raise RuntimeError("the child ended without an answer")
    good, result = pickle.loads(raw)
    if not good:
        raise RuntimeError(result)
    return result


_FLAGS = (
    "O_WRONLY", "O_RDWR", "O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_DIRECTORY", "O_NOFOLLOW", "O_DIRECT", "O_SYNC", "O_DSYNC",
    "O_PATH", "O_NONBLOCK", "O_NOATIME", "O_TMPFILE",
)  # fmt: skip


def open_flags(flags: int) -> str:
    """The names of open(2)'s flags, O_TMPFILE first because it contains O_DIRECTORY."""
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        return "|".join(["O_TMPFILE", *_names(flags & ~os.O_TMPFILE)])
    return "|".join(_names(flags)) or "O_RDONLY"


def _names(flags: int) -> list[str]:
    names = []
    for name in _FLAGS[:-1]:
        value = getattr(os, name)
        if value and flags & value == value and not (name == "O_DSYNC" and flags & os.O_SYNC == os.O_SYNC):
            names.append(name)
    return names


_FLAG_AT = {"fallocate": 1, "lseek": 2, "open": 1}


def _flag_name(kind: str, value: int) -> str:
    match kind:
        case "lseek":
            return {os.SEEK_DATA: "DATA", os.SEEK_HOLE: "HOLE"}.get(value, "SET")
        case "open":
            return "TMPFILE" if value & os.O_TMPFILE == os.O_TMPFILE else "plain"
        case _:
            return str(value)


def _errno_name(error: OSError) -> str:
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return {"ENOTSUP": "EOPNOTSUPP", "EWOULDBLOCK": "EAGAIN"}.get(name, name)


# Calls whose first arguments are descriptors, and how many.  Their numbers differ between the sides by what else is
# open there; who reads a transcript goes by the order of calls.
_DESCRIPTORS = dict.fromkeys(
    ("close", "read", "write", "pread", "pwrite", "readv", "writev", "pwritev", "lseek", "ftruncate", "fsync", "fdatasync", "fchmod",
     "fchown", "fstat", "fallocate", "posix_fallocate", "linkat", "syncfs", "fchdir", "dup"), 1)  # fmt: skip
_DESCRIPTORS |= {"copy_file_range": 2, "sendfile": 2}
_EITHER = ("getxattr", "setxattr", "removexattr", "listxattr", "stat", "truncate", "utime")  # a path or a descriptor


def _label(name: str, args: tuple[Any, ...], kw: Mapping[str, Any]) -> str:
    words = [shown(arg) for arg in args]
    count = _DESCRIPTORS.get(name, 1 if name in _EITHER and args and isinstance(args[0], int) else 0)
    words[:count] = ["fd"] * min(count, len(words))
    return f"{name}({', '.join([*words, *(f'{key}={shown(value)}' for key, value in kw.items())])})"
