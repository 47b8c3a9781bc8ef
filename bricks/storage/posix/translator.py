"""storage/posix: a directory as a brick, in GlusterFS's on-disk format.

The work is done by `Store`, plain synchronous code.  On a ramdisk its calls take microseconds and run in place; on a
disk they may wait and run in the process's thread pool (option io-mode).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fusemux.bricks.storage.posix import layout
from fusemux.bricks.storage.posix.directories import dir_handles
from fusemux.bricks.storage.posix.options import OPTIONS
from fusemux.bricks.storage.posix.store import Store
from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.fops import FOPS, Fop, Kind
from fusemux.graph.framework.translator import Translator

__all__ = ["Posix"]

_ABSENT = frozenset({"lk", "inodelk", "entrylk"})  # features/locks
_RAM = frozenset({"tmpfs", "ramfs"})


class Posix(Translator):
    type = "storage/posix"
    children_min = 0
    children_max = 0
    options = OPTIONS
    fd_slots = 1

    store: Store

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pooled = False

    @property
    def suspends(self) -> bool:
        return self.pooled

    async def init(self) -> None:
        path = self.opt.directory
        if not path:
            raise FusemuxError(f"{self.name}: option directory is missing")
        layout.check(path, self.opt.volume_id)
        self.pooled = self.opt.io_mode == "pool" or (self.opt.io_mode == "auto" and file_system_of(path) not in _RAM)
        layout.lay_out(path)
        os.umask(0)  # modes come from the callers, whose umask is applied unless a default ACL stands in for it
        self.store = Store(path, dir_handles(self.process), fd_slot=self.fd_slot, threads=self.pooled)
        self._apply()
        self.store.begin()
        self.store.purge()

    def _apply(self) -> None:
        store, opt = self.store, self.opt
        store.shares = opt.shared_brick_count
        store.reserve = opt.reserve
        store.room = 0
        store.ctime = opt.ctime
        store.gfid2path = opt.gfid2path
        store.max_links = opt.max_hardlinks or 1 << 31
        store.fips = opt.fips_mode_rchecksum
        if opt.owner_uid >= 0 or opt.owner_gid >= 0:
            os.chown(store.path, opt.owner_uid, opt.owner_gid)

    def reconfigure(self, given: Mapping[str, str]) -> None:
        super().reconfigure(given)
        if hasattr(self, "store"):
            self._apply()

    async def fini(self) -> None:
        if hasattr(self, "store"):
            self.store.end()
            self.process.pool.drop(self.opt.directory)

    def statedump(self) -> dict[str, Any]:
        return {"path": self.opt.directory, "io-mode": "pool" if self.pooled else "inline", **self.store.leaks()}


def file_system_of(path: str) -> str:
    """The type of the file system that holds `path`, as /proc/self/mountinfo names it; empty when unknown."""
    st = os.stat(path)
    device = f"{os.major(st.st_dev)}:{os.minor(st.st_dev)}"
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            left, _, right = line.partition(" - ")
            if left.split()[2] == device:
                return right.split()[0]
    return ""


def _shim(fop: Fop) -> Callable[..., Awaitable[Any]]:
    """The translator's method for `fop`: the store's, with its errors as FopErrors.

    Where no name is given, "no such file" means that the handle is gone: ESTALE.
    """
    name = fop.name
    by_name = any(arg.kind is Kind.NAME for arg in fop.args)

    def failed(error: OSError) -> FopError:
        number = error.errno or errno.EIO
        if number == errno.ENOENT and not by_name:
            number = errno.ESTALE
        return FopError(number, error.strerror or "")

    async def call(self: Posix, *args: Any) -> Any:
        try:
            if self.pooled:
                return await self.process.pool.run(self.opt.directory, getattr(self.store, name), *args)
            return getattr(self.store, name)(*args)
        except OSError as error:
            raise failed(error) from None

    call.__name__ = name
    return call


for _fop in FOPS.values():
    if _fop.name not in _ABSENT:
        setattr(Posix, _fop.name, _shim(_fop))
