"""The store of a disk brick, called from several threads at once.

What changes names or attributes takes the brick's one lock; what only reads, or moves a file's data, does not, so
one slow disk access never holds up another.  Three things make that safe: a name that is just being made is looked
at again under the lock before anything is mended; descriptors stay open while a call uses them (`_Pinned`);
and time stamps of open files are taken under the lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fusemux.bricks.storage.posix.base import OpenFile
from fusemux.bricks.storage.posix.directories import DirHandle
from fusemux.bricks.storage.posix.mapped import MappedStore
from fusemux.bricks.storage.posix.store import Store
from fusemux.graph.framework.fops import FOP_NAMES
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["store_class"]

# Fops that run beside each other, and beside one that holds the lock.
_UNLOCKED = frozenset({
    "lookup", "stat", "readlink", "readv", "readdir", "statfs", "getxattr", "seek", "rchecksum",
    "flush", "fsync", "syncfs", "writev", "fallocate", "copy_file_range",
})  # fmt: skip


class _Pinned(int):
    """A descriptor that stays open as long as this number lives."""

    holder: object


class _Threaded(Store):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = threading.RLock()

    def where(self, target: Inode | Fd) -> int | str:
        with self.lock:
            found = super().where(target)
            if isinstance(found, str):
                return found
            pinned = _Pinned(found)
            if isinstance(target, Fd):
                pinned.holder = target.ctx[self.slot]
            else:
                pinned.holder = self.opened.get(target.gfid) or self.dirs.get(target.gfid)
            return pinned

    def _open_dir(self, gfid: bytes) -> DirHandle:
        with self.lock:
            return self.dirs.get(gfid) or super()._open_dir(gfid)

    def give_gfid(self, directory: DirHandle, name: bytes, st: os.stat_result, xdata: Xdata) -> bytes:
        with self.lock:
            return super().give_gfid(directory, name, st, xdata)

    def give_handle(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        with self.lock:
            super().give_handle(directory, name, gfid)

    def check_link(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        with self.lock:
            super().check_link(directory, name, gfid)

    def step(self, razing: Iterator[None]) -> bool:
        with self.lock:
            return super().step(razing)

    def stamp_file(self, file: OpenFile, now: int, *, modified: bool) -> None:
        with self.lock:
            super().stamp_file(file, now, modified=modified)

    def _changed(self, frame: Frame, file: OpenFile) -> Iatt:
        with self.lock:
            return super()._changed(frame, file)


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
