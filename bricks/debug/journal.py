"""What a brick's disk may not hold yet: its changes of names and attributes, and how each is undone.

The model is a journalling file system.  Changes of names, attributes and xattrs reach the disk in the order they were made, and a sync
of anything takes along all that was made before.  So what a power cut leaves is a beginning of that order, and to go back
there the later changes are undone, last first (`recording.py` notes them while the brick makes them).

A file whose last name was removed is kept in `trash`, a directory on the same file system, and one that has other names is
held open.  What the journal keeps is bounded: beyond `memory_bytes`, removed files included, or `_HELD` open files its oldest changes
count as written back.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Hashable
from contextlib import suppress

from fusemux.bricks.storage.posix.syscalls import renameat2

__all__ = ["Attribute", "Change", "Exchanged", "Journal", "Made", "Removed", "RemovedFolder", "Renamed", "Status"]

_COST = 512  # bytes that a change takes in memory, about
_HELD = 256
_EXCHANGE = 2
_HERE = -100  # AT_FDCWD
Where = bytes | int  # of an object: its path, or a descriptor where it has no name


class Journal:
    """Of the brick at `root`.  `whole`: cuts undo everything, so of an attribute that changes again and again the first value is enough."""

    def __init__(self, root: str, trash: str, *, whole: bool, memory_bytes: int) -> None:
        self.roots = tuple({os.fsencode(path) + b"/" for path in (os.path.abspath(root), os.path.realpath(root))})
        self.trash = trash
        self.whole = whole
        self.memory_bytes = memory_bytes
        self.changes: list[Change] = []
        self.made = 0  # changes ever
        self.bytes = 0
        self._held = 0
        self._noted: set[Hashable] = set()
        self._places = 0
        self._lock = threading.RLock()  # a brick on a disk is called from several threads

    def place(self) -> bytes:
        """Where a removed file can be kept."""
        with self._lock:
            self._places += 1
            return os.fsencode(f"{self.trash}/volatile-{self._places}")

    def wants(self, key: Hashable) -> bool:
        """Whether the old value of the attribute `key` has to be noted."""
        return key not in self._noted

    def note(self, change: Change) -> None:
        with self._lock:
            self.changes.append(change)
            self.made += 1
            self.bytes += change.cost
            self._held += change.holds
            if self.whole and change.key is not None:
                self._noted.add(change.key)
            while self.changes and (self.bytes > self.memory_bytes or self._held > _HELD):
                self._let_go(max(1, len(self.changes) // 8))

    def lasts(self, until: int, fd: int | None = None) -> None:
        """The first `until` changes ever made are on the disk, because `fd` was synced, or everything."""
        with self._lock:
            self._let_go(until - (self.made - len(self.changes)))

    def _let_go(self, count: int) -> None:
        for change in self.changes[: max(0, count)]:
            self._drop(change)
            change.settle()
        del self.changes[: max(0, count)]

    def _drop(self, change: Change) -> None:
        self.bytes -= change.cost
        self._held -= change.holds
        self._noted.discard(change.key)

    def back_to(self, kept: int) -> list[tuple[Change, OSError]]:
        """Undo all but the first `kept` of the changes; those that could not be undone."""
        failed = []
        with self._lock:
            while len(self.changes) > kept:
                change = self.changes.pop()
                self._drop(change)
                try:
                    change.undo()
                except OSError as error:
                    failed.append((change, error))
                change.settle()
        return failed


class Change:
    """One system call that was made."""

    cost = _COST
    holds = 0  # descriptors
    key: Hashable = None  # of the one attribute that it is about

    def undo(self) -> None:
        """Raises OSError."""
        raise NotImplementedError

    def settle(self) -> None:
        """It will not be undone any more: let go what was kept for that."""


class Made(Change):
    """A name."""

    def __init__(self, path: bytes, *, folder: bool = False) -> None:
        self.path = path
        self.folder = folder

    def undo(self) -> None:
        (os.rmdir if self.folder else os.unlink)(self.path)


class Removed(Change):
    """A name of a file, noted before it goes.  Raises OSError."""

    def __init__(self, journal: Journal, path: bytes) -> None:
        self.path = path
        self.kept, self.fd = b"", -1
        status = os.lstat(path)
        if status.st_nlink == 1:
            place = journal.place()
            with suppress(OSError):  # a full file system: removing goes on, and cannot be undone
                os.link(path, place, follow_symlinks=False)
                self.kept, self.cost = place, _COST + status.st_blocks * 512
        else:
            self.fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            self.holds = 1

    def undo(self) -> None:
        if self.kept:
            os.rename(self.kept, self.path)
        else:
            os.link(b"/proc/self/fd/%d" % self.fd, self.path, src_dir_fd=self.fd, follow_symlinks=True)

    def settle(self) -> None:
        if self.kept:
            with suppress(OSError):
                os.unlink(self.kept)
        elif self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class RemovedFolder(Change):
    """An empty directory, noted before it goes.  Raises OSError."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.status = Status(path)
        names = os.listxattr(path, follow_symlinks=False)
        self.xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}

    def undo(self) -> None:
        os.mkdir(self.path, 0o700)
        for name, value in self.xattrs.items():
            os.setxattr(self.path, name, value)
        self.status.undo()


