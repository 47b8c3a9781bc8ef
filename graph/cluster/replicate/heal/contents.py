"""Healing the contents of a file: block by block, skipping what is equal, keeping holes.

The whole file is locked only to inspect it and to take the accusations back at the end; in between each block is
locked while it is copied, and writes go on.  They reach the sinks too (an accused copy takes part in every
transaction), so a block is either copied before a write or holds it already.

Pending counts are subtracted only after the sinks were synced: a copy that loses power right after must still be accused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import trio

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.changelog import DATA
from fusemux.graph.cluster.replicate.core import Core
from fusemux.graph.cluster.replicate.heal.direction import Favourite, Plan, data_plan
from fusemux.graph.cluster.replicate.heal.inspection import Outcome, absolve, arbiter_of, inspect, quorum_of
from fusemux.graph.cluster.replicate.writing import Writing
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.types import Iatt, SetAttr

__all__ = ["heal_contents"]

_BLOCK = 1 << 20  # 128 KiB times data-self-heal-window-size 8
_HOLE = 128 << 10  # zeros are left out in pieces of this size


async def heal_contents(core: Writing, inode: Inode, pick: Favourite) -> Outcome:
    """Make the contents of all copies equal.  Raises FopError when a copy is missing or fails."""
    grant = await core.locks.acquire(inode.gfid, locks.data())
    try:
        await core.settle_locked(inode.gfid)
        replies, marks = await inspect(core, inode)
        plan = data_plan(marks, replies, quorum=quorum_of(core), arbiter=arbiter_of(core), pick=pick)
        if plan.split_brain or plan.source < 0:
            return Outcome.of(plan, pending=True)
        if not plan.sinks:
            await absolve(core, inode, DATA, marks, plan)
            return Outcome.of(plan)
        copying = _Copying(core, inode, replies, plan)
        await copying.begin()
    finally:
        core.locks.release(grant)
    try:
        await copying.copy()
        await copying.sync()
    finally:
        await copying.end()
    grant = await core.locks.acquire(inode.gfid, locks.data())
    try:
        await core.settle_locked(inode.gfid)
        await copying.restore_times()
        await absolve(core, inode, DATA, marks, plan)
    finally:
        core.locks.release(grant)
    return Outcome.of(plan, changed=True)


class _Copying:
    """From one copy to the sinks that keep data (not the arbiter)."""

    def __init__(self, core: Core, inode: Inode, replies: Sequence[Iatt], plan: Plan) -> None:
        self.core = core
        self.inode = inode
        self.frame = core.internal
        self.size = replies[plan.source].size
        self.source: Edge = core.children[plan.source]
        keepers = [i for i in sorted(plan.sinks) if i != arbiter_of(core)]
        self.sinks = [core.children[i] for i in keepers]
        self.sparse = replies[plan.source].blocks * 512 < self.size
        self.larger = {edge.index for edge in self.sinks if replies[edge.index].size > self.size}
        self.empty = all(replies[i].size == 0 for i in keepers)
        self.fd: Fd = core.graph.itable.fd(inode, os.O_RDWR)

    async def begin(self) -> None:
        try:
            for edge in (self.source, *self.sinks):
                await edge.open(self.frame, self.inode, os.O_RDWR, self.fd, None)
            for edge in self.sinks:
                await edge.truncate(self.frame, self.fd, self.size, None)
        except BaseException:
            await self.end()
            raise

    async def copy(self) -> None:
        for offset in range(0, self.size, _BLOCK):
            grant = await self.core.locks.acquire(self.inode.gfid, locks.data(offset, offset + _BLOCK))
            try:
                if not await self._block(offset, min(_BLOCK, self.size - offset)):
                    return
            finally:
                self.core.locks.release(grant)
            await trio.lowlevel.checkpoint()  # copies in memory never wait, others would

    async def _block(self, offset: int, size: int) -> bool:
        """Copy one block; False at what is now the end of the file."""
        sinks = self.sinks
        if not self.empty:
            ours = await self.source.rchecksum(self.frame, self.fd, offset, size, None)
            sinks = [edge for edge in sinks if await edge.rchecksum(self.frame, self.fd, offset, size, None) != ours]
        if not sinks:
            return True
        data = await self.source.readv(self.frame, self.fd, size, offset, None)
        for edge in sinks:
            fresh = self.empty and self.sparse
            for start, end in _worth_writing(data, fresh and edge.index not in self.larger):
                await edge.writev(self.frame, self.fd, memoryview(data)[start:end], offset + start, None)
        return len(data) == size

    async def sync(self) -> None:
        if self.core.opt.ensure_durability:
            for edge in self.sinks:
                await edge.fsync(self.frame, self.fd, False, None)

    async def restore_times(self) -> None:
        """Healing is no change of the file."""
        now: Iatt = await self.source.lookup(self.frame, self.inode, b"", None)
        for edge in self.sinks:
            times = SetAttr(atime_ns=now.atime_ns, mtime_ns=now.mtime_ns, ctime_ns=now.ctime_ns)
            await edge.setattr(self.frame, self.inode, times, None)

    async def end(self) -> None:
        with trio.CancelScope(shield=True):
            for edge in (self.source, *self.sinks):
                try:
                    await edge.release(self.frame, self.fd, None)
                except FopError:
                    pass  # it went down: nothing is open there any more
        self.core.graph.itable.closed(self.fd)


def _worth_writing(data: bytes | memoryview, sparse: bool) -> list[tuple[int, int]]:
    """The ranges of a block to write: all of it, or with `sparse` what is not zero, in pieces."""
    if not sparse:
        return [(0, len(data))]
    ranges: list[tuple[int, int]] = []
    zeros = bytes(_HOLE)
    for start in range(0, len(data), _HOLE):
        end = min(start + _HOLE, len(data))
        if data[start:end] == zeros[: end - start]:
            continue
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges
