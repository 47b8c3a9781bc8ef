"""debug/volatile: a brick whose machine can lose power.  What was written and not synced is put back as it was.

It stands right above storage/posix.  Before the first change of a block (4 KiB) since the file was last synced, the old block
is kept in memory; fsync(2), syncfs(2) and synchronous writes let it go.  `lose_power` says that the brick's end is a power
cut: when the brick then stops, all that is kept is written back and each file gets the size it had.

What it models is a journalling file system in its usual mode: contents survive only if they were synced; names, attributes and
xattrs in the order they were made.  How many of these it has on its disk at the moment of the cut is its own affair.  Without
option `names` it is all of them (so a file that was never synced is there, and empty).  With it, it is those that were made before the last
sync of anything in the brick (journal.py): what programs must be prepared for.

Since a real kernel writes back when it pleases, the least recently begun files, and the oldest changes of names and attributes, are let
go when more than `memory` is kept of either or too many files are open.  A brick that is stopped or killed without a power cut
keeps everything.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Mapping
from typing import Any

from fusemux.bricks.debug import recording
from fusemux.bricks.debug.journal import Journal
from fusemux.bricks.storage.posix import Posix
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.options import Option
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["Image", "Volatile"]

BLOCK = 4096
_END = 1 << 62
_FILES_MAX = 512
_SYNC = os.O_SYNC | os.O_DSYNC
_PUNCH_OR_ZERO, _SHIFTS = 2 | 16, 8 | 32  # FALLOC_FL_PUNCH_HOLE, ZERO_RANGE; COLLAPSE_RANGE, INSERT_RANGE
log = logging.getLogger("fusemux.debug")


class Image:
    """One file as it was when it was last synced: its size, and the blocks that were changed since."""

    def __init__(self, path: str, flags: int = os.O_NOFOLLOW) -> None:
        """Raises OSError."""
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | flags)
        self.size = os.fstat(self.fd).st_size
        self.blocks: dict[int, bytes] = {}

    def keep(self, start: int, end: int) -> int:
        """The bytes from `start` to `end` are about to change; how many were copied."""
        copied = 0
        for number in range(start // BLOCK, -(-min(end, self.size) // BLOCK)):
            if number not in self.blocks:
                self.blocks[number] = old = os.pread(self.fd, BLOCK, number * BLOCK)
                copied += len(old)
        return copied

    def older(self, newer: Image | None) -> None:
        """Take over what `newer`, begun after this one, has kept besides; it is closed."""
        if newer is not None:
            self.blocks = {**newer.blocks, **self.blocks}
            newer.close()

    def put_back(self) -> None:
        for number, old in self.blocks.items():
            os.pwrite(self.fd, old, number * BLOCK)
        os.ftruncate(self.fd, self.size)

    @property
    def kept_bytes(self) -> int:
        return sum(map(len, self.blocks.values()))

    def close(self) -> None:
        os.close(self.fd)


class Volatile(Translator):
    type = "debug/volatile"
    options = (
        Option("memory", "size", "64MB", "How much of what was overwritten and not synced is kept.",
               key="debug.volatile-memory", low=BLOCK),
        Option("names", "bool", "off", "Whether a power cut also takes names, attributes and xattrs made since the last sync.",
               key="debug.volatile-names"),
    )  # fmt: skip

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.unsynced: OrderedDict[bytes, Image] = OrderedDict()  # by gfid
        self.bytes = 0
        self.journal: Journal | None = None
        self._power_lost = False

    async def init(self) -> None:
        below = self.child.translator
        if not isinstance(below, Posix):
            raise FusemuxError(f"{self.name}: {self.type} belongs right above storage/posix, not above {below.type}")
        assert below.store is not None, "children are initialised first"
        self._store = below.store
        self._store.recorder = None  # what is recorded late would not be lost
        self._keep_names()

    def reconfigure(self, given: Mapping[str, str]) -> None:
        super().reconfigure(given)
        self._keep_names()

    def _keep_names(self) -> None:
        """Begin or end to note changes of names, as the options say."""
        if self.journal is None and self.opt.names:
            trash = f"{self._store.path}/.glusterfs/unlink"  # is cleared when a brick starts
            self.journal = Journal(self._store.path, trash, whole=True, memory_bytes=self.opt.memory)
            recording.begin(self.journal)
        elif self.journal is not None and not self.opt.names:
            self._forget_names()
        if self.journal is not None:
            self.journal.memory_bytes = self.opt.memory

    def _forget_names(self) -> None:
        if self.journal is not None:
            recording.end(self.journal)
            self.journal.lasts(self.journal.made)
            self.journal = None

    async def fini(self) -> None:
        for gfid, image in self.unsynced.items():
            if self._power_lost:
                try:
                    image.put_back()
                except OSError as error:
                    log.error("%s: %s cannot be put back: %s", self.name, gfid.hex(), error.strerror)
            image.close()
        if self._power_lost:
            log.info("%s: injected a power cut, %d files lost what was not synced", self.name, len(self.unsynced))
            self._lose_names()
        self.unsynced.clear()
        self.bytes = 0
        self._forget_names()

    def _lose_names(self) -> None:
        if self.journal is None:
            return
        count = len(self.journal.changes)
        for change, error in self.journal.back_to(0):
            log.error("%s: a change cannot be undone (%s): %s", self.name, type(change).__name__, error)
        log.info("%s: %d changes of names and attributes went with it", self.name, count)

    def lose_power(self) -> None:
        """The end of this brick, which comes now, is a power cut."""
        self._power_lost = True

    # -- what changes contents -------------------------------------------------------------------------------

    def _before(self, gfid: bytes, start: int, end: int) -> None:
        image = self.unsynced.get(gfid)
        if image is None:
            try:
                image = self.unsynced[gfid] = self._image(gfid)
            except OSError:
                return  # then the change will fail, too
        if start < image.size:
            self.bytes += image.keep(start, end)
        while self.bytes > self.opt.memory or len(self.unsynced) > _FILES_MAX:
            self._let_go(next(iter(self.unsynced)))

    def _image(self, gfid: bytes) -> Image:
        """Raises OSError."""
        file = self._store.opened.get(gfid)
        if file is not None and file.nameless:  # and its last name may come back
            return Image(f"/proc/self/fd/{file.fd}", 0)
        return Image(self._store.handle_path(gfid))

    def _let_go(self, gfid: bytes) -> None:
        image = self.unsynced.pop(gfid, None)
        if image is not None:
            self.bytes -= image.kept_bytes
            image.close()

    async def open(self, frame: Frame, inode: Inode, flags: int, fd: Fd, xdata: Xdata = None) -> None:
        if flags & os.O_TRUNC:
            self._before(inode.gfid, 0, _END)
        await self.child.open(frame, inode, flags, fd, xdata)

    async def writev(self, frame: Frame, fd: Fd, data: Any, offset: int, xdata: Xdata = None) -> int:
        gfid = fd.inode.gfid
        self._before(gfid, offset, offset + len(data))
        done: int = await self.child.writev(frame, fd, data, offset, xdata)
        if fd.flags & _SYNC:
            self._let_go(gfid)
        return done

    async def truncate(self, frame: Frame, target: Inode | Fd, size: int, xdata: Xdata = None) -> Iatt:
        self._before(target.inode.gfid if isinstance(target, Fd) else target.gfid, size, _END)
        iatt: Iatt = await self.child.truncate(frame, target, size, xdata)
        return iatt

    async def fallocate(self, frame: Frame, fd: Fd, mode: int, offset: int, length: int, xdata: Xdata = None) -> Iatt:
        end = _END if mode & _SHIFTS else offset + length if mode & _PUNCH_OR_ZERO else offset
        self._before(fd.inode.gfid, offset, end)
        iatt: Iatt = await self.child.fallocate(frame, fd, mode, offset, length, xdata)
        return iatt

    async def copy_file_range(
        self,
        frame: Frame,
        fd: Fd,
        offset: int,
        fd_out: Fd,
        offset_out: int,
        length: int,
        flags: int,
        xdata: Xdata = None,
    ) -> int:
        self._before(fd_out.inode.gfid, offset_out, offset_out + length)
        done: int = await self.child.copy_file_range(frame, fd, offset, fd_out, offset_out, length, flags, xdata)
        return done

    # -- what makes them last --------------------------------------------------------------------------------

    async def fsync(self, frame: Frame, fd: Fd, datasync: bool, xdata: Xdata = None) -> None:
        # Taken out before, because what is written during the sync need not be part of it.
        await self._synced([fd.inode.gfid], self.child.fsync(frame, fd, datasync, xdata))

    async def syncfs(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> None:
        await self._synced(list(self.unsynced), self.child.syncfs(frame, inode, xdata))

    async def _synced(self, gfids: list[bytes], syncing: Awaitable[None]) -> None:
        images = {gfid: image for gfid in gfids if (image := self.unsynced.pop(gfid, None)) is not None}
        try:
            await syncing
        except BaseException:
            for gfid, image in images.items():
                self._again(gfid, image)
            raise
        for image in images.values():
            self.bytes -= image.kept_bytes
            image.close()

    def _again(self, gfid: bytes, image: Image) -> None:
        """A sync failed: nothing of the file is known to last."""
        image.older(self.unsynced.get(gfid))
        self.unsynced[gfid] = image

    def statedump(self) -> dict[str, Any]:
        changes = 0 if self.journal is None else len(self.journal.changes)
        return {"unsynced-files": len(self.unsynced), "kept-bytes": self.bytes, "unsynced-changes": changes}
