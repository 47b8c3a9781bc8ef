"""The virtual xattrs about split-brains (choices.py), performed; and healing by policy of what somebody wants to read."""

from __future__ import annotations

import errno
import stat
from collections.abc import Mapping
from typing import Any

import trio

from fusemux.graph.cluster.replicate import choices
from fusemux.graph.cluster.replicate.changelog import DATA, METADATA
from fusemux.graph.cluster.replicate.choices import Choices
from fusemux.graph.cluster.replicate.core import Core
from fusemux.graph.cluster.replicate.heal.direction import favourite
from fusemux.graph.cluster.replicate.heal.report import split_kinds
from fusemux.graph.cluster.replicate.readable import Copies
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.translator import Event

__all__ = ["Choosing"]


class Choosing(Core):
    healer: Any

    async def init(self) -> None:
        await super().init()
        self.choices = Choices()

    def chosen(self, inode: Inode, known: Copies) -> int:
        """The copy of a file in split-brain that a user wants to see; 0 when there is no choice, or no split-brain."""
        if not self.choices:
            return 0
        if known.sources(DATA) & ~self.arbiters and known.sources(METADATA) & ~self.arbiters:
            return 0
        return self.choices.of(inode.gfid, trio.current_time()) & known.seen

    async def split_brain_status(self, inode: Inode, name: bytes) -> Mapping[bytes, bytes]:
        """The answer to `replica.split-brain-status`."""
        if name != choices.STATUS:
            raise FopError(errno.ENODATA)
        kinds = await split_kinds(self.healer, inode.gfid) & {"data", "metadata"}
        return {name: choices.status(kinds, self._names())}

    def _names(self) -> list[str]:
        return [edge.name for edge in self.children if not self.arbiters >> edge.index & 1]

    async def settle_split_brain(self, inode: Inode, name: bytes, value: bytes) -> None:
        """Perform what a user sets.  Raises FopError: EINVAL when it makes no sense."""
        if name == choices.TIMEOUT:
            self.choices.timeout_s = 60 * choices.minutes(value)
        elif name == choices.CHOICE and bytes(value).rstrip(b"\0") == b"none":
            self._forget(inode)
        elif name in (choices.CHOICE, choices.FINALIZE):
            child = choices.child_named(value, self._names())
            await self._require_split_brain(inode)
            await (self._choose_copy if name == choices.CHOICE else self._finalize)(inode, child)
        else:
            raise FopError(errno.EINVAL, f"{name.decode(errors='replace')} cannot be set")

    async def _require_split_brain(self, inode: Inode) -> None:
        if not stat.S_ISREG(inode.type) or not await split_kinds(self.healer, inode.gfid) & {"data", "metadata"}:
            raise FopError(errno.EINVAL, f"{self.name}: {inode.gfid.hex()} is not in split-brain")

    async def _choose_copy(self, inode: Inode, child: int) -> None:
        until_s = self.choices.make(inode.gfid, child, trio.current_time())
        self._stale(inode)
        self.process.spawn(self._expire, inode, until_s, name=f"{self.name}: a choice expires")

    async def _expire(self, inode: Inode, until_s: float) -> None:
        """What was read from the copy must not be shown from a cache any longer than it may be read."""
        await trio.sleep_until(until_s)
        if self.choices.expire(inode.gfid, until_s):
            self._stale(inode)

    def _forget(self, inode: Inode) -> None:
        if self.choices.forget(inode.gfid):
            self._stale(inode)

    async def _finalize(self, inode: Inode, child: int) -> None:
        healed = await self.healer.heal(inode.gfid, favourite(child))
        if healed.pending:
            raise FopError(errno.EIO, f"{self.name}: {inode.gfid.hex()} is not healed yet; try again")
        self._forget(inode)

    def _stale(self, inode: Inode) -> None:
        """Another copy than before answers from now on."""
        self.notify(Event.UPCALL, None, inode)

    async def settled(self, inode: Inode) -> bool:
        """Whether healing has ended a split-brain just now: by favorite-child-policy, or names, merged by entry-self-heal."""
        merges = self.opt.entry_self_heal and stat.S_ISDIR(inode.type)
        if not self.members.complete or not (merges or self.opt.favorite_child_policy != "none"):
            return False
        if inode.gfid in self.healer.busy:
            await self.healer.busy[inode.gfid].wait()
            return True
        healed = await self.healer.heal(inode.gfid)
        return bool(healed.changed and not healed.pending)
