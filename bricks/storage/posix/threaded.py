"""The store of a disk brick, called from several threads at once.

What changes names or attributes holds the brick's one lock; what only reads, or moves a file's data, does not, so
one slow disk access never holds up another.  What makes that safe:

* A lookup takes several system calls.  `changes` counts the beginnings and ends of changes: a lookup during which it
  moved, or that finds something to mend, is done again under the lock.
* A descriptor stays open while a call uses it (`_Pinned`).
* Time stamps of open files are taken under the lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fusemux.bricks.storage.posix.base import OpenFile
from fusemux.bricks.storage.posix.directories import DirHandle
from fusemux.bricks.storage.posix.mapped import MappedStore
from fusemux.bricks.storage.posix.store import Store
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fops import FOP_NAMES
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Iatt, Xdata

__all__ = ["store_class"]

_T = TypeVar("_T")

# Fops that run beside each other, and beside one that holds the lock.
_UNLOCKED = frozenset({
    "lookup", "stat", "readlink", "readv", "readdir", "statfs", "getxattr", "seek", "rchecksum",
    "flush", "fsync", "syncfs", "writev", "fallocate", "copy_file_range",
})  # fmt: skip


class _Pinned(int):
    """A descriptor that stays open as long as this number lives."""

    holder: Any


class _Mend(Exception):
    """A lookup without the lock found something to mend."""


class _Lock:
    """Re-entrant; `changes` is odd while it is held."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._holder = 0
        self.changes = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1
        if self._depth == 1:
            self._holder = threading.get_ident()
            self.changes += 1

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._holder = 0
            self.changes += 1
        self._lock.release()

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Hold it for what no lookup can see half-done."""
        with self._lock:
            yield

    def held(self) -> bool:
        """Whether by the thread that asks."""
        return self._holder == threading.get_ident()


class _Threaded(Store):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = _Lock()

    def where(self, target: Inode | Fd) -> int | str:
        while True:
            found = super().where(target)
            if isinstance(found, str):
                return found
            pinned = _Pinned(found)
            if isinstance(target, Fd):
                pinned.holder = target.ctx[self.slot]
            else:
                pinned.holder = self.opened.get(target.gfid) or self.dirs.get(target.gfid)
            if pinned.holder is not None and pinned.holder.fd == found:
                return pinned

    # -- lookups ---------------------------------------------------------------------------------------------

    def look(self, directory: DirHandle, name: bytes, xdata: Xdata = None) -> Iatt:
        return self._undisturbed(super().look, directory, name, xdata)

    def glance(self, dirfd: int, name: bytes, xdata: Xdata) -> Iatt | None:
        return self._undisturbed(super().glance, dirfd, name, xdata)

    def _undisturbed(self, read: Callable[..., _T], *args: Any) -> _T:
        """`read(*args)` as if nothing else happened meanwhile."""
        lock = self.lock
        before = lock.changes
        if not before & 1:
            try:
                answer = read(*args)
            except _Mend:
                pass
            except (OSError, FopError):
                if lock.changes == before:
                    raise
            else:
                if lock.changes == before:
                    return answer
        with lock:
            return read(*args)

    def give_gfid(self, directory: DirHandle, name: bytes, st: os.stat_result, xdata: Xdata) -> bytes:
        self._only_locked()
        return super().give_gfid(directory, name, st, xdata)

    def give_handle(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        self._only_locked()
        super().give_handle(directory, name, gfid)

    def mend_link(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        self._only_locked()
        super().mend_link(directory, name, gfid)

    def mend_records(self, directory: DirHandle, name: bytes, st: os.stat_result, recorded: list[bytes]) -> None:
        self._only_locked()
        super().mend_records(directory, name, st, recorded)

    def _only_locked(self) -> None:
        if not self.lock.held():
            raise _Mend

    # -- what is remembered ----------------------------------------------------------------------------------

    def _open_dir(self, gfid: bytes) -> DirHandle:
        with self.lock.quietly():
            return self.dirs.get(gfid) or super()._open_dir(gfid)

    def stamp_file(self, file: OpenFile, now: int, *, modified: bool) -> None:
        with self.lock.quietly():
            super().stamp_file(file, now, modified=modified)

    def stamp_access(self, file: OpenFile, now: int) -> None:
        with self.lock.quietly():
            super().stamp_access(file, now)

    def step(self, razing: Iterator[None]) -> bool:
        with self.lock:
            return super().step(razing)


def _locked(name: str) -> Callable[..., Any]:
    def call(self: _Threaded, *args: Any) -> Any:
        with self.lock:
            return getattr(super(_Threaded, self), name)(*args)

    call.__name__ = name
    return call


for _name in FOP_NAMES:
    if _name not in _UNLOCKED and hasattr(Store, _name):
        setattr(_Threaded, _name, _locked(_name))


class _ThreadedMapped(_Threaded, MappedStore):
    pass


def store_class(*, threads: bool, mapped: bool) -> type[Store]:
    """The store for a brick: called from threads or not, of root or of an ordinary user."""
    if threads:
        return _ThreadedMapped if mapped else _Threaded
    return MappedStore if mapped else Store
