"""Healing the contents of a file: block by block, skipping what is equal, keeping holes.

Blocks that are equal are not copied (option data-self-heal-algorithm: diff), except where there is nothing to compare with.
Where the copies lie in this process's reach and nobody waits, their bytes are compared, in pieces that stay in the processor's
cache; elsewhere their checksums, which are computed where the data lies.  Of a file with holes, zeros are not written beyond what the sink had before: there it has a hole.

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
from fusemux.graph.cluster.replicate.heal.direction import Favourite, Marks, Plan, data_plan
from fusemux.graph.cluster.replicate.heal.inspection import Outcome, absolve, arbiter_of, inspect, quorum_of
from fusemux.graph.cluster.replicate.writing import Writing
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.types import Iatt, SetAttr

__all__ = ["heal_contents", "worth_writing"]

_BLOCK = 1 << 20  # 128 KiB times data-self-heal-window-size 8
_PIECE = 128 << 10
_HOLE = 128 << 10  # zeros are left out in pieces of this size


async def heal_contents(core: Writing, inode: Inode, pick: Favourite) -> Outcome:
    """Make the contents of all copies equal.  Raises FopError when a copy is missing or fails."""
    grant = await core.locks.acquire(inode.gfid, locks.data())
    try:
        await core.settle_locked(inode.gfid)
        replies, marks = await inspect(core, inode)
        marks = marks._replace(suspects=_doubted(replies, marks, core.arbiters))
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


def _doubted(replies: Sequence[Iatt], marks: Marks, arbiters: int) -> int:
    """The suspects that look different from the others, or were in the middle of something.

    What was written and not synced shows in the size, what was never written in the time; what was overwritten has been
    synced before its mark was cleared.
    """
    looks = [(reply.size, reply.mtime_ns, reply.ctime_ns, marks.dirty[i][DATA]) for i, reply in enumerate(replies)]
    sound = [(*looks[i][:3], 0) for i in range(len(replies)) if not (marks.suspects | arbiters) >> i & 1]
    return sum(1 << i for i, look in enumerate(looks) if marks.suspects >> i & 1 and any(look != one for one in sound))


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
        self.had = {i: replies[i].size for i in keepers}  # what each sink has to compare with
        self.compare = core.opt.data_self_heal_algorithm != "full"
        self.in_reach = not any(edge.suspends for edge in (self.source, *self.sinks))
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
                if not await self._block(offset, min(offset + _BLOCK, self.size)):
                    return
            finally:
                self.core.locks.release(grant)
            await trio.lowlevel.checkpoint()  # copies in memory never wait, others would

    async def _block(self, start: int, end: int) -> bool:
        """Copy one block; False at what is now the end of the file."""
        if not self.in_reach:
            sinks = await self._differing(start, end - start)
            return not sinks or await self._copy(start, end - start, sinks)
        for offset in range(start, end, _PIECE):
            if not await self._compare_and_copy(offset, min(_PIECE, end - offset)):
                return False
        return True

    def _comparable(self, offset: int) -> list[Edge]:
        """The sinks that had something at `offset`."""
        return [edge for edge in self.sinks if self.compare and offset < self.had[edge.index]]

    async def _compare_and_copy(self, offset: int, size: int) -> bool:
        data = await self.source.readv(self.frame, self.fd, size, offset, None)
        equal = [edge for edge in self._comparable(offset)
                 if await edge.readv(self.frame, self.fd, size, offset, None) == data]  # fmt: skip
        await self._write(offset, data, [edge for edge in self.sinks if edge not in equal])
        return len(data) == size

    async def _copy(self, offset: int, size: int, sinks: list[Edge]) -> bool:
        data = await self.source.readv(self.frame, self.fd, size, offset, None)
        await self._write(offset, data, sinks)
        return len(data) == size

    async def _write(self, offset: int, data: bytes | memoryview, sinks: list[Edge]) -> None:
        for edge in sinks:
            blank = max(0, self.had[edge.index] - offset) if self.sparse else len(data)
            for start, end in worth_writing(data, blank):
                await edge.writev(self.frame, self.fd, memoryview(data)[start:end], offset + start, None)

    async def _differing(self, offset: int, size: int) -> list[Edge]:
        """The sinks that need a block: those that had nothing there, and those whose checksum differs."""
        comparable = self._comparable(offset)
        if not comparable:
            return self.sinks
        ours = await self.source.rchecksum(self.frame, self.fd, offset, size, None)
        equal = [edge for edge in comparable
                 if await edge.rchecksum(self.frame, self.fd, offset, size, None) == ours]  # fmt: skip
        return [edge for edge in self.sinks if edge not in equal]

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


def worth_writing(data: bytes | memoryview, blank: int) -> list[tuple[int, int]]:
    """The ranges of a block to write: all of it up to `blank`; from there on, where the sink has a hole, what is not zero."""
    ranges: list[tuple[int, int]] = [(0, min(blank, len(data)))] if blank else []
    zeros = bytes(_HOLE)
    for start in range(min(blank, len(data)), len(data), _HOLE):
        end = min(start + _HOLE, len(data))
        if data[start:end] == zeros[: end - start]:
            continue
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges
