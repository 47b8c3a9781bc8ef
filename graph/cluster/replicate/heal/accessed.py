"""Healing what is accessed (options data-, metadata- and entry-self-heal): a file that is read, a directory that is listed.

Names and attributes are healed by the lookup itself, before it answers.  What may take long is asked for here and healed in the
background, some at a time, while the caller goes on with a good copy.  What finds the queue full is left to the self-healer, or
to the next access.
"""

from __future__ import annotations

import logging
import stat
from typing import TYPE_CHECKING

import trio

from fusemux.graph.cluster.replicate.changelog import DATA, ENTRY, METADATA
from fusemux.graph.cluster.replicate.readable import Copies
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import gfid_text

if TYPE_CHECKING:
    from fusemux.graph.cluster.replicate.heal.healer import Healer

__all__ = ["Accessed"]

log = logging.getLogger("fusemux.heal")


class Accessed:
    def __init__(self, healer: Healer) -> None:
        self.healer = healer
        self._waiting: dict[bytes, tuple[int, ...]] = {}  # gfid: what to heal
        self._under_way = 0
        self._workers: set[trio.CancelScope] = set()

    def wanted(self, inode: Inode, known: Copies) -> tuple[int, ...]:
        """What of `inode` is to be healed on access, by the options and what is known of its copies."""
        opt = self.healer.core.opt
        kinds = []
        if known.data and stat.S_ISREG(inode.type) and opt.data_self_heal:
            kinds.append(DATA)
        if known.data and stat.S_ISDIR(inode.type) and opt.entry_self_heal:
            kinds.append(ENTRY)
        if known.metadata and opt.metadata_self_heal:
            kinds.append(METADATA)
        return tuple(kinds)

    def ask(self, inode: Inode, known: Copies) -> None:
        """Somebody reads `inode`: have it healed if that is wanted, and there is room."""
        core = self.healer.core
        kinds = self.wanted(inode, known)
        if not kinds or not core.members.complete or self.under_way(inode.gfid):
            return
        at_once = core.opt.background_self_heal_count
        if len(self._waiting) + self._under_way >= core.opt.heal_wait_queue_length + at_once:
            return
        self._waiting[inode.gfid] = kinds
        if len(self._workers) < at_once:
            scope = trio.CancelScope()
            self._workers.add(scope)
            core.process.spawn(self._work, scope, name=f"{core.name}: healing what is read")

    def under_way(self, gfid: bytes) -> bool:
        """Whether it is waiting for that, or being healed."""
        return gfid in self._waiting or gfid in self.healer.busy

    async def _work(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while self._waiting:
                    gfid = next(iter(self._waiting))
                    await self._heal(gfid, self._waiting.pop(gfid))
                    await trio.lowlevel.checkpoint()
        finally:
            self._workers.discard(scope)

    async def _heal(self, gfid: bytes, kinds: tuple[int, ...]) -> None:
        self._under_way += 1
        try:
            await self.healer.heal(gfid, kinds=kinds)
        except FopError as error:
            log.info("%s: %s is not healed: %s", self.healer.core.name, gfid_text(gfid), error)
        finally:
            self._under_way -= 1

    def stop(self) -> None:
        """The volume stops: what is not healed yet stays recorded."""
        self._waiting.clear()
        for scope in self._workers:
            scope.cancel()
