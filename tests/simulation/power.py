"""What a brick's file system would have on its disk: a journal of the system calls that a brick makes.

The model is a journalling file system.  Changes of names, attributes, xattrs and shortened files survive a power cut in the order
they were made, up to some moment; a sync of any file makes all of them last that were made before.  What was written and not
synced may survive or not, in any file, but never what a surviving truncation took away, and never beyond the size that a file
had when the last surviving change was made: a size is one of the attributes.

While a brick's fops run, `Journal.recording` has `os` note how each change is undone; `Journal.cut` undoes what was lost, which may
begin between two system calls of one fop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

from fusemux.bricks.storage.posix import data, rename, syscalls

__all__ = ["Journal", "installed"]

_NAMES = ("open", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename", "setxattr", "removexattr", "chmod",
          "fchmod", "fchown", "lchown", "utime", "ftruncate", "pwrite", "copy_file_range", "fsync", "fdatasync")  # fmt: skip
_real = SimpleNamespace(**{name: getattr(os, name) for name in _NAMES})
_active: Journal | None = None
Path = int | str | bytes


class _Version(NamedTuple):
    """What a file held before one change of its contents."""

    place: int  # in the journal: how many changes came before
    content: bytes
    shortens: bool
    extends: bool


class _Unsynced:
    def __init__(self, fd: int) -> None:
        self.fd = _real.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        self.versions: list[_Version] = []

    def content(self) -> bytes:
        return os.pread(self.fd, os.fstat(self.fd).st_size, 0)

    def put_back(self, content: bytes) -> None:
        _real.ftruncate(self.fd, 0)
        _real.pwrite(self.fd, content, 0)


class Journal:
    """Of one brick; `trash` is a directory on the same file system."""

    def __init__(self, trash: str) -> None:
        self.trash = trash
        os.mkdir(trash)
        self.undo: list[Callable[[], None]] = []
        self.files: dict[int, _Unsynced] = {}  # by inode number
        self._moved = 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        global _active
        before, _active = _active, self
        try:
            yield
        finally:
            _active = before

    def cut(self, random: Random) -> str:
        """The power fails: go back to a state that the disk may be in.  What was lost, in words."""
        changes, files = len(self.undo), len(self.files)
        roll = random.random()
        kept = changes if roll < 0.25 else 0 if roll < 0.4 else random.randint(max(0, changes - 40), changes)
        contents = {number: self._survivor(file, kept, random) for number, file in self.files.items()}
        for undo in reversed(self.undo[kept:]):
            undo()
        for number, content in contents.items():
            if content is not None:
                self.files[number].put_back(content)
        self.sync()
        return f"{changes - kept} of {changes} changes, contents of {files} files"

    @staticmethod
    def _survivor(file: _Unsynced, kept: int, random: Random) -> bytes | None:
        """What a file holds after the cut; None: what it holds now."""
        states = [*file.versions, None]
        first, last = 0, len(states) - 1
        for place, version in enumerate(file.versions):
            if version.shortens and version.place < kept:
                first = place + 1
            elif version.shortens or (version.extends and version.place > kept):
                last = place
                break
        chosen = states[random.randint(first, last)]
        return chosen.content if chosen is not None else None

    def sync(self, number: int | None = None) -> None:
        """All that was made so far lasts; contents of the file with this inode number only, or of all."""
        self.undo.clear()
        for synced in [number] if number is not None else list(self.files):
            file = self.files.pop(synced, None)
            if file is not None:
                os.close(file.fd)
        for file in self.files.values():  # what was shortened is so for good
            shortened = max((place for place, v in enumerate(file.versions) if v.shortens), default=-1)
            file.versions = [v._replace(place=0) for v in file.versions[shortened + 1 :]]

    def changes(self, fd: int, size: int, *, cut: bool = False) -> None:
        """The contents of an open file are about to change up to `size`; `cut`: that will be its size."""
        status = os.fstat(fd)
        file = self.files.get(status.st_ino)
        if file is None:
            file = self.files[status.st_ino] = _Unsynced(fd)
        shortens = cut and size < status.st_size
        file.versions.append(_Version(len(self.undo), file.content(), shortens, size > status.st_size))
        if shortens:
            self.undo.append(lambda: None)

    def place(self) -> str:
        self._moved += 1
        return f"{self.trash}/{self._moved}"


# -- the calls -------------------------------------------------------------------------------------------------


def _absolute(path: Path, dir_fd: int | None = None) -> bytes:
    """A path that will mean the same when all later changes are undone."""
    if isinstance(path, int):
        return os.readlink(b"/proc/self/fd/%d" % path)
    name = os.fsencode(path)
    if dir_fd is not None:
        return os.readlink(b"/proc/self/fd/%d" % dir_fd) + b"/" + name
    return name


def _takes(call: str, undone: Callable[[bytes], Callable[[], None]]) -> Callable[..., Any]:
    """A call that makes a name in the last of its paths; `undone(path)` takes it away."""
    real = getattr(_real, call)

    def made(*args: Any, **where: Any) -> Any:
        result = real(*args, **where)
        if _active is not None:
            target = args[1] if call in ("link", "symlink") else args[0]
            _active.undo.append(undone(_absolute(target, where.get("dst_dir_fd", where.get("dir_fd")))))
        return result

    return made


def _open(path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    new = False
    if _active is not None and flags & os.O_CREAT:
        new = bool(flags & os.O_EXCL) or not _exists(_absolute(path, dir_fd))
    fd: int = _real.open(path, flags, mode, dir_fd=dir_fd)
    if new and _active is not None:
        where = _absolute(path, dir_fd)
        _active.undo.append(lambda: _real.unlink(where))
    return fd


def _exists(path: bytes) -> bool:
    return os.path.lexists(path)


def _away(journal: Journal, path: bytes) -> Callable[[], None]:
    """Take a name away; how to bring it back.  Raises OSError."""
    status = os.lstat(path)
    if status.st_nlink == 1:
        kept = os.fsencode(journal.place())
        _real.rename(path, kept)
        return lambda: _real.rename(kept, path)
    held = _Held(path)
    _real.unlink(path)
    return lambda: _real.link(b"/proc/self/fd/%d" % held.fd, path, src_dir_fd=held.fd, follow_symlinks=True)


class _Held:
    """A file that has other names, kept at hand to give it this one back."""

    def __init__(self, path: bytes) -> None:
        self.fd = _real.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self.fd)


def _unlink(path: Path, *, dir_fd: int | None = None) -> None:
    if _active is None:
        _real.unlink(path, dir_fd=dir_fd)
        return
    where = _absolute(path, dir_fd)
    if os.path.isdir(where) and not os.path.islink(where):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    _active.undo.append(_away(_active, where))


def _rmdir(path: Path, *, dir_fd: int | None = None) -> None:
    where = _absolute(path, dir_fd)
    if _active is None:
        _real.rmdir(path, dir_fd=dir_fd)
        return
    status = os.lstat(where)
    xattrs = {name: os.getxattr(where, name) for name in os.listxattr(where)}
    _real.rmdir(where)

    def back() -> None:
        _real.mkdir(where)
        _real.chmod(where, status.st_mode & 0o7777)
        for name, value in xattrs.items():
            _real.setxattr(where, name, value)

    _active.undo.append(back)


def _rename(old: Path, new: Path, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
    if _active is None:
        _real.rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        return
    source, target = _absolute(old, src_dir_fd), _absolute(new, dst_dir_fd)
    replaced = _exists(target) and not (os.path.isdir(target) and not os.path.islink(target))
    os.lstat(source)
    back = _away(_active, target) if replaced else None
    _real.rename(source, target)

    def undo() -> None:
        _real.rename(target, source)
        if back is not None:
            back()

    _active.undo.append(undo)


def _renameat2(olddir: int, oldname: bytes, newdir: int, newname: bytes, flags: int) -> None:
    assert _active is None, "the simulation has no renames with flags"
    syscalls.renameat2(olddir, oldname, newdir, newname, flags)


def _setxattr(path: Path, name: str | bytes, value: bytes, flags: int = 0, *, follow_symlinks: bool = True) -> None:
    old = _xattr(path, name, follow_symlinks) if _active is not None else None
    _real.setxattr(path, name, value, flags, follow_symlinks=follow_symlinks)
    if _active is not None:
        _active.undo.append(_xattr_back(path, name, old))


def _removexattr(path: Path, name: str | bytes, *, follow_symlinks: bool = True) -> None:
    old = _xattr(path, name, follow_symlinks) if _active is not None else None
    _real.removexattr(path, name, follow_symlinks=follow_symlinks)
    if _active is not None:
        _active.undo.append(_xattr_back(path, name, old))


def _xattr(path: Path, name: str | bytes, follow_symlinks: bool) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=follow_symlinks)
    except OSError:
        return None


def _xattr_back(path: Path, name: str | bytes, old: bytes | None) -> Callable[[], None]:
    where = _absolute(path)

    def back() -> None:
        with suppress(FileNotFoundError):  # a file without names: nobody will see it
            if old is None:
                _real.removexattr(where, name, follow_symlinks=False)
            else:
                _real.setxattr(where, name, old, follow_symlinks=False)

    return back


def _attributes(call: str) -> Callable[..., Any]:
    real = getattr(_real, call)

    def change(path: Path, *args: Any, **how: Any) -> None:
        if _active is None:
            real(path, *args, **how)
            return
        where = _absolute(path, how.get("dir_fd"))
        before = os.lstat(where) if _exists(where) else None
        real(path, *args, **how)

        def back() -> None:
            if before is not None and _exists(where):
                _real.lchown(where, before.st_uid, before.st_gid)
                if not os.path.islink(where):
                    _real.chmod(where, before.st_mode & 0o7777)
                _real.utime(where, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)

        _active.undo.append(back)

    return change


def _ftruncate(fd: int, size: int) -> None:
    if _active is not None:
        _active.changes(fd, size, cut=True)
    _real.ftruncate(fd, size)


def _pwrite(fd: int, text: Any, offset: int) -> int:
    if _active is not None:
        _active.changes(fd, offset + len(text))
    done: int = _real.pwrite(fd, text, offset)
    return done


def _synced(call: str) -> Callable[[int], None]:
    real = getattr(_real, call)

    def sync(fd: int) -> None:
        if _active is None:
            real(fd)
        else:
            _active.sync(os.fstat(fd).st_ino)

    return sync


def _syncfs(fd: int) -> None:
    if _active is None:
        syscalls.syncfs(fd)
    else:
        _active.sync()


def _gone(path: bytes) -> Callable[[], None]:
    return lambda: _real.unlink(path)


def _gone_dir(path: bytes) -> Callable[[], None]:
    return lambda: _real.rmdir(path)


_CALLS: dict[str, Callable[..., Any]] = {
    "open": _open, "mkdir": _takes("mkdir", _gone_dir), "mknod": _takes("mknod", _gone),
    "symlink": _takes("symlink", _gone), "link": _takes("link", _gone), "unlink": _unlink, "rmdir": _rmdir,
    "rename": _rename, "setxattr": _setxattr, "removexattr": _removexattr, "chmod": _attributes("chmod"),
    "fchmod": _attributes("fchmod"), "fchown": _attributes("fchown"), "lchown": _attributes("lchown"),
    "utime": _attributes("utime"), "ftruncate": _ftruncate, "pwrite": _pwrite, "fsync": _synced("fsync"),
    "fdatasync": _synced("fdatasync"),
}  # fmt: skip


@contextmanager
def installed() -> Iterator[None]:
    """`os` and the bricks' other system calls note what they change, while a journal records."""
    for name, call in _CALLS.items():
        setattr(os, name, call)
    data.syncfs, rename.renameat2 = _syncfs, _renameat2  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name in _CALLS:
            setattr(os, name, getattr(_real, name))
        data.syncfs, rename.renameat2 = syscalls.syncfs, syscalls.renameat2  # type: ignore[attr-defined]