class Renamed(Change):
    """`replaced`: what lay at the new name."""

    def __init__(self, source: bytes, target: bytes, replaced: Change | None) -> None:
        self.source, self.target, self.replaced = source, target, replaced
        if replaced is not None:
            self.cost = _COST + replaced.cost
            self.holds = replaced.holds

    def undo(self) -> None:
        os.rename(self.target, self.source)
        if self.replaced is not None:
            self.replaced.undo()

    def settle(self) -> None:
        if self.replaced is not None:
            self.replaced.settle()


class Exchanged(Change):
    def __init__(self, one: bytes, other: bytes) -> None:
        self.one, self.other = one, other

    def undo(self) -> None:
        renameat2(_HERE, self.one, _HERE, self.other, _EXCHANGE)


class _OfObject(Change):
    """About an object that is found by its path, or is held open where it has none."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.holds = 1 if isinstance(where, int) else 0

    def settle(self) -> None:
        if isinstance(self.where, int) and self.where >= 0:
            os.close(self.where)
            self.where = -1


class Status(_OfObject):
    """Owner, mode and times, noted before they change.  Raises OSError."""

    def __init__(self, where: Where, key: Hashable = None) -> None:
        super().__init__(where)
        self.key = key
        self.before = os.fstat(where) if isinstance(where, int) else os.lstat(where)

    def undo(self) -> None:
        before, where = self.before, self.where
        times = (before.st_atime_ns, before.st_mtime_ns)
        if stat.S_ISLNK(before.st_mode) and isinstance(where, bytes):
            os.lchown(where, before.st_uid, before.st_gid)
            os.utime(where, ns=times, follow_symlinks=False)
            return
        os.chown(where, before.st_uid, before.st_gid)
        os.chmod(where, before.st_mode & 0o7777)
        os.utime(where, ns=times)


class Attribute(_OfObject):
    """One xattr, noted before it changes."""

    def __init__(self, where: Where, name: str | bytes, key: Hashable = None) -> None:
        super().__init__(where)
        self.key = key
        self.name = name
        self.follow = isinstance(where, int)
        self.before: bytes | None = None
        with suppress(OSError):  # it is not there
            self.before = os.getxattr(where, name, follow_symlinks=self.follow)
            self.cost = _COST + len(self.before)

    def undo(self) -> None:
        if self.before is not None:
            os.setxattr(self.where, self.name, self.before, follow_symlinks=self.follow)
            return
        with suppress(OSError):  # removing it had failed, or it went with the object
            os.removexattr(self.where, self.name, follow_symlinks=self.follow)
