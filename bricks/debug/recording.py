"""The system calls of bricks, noted in a journal as they are made.

While there is a journal, the modules that work in bricks have `RecordingOs` in the place of `os`; without one they have `os` itself, so nobody
pays for what is not used.  Whose journal a call belongs to follows from its path: what is above storage/posix in the brick, such
as its index, is thus noted in its turn, in whatever thread it runs.  Directories made by os.makedirs, those of the
index, are the layout of a brick and stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from fusemux.bricks.debug.journal import (
    Attribute,
    Change,
    Exchanged,
    Journal,
    Made,
    Removed,
    RemovedFolder,
    Renamed,
    Status,
)
from fusemux.bricks.features import index
from fusemux.bricks.storage.posix import (
    attributes,
    base,
    data,
    entry,
    landfill,
    late,
    lookup,
    mapped,
    remove,
    rename,
    stamps,
    syscalls,
)

__all__ = ["MODULES", "RecordingOs", "begin", "end", "journal_of"]

MODULES: tuple[ModuleType, ...] = (
    index, attributes, base, data, entry, landfill, late, lookup, mapped, remove, rename, stamps
)  # fmt: skip
_DESCRIPTORS = b"/proc/self/fd/"
_EXCHANGE = 2
_journals: tuple[Journal, ...] = ()
Path = str | bytes
Target = int | Path  # of a call that takes a descriptor, too


def begin(journal: Journal, calls: type[RecordingOs] | None = None) -> None:
    """From now on what changes below its root is noted.  `calls` if it shall be more than names and attributes."""
    global _journals
    if not _journals:
        _put((calls or RecordingOs)(), _syncfs, _renameat2)
    _journals += (journal,)


def end(journal: Journal) -> None:
    global _journals
    _journals = tuple(other for other in _journals if other is not journal)
    if not _journals:
        _put(os, syscalls.syncfs, syscalls.renameat2)


def _put(calls: Any, syncfs: Callable[..., None], renameat2: Callable[..., None]) -> None:
    for module in MODULES:
        vars(module)["os"] = calls
    vars(data)["syncfs"] = syncfs
    vars(rename)["renameat2"] = renameat2


def _absolute(path: Target, dir_fd: int | None = None) -> bytes:
    """A path that will mean the same when all later changes are undone."""
    if isinstance(path, int):
        return os.readlink(_DESCRIPTORS + b"%d" % path)
    name = os.fsencode(path)
    if dir_fd is not None and not name.startswith(b"/"):
        return os.readlink(_DESCRIPTORS + b"%d" % dir_fd) + b"/" + name
    if name.startswith(_DESCRIPTORS):
        descriptor, slash, below = name.removeprefix(_DESCRIPTORS).partition(b"/")
        return os.readlink(_DESCRIPTORS + descriptor) + slash + below
    return name


def journal_of(path: bytes) -> Journal | None:
    """The journal that notes what happens at an absolute path."""
    for journal in _journals:
        if (path + b"/").startswith(journal.roots):
            return journal
    return None


def _whose(path: Target, dir_fd: int | None = None) -> tuple[bytes, Journal | None]:
    where = _absolute(path, dir_fd)
    return where, journal_of(where)


def _exists(path: bytes) -> bool:
    return os.path.lexists(path)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_ino, one.st_dev) == (other.st_ino, other.st_dev)


class RecordingOs:
    """`os`, with the calls that change names, attributes and xattrs, and those that make them last."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    # -- names -----------------------------------------------------------------------------------------------

    def open(self, path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if not flags & os.O_CREAT:
            return os.open(path, flags, mode, dir_fd=dir_fd)
        where, journal = _whose(path, dir_fd)
        new = bool(flags & os.O_EXCL) or not _exists(where)
        fd = os.open(path, flags, mode, dir_fd=dir_fd)
        if journal is not None and new:
            journal.note(Made(where))
        return fd

    def mkdir(self, path: Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._made(path, dir_fd, lambda: os.mkdir(path, mode, dir_fd=dir_fd), folder=True)

    def mknod(self, path: Path, mode: int = 0o600, device: int = 0, *, dir_fd: int | None = None) -> None:
        self._made(path, dir_fd, lambda: os.mknod(path, mode, device, dir_fd=dir_fd))

    def symlink(self, text: Path, path: Path, *, dir_fd: int | None = None) -> None:
        self._made(path, dir_fd, lambda: os.symlink(text, path, dir_fd=dir_fd))

    def link(self, source: Path, path: Path, *, dst_dir_fd: int | None = None, **how: Any) -> None:
        self._made(path, dst_dir_fd, lambda: os.link(source, path, dst_dir_fd=dst_dir_fd, **how))

    def _made(self, path: Path, dir_fd: int | None, call: Callable[[], None], *, folder: bool = False) -> None:
        call()
        where, journal = _whose(path, dir_fd)
        if journal is not None:
            journal.note(Made(where, folder=folder))

    def unlink(self, path: Path, *, dir_fd: int | None = None) -> None:
        where, journal = _whose(path, dir_fd)
        if journal is None or (os.path.isdir(where) and not os.path.islink(where)):
            os.unlink(path, dir_fd=dir_fd)
        else:
            _noted_if_done(journal, Removed(journal, where), lambda: os.unlink(path, dir_fd=dir_fd))

    def rmdir(self, path: Path, *, dir_fd: int | None = None) -> None:
        where, journal = _whose(path, dir_fd)
        if journal is None:
            os.rmdir(path, dir_fd=dir_fd)
        else:
            _noted_if_done(journal, RemovedFolder(where), lambda: os.rmdir(path, dir_fd=dir_fd))

    def rename(self, old: Path, new: Path, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        source, target = _absolute(old, src_dir_fd), _absolute(new, dst_dir_fd)
        _renamed(source, target, lambda: os.rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd))

    # -- attributes ------------------------------------------------------------------------------------------

    def setxattr(self, path: Target, name: str | bytes, value: bytes, flags: int = 0, **how: Any) -> None:
        self._changed(path, name, lambda: os.setxattr(path, name, value, flags, **how))

    def removexattr(self, path: Target, name: str | bytes, **how: Any) -> None:
        self._changed(path, name, lambda: os.removexattr(path, name, **how))

    def chmod(self, path: Target, mode: int, *, dir_fd: int | None = None) -> None:
        self._changed(path, None, lambda: os.chmod(path, mode, dir_fd=dir_fd), dir_fd)

    def fchmod(self, fd: int, mode: int) -> None:
        self._changed(fd, None, lambda: os.fchmod(fd, mode))

    def fchown(self, fd: int, uid: int, gid: int) -> None:
        self._changed(fd, None, lambda: os.fchown(fd, uid, gid))

    def lchown(self, path: Path, uid: int, gid: int) -> None:
        self._changed(path, None, lambda: os.lchown(path, uid, gid))

    def utime(self, path: Target, **how: Any) -> None:
        self._changed(path, None, lambda: os.utime(path, **how))

    def _changed(
        self, path: Target, xattr: str | bytes | None, call: Callable[[], None], dir_fd: int | None = None
    ) -> None:
        """Owner, mode or times, or one xattr."""
        where, journal = _whose(path, dir_fd)
        if journal is None:
            call()
            return
        status = os.fstat(path) if isinstance(path, int) else os.lstat(where)
        changes: list[Change] = []
        for name in (
            (None,) if xattr is None else (None, xattr) if os.fsencode(xattr).startswith(b"system.") else (xattr,)
        ):
            key = (status.st_dev, status.st_ino, name)
            if journal.wants(key):  # an ACL changes the mode, too
                found = _standing(path, where, status)
                changes.append(Status(found, key) if name is None else Attribute(found, name, key))
        _noted_if_done(journal, changes, call)

    # -- what makes them last --------------------------------------------------------------------------------

    def fsync(self, fd: int) -> None:
        _synced(os.fsync, fd)

    def fdatasync(self, fd: int) -> None:
        _synced(os.fdatasync, fd)


def _standing(path: Target, where: bytes, status: os.stat_result) -> bytes | int:
    """How to find an object again: by a path, or, when the name by which it was opened has gone, by a descriptor."""
    if not isinstance(path, int):
        return where
    try:
        if _same(os.lstat(where), status):
            return where
    except OSError:
        pass
    return os.dup(path)


def _noted_if_done(journal: Journal, changes: Change | list[Change], call: Callable[[], None]) -> None:
    changes = changes if isinstance(changes, list) else [changes]
    try:
        call()
    except BaseException:
        for change in changes:
            change.settle()
        raise
    for change in changes:
        journal.note(change)


def _renamed(source: bytes, target: bytes, call: Callable[[], None]) -> None:
    journal = journal_of(target)
    there = os.lstat(target) if _exists(target) else None
    if journal is None or (there is not None and _same(os.lstat(source), there)):  # names of one file: nothing happens
        call()
        return
    replaced: Change | None = None
    if there is not None:
        folder = os.path.isdir(target) and not os.path.islink(target)
        replaced = RemovedFolder(target) if folder else Removed(journal, target)
    _noted_if_done(journal, Renamed(source, target, replaced), call)


def _renameat2(olddir: int, oldname: bytes, newdir: int, newname: bytes, flags: int) -> None:
    source, target = _absolute(oldname, olddir), _absolute(newname, newdir)
    call: Callable[[], None] = lambda: syscalls.renameat2(olddir, oldname, newdir, newname, flags)  # noqa: E731
    journal = journal_of(target)
    if journal is not None and flags & _EXCHANGE:
        _noted_if_done(journal, Exchanged(source, target), call)
    else:
        _renamed(source, target, call)


def _synced(real: Callable[[int], None], fd: int) -> None:
    journal = journal_of(_absolute(fd))
    until = 0 if journal is None else journal.made  # what is changed during the sync need not be part of it
    real(fd)
    if journal is not None:
        journal.lasts(until, fd)


def _syncfs(fd: int) -> None:
    journal = journal_of(_absolute(fd))
    until = 0 if journal is None else journal.made
    syscalls.syncfs(fd)
    if journal is not None:
        journal.lasts(until)
