"""storage/posix: a directory as a brick, in GlusterFS's on-disk format.

The work is done by `Store`, plain synchronous code.  On a ramdisk its calls take microseconds and run in place; on a
disk they may wait and run in the process's thread pool (option io-mode).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from fusemux.bricks import ramdisk
from fusemux.bricks.storage.posix import layout
from fusemux.bricks.storage.posix.directories import dir_handles
from fusemux.bricks.storage.posix.health import health_of
from fusemux.bricks.storage.posix.late import recorder_of
from fusemux.bricks.storage.posix.options import OPTIONS
from fusemux.bricks.storage.posix.remove import RECURSIVE
from fusemux.bricks.storage.posix.store import Store
from fusemux.bricks.storage.posix.threaded import store_class
from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.fops import FOPS, Fop
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.translator import Event, Translator
from fusemux.graph.framework.types import Frame, Xdata

__all__ = ["Posix"]

_ELSEWHERE = frozenset({"lk", "inodelk", "entrylk"})  # features/locks
log = logging.getLogger("fusemux.bricks")

_MORE = frozenset({"rmdir"})  # fops that are more than the store's
_RAM = frozenset({"tmpfs", "ramfs"})


class Posix(Translator):
    type = "storage/posix"
    repeats = True
    children_min = 0
    children_max = 0
    options = OPTIONS
    fd_slots = 1

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pooled = False
        self.store: Store | None = None
        self._janitor: trio.CancelScope | None = None

    @property
    def suspends(self) -> bool:
        return self.pooled

    @property
    def flushes(self) -> bool:
        return False

    @property
    def passes(self) -> bool:
        return True

    def backing(self, fd: Fd) -> int | None:
        return None if self.store is None else self.store.backing(fd)

    def now(self, fop: str) -> Callable[..., Any] | None:
        if self.pooled or self.store is None or fop in _MORE:
            return None
        found: Callable[..., Any] = getattr(self.store, fop)
        return found

    # -- life ------------------------------------------------------------------------------------------------

    async def init(self) -> None:
        path = self.opt.directory
        if not path:
            raise FusemuxError(f"{self.name}: option directory is missing")
        mapped = layout.is_mapped(path)
        layout.check(path, self.opt.volume_id, mapped=mapped)
        self.pooled = self.opt.io_mode == "pool" or (
            self.opt.io_mode == "auto" and layout.file_system_of(path) not in _RAM
        )
        layout.lay_out(path, mapped=mapped)
        cls = store_class(threads=self.pooled, mapped=mapped)
        store = cls(path, dir_handles(self.process), fd_slot=self.fd_slot, threads=self.pooled)
        store.umask = os.umask(0)
        os.umask(store.umask)  # a process that only serves has set it to 0; any other keeps its own
        store.begin()
        if not self.pooled:
            store.recorder = recorder_of(self.process)
        self.store = store
        store.purge_unlinked()
        self._apply()
        self._tidy()

    def _apply(self) -> None:
        """Bring the option values to where they are used."""
        store, opt = self.store, self.opt
        if store is None:
            return
        store.shares = opt.shared_brick_count
        store.reserve = opt.reserve
        store.room = 0
        store.keep_times(opt.ctime)
        store.gfid2path = opt.gfid2path
        store.separator = opt.gfid2path_separator
        store.max_links = opt.max_hardlinks or 1 << 31
        store.fips = opt.fips_mode_rchecksum
        store.file_bits = (0o7000 | opt.create_mask, opt.force_create_mode)
        store.dir_bits = (0o7000 | opt.create_directory_mask, opt.force_directory_mode)
        if opt.owner_uid >= 0 or opt.owner_gid >= 0:
            store.chown(store.root.fd, opt.owner_uid, opt.owner_gid)
        try:
            ramdisk.use_huge_pages(opt.directory, opt.huge_pages)
        except FusemuxError as error:
            log.warning("%s", error)  # it serves all the same
        self._watch_health()

    def _watch_health(self) -> None:
        health, opt = health_of(self.process), self.opt
        if opt.health_check_interval:
            health.watch(opt.directory, opt.health_check_interval, opt.health_check_timeout, waits=self.pooled,
                         failed=self._failed)  # fmt: skip
        else:
            health.unwatch(opt.directory)

    def _failed(self, why: str) -> None:
        self.notify(Event.CHILD_DOWN, self, why)

    def reconfigure(self, given: Mapping[str, str]) -> None:
        super().reconfigure(given)
        self._apply()

    async def fini(self) -> None:
        health_of(self.process).unwatch(self.opt.directory)
        if self._janitor is not None:
            self._janitor.cancel()
            self._janitor = None
        if self.store is not None:
            self.store.end()
        self.process.pool.drop(self.opt.directory)

    def statedump(self) -> dict[str, Any]:
        held = {} if self.store is None else self.store.leaks()
        return {"path": self.opt.directory, "io-mode": "pool" if self.pooled else "inline", **held}

    # -- the landfill ----------------------------------------------------------------------------------------

    async def rmdir(self, frame: Frame, parent: Inode, name: bytes, inode: Inode, xdata: Xdata = None) -> None:
        await _RMDIR(self, frame, parent, name, inode, xdata)
        if xdata is not None and RECURSIVE in xdata:
            self._tidy()

    def _tidy(self) -> None:
        """Raze what lies in the landfill, in the background and after a while."""
        if self._janitor is None and self.store is not None and self.store.has_landfill():
            self._janitor = self.process.spawn(self._raze, name=f"{self.name} landfill")

    async def _raze(self) -> None:
        while True:
            # Before any look: the brick may have ended, which cancels this.
            await trio.sleep(self.opt.janitor_sleep_duration)
            if self.store is None or not self.store.has_landfill():
                break
            razing = self.store.raze()
            while await self._call(self.store.step, razing):
                await trio.lowlevel.checkpoint()
        self._janitor = None

    # -- fops ------------------------------------------------------------------------------------------------

    async def _call(self, work: Callable[..., Any], *args: Any) -> Any:
        return await self.process.pool.run(self.opt.directory, work, *args) if self.pooled else work(*args)


def _shim(fop: Fop) -> Callable[..., Awaitable[Any]]:
    """The translator's method for `fop`: the store's, with its errors as FopErrors."""
    name, by_name = fop.name, fop.by_name

    async def call(self: Posix, *args: Any) -> Any:
        try:
            if self.pooled:
                return await self.process.pool.run(self.opt.directory, getattr(self.store, name), *args)
            return getattr(self.store, name)(*args)
        except OSError as error:
            raise FopError.of(error, by_name=by_name) from None

    call.__name__ = name
    return call


_RMDIR = _shim(FOPS["rmdir"])

for _fop in FOPS.values():
    if _fop.name not in _ELSEWHERE and _fop.name not in Posix.__dict__:
        setattr(Posix, _fop.name, _shim(_fop))
