"""Data transactions: writes, truncates and their like, with a dirty mark that outlives them (see eager.py).

The first change of a file's data sets the mark on all copies that take part, later ones only check that it is there and that
the same copies still take part.  `settle` ends this, with the post-op.  On the general way the first change and the
post-op lock the whole file, changes in between only the bytes they touch; the plain loop needs no lock.

A copy that fails is accused before its caller is answered: the change that saw the failure ends the eager transaction.
"""

from __future__ import annotations

import errno
from typing import Any

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.changelog import ADD_ARRAY, DATA, verdict
from fusemux.graph.cluster.replicate.core import Replies, first
from fusemux.graph.cluster.replicate.delays import TICK_S
from fusemux.graph.cluster.replicate.eager import Eager
from fusemux.graph.cluster.replicate.errors import NO_QUORUM
from fusemux.graph.cluster.replicate.readable import Copies
from fusemux.graph.cluster.replicate.transaction import Transactions
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Frame

__all__ = ["DataChange", "Writing"]


class DataChange:
    """One change of a file's data; it touches the bytes [start, end).  `wrote` is set for writes: how many bytes."""

    __slots__ = ("args", "end", "fds", "fop", "inode", "reply", "start", "wrote")

    def __init__(
        self, fop: str, args: tuple[Any, ...], inode: Inode, start: int, end: int, *fds: Fd, wrote: int = -1
    ) -> None:
        self.fop = fop
        self.args = args
        self.inode = inode
        self.start = start
        self.end = end
        self.fds = fds  # what must be open on a child for it to take part; the last one is what is written to
        self.wrote = wrote
        self.reply: Any = None  # or the FopError

    def outcome(self) -> Any:
        if isinstance(self.reply, FopError):
            raise self.reply
        return self.reply


_AGAIN = object()
DATA_FOPS = frozenset({"writev", "truncate", "fallocate", "copy_file_range"})  # one post-op stands for many of these


class Writing(Transactions):
    async def init(self) -> None:
        await super().init()
        self.clock.join(self)

    async def fini(self) -> None:
        self.clock.leave(self)
        await super().fini()

    @property
    def has_delayed(self) -> bool:
        return bool(self.eager)

    async def write(self, change: DataChange) -> Any:
        """Perform it; the reply of one copy."""
        inode = change.inode
        if not self.usual(inode) or any(fd.ctx[self.fd_slot] is not self.opened for fd in change.fds):
            return await self.write_general(change)
        eager = self.eager.get(inode.gfid) or await self.begin(inode)
        if eager is None or eager.token is not self.token:
            return await self.write_general(change)
        replies, failed = await self.loop(change.fop, change.args)
        if failed or not self.all_written(change, replies):
            return await self.conclude(change, eager, replies, self.members.everyone)
        self._note(change, eager)
        return replies[0]

    def all_written(self, change: DataChange, replies: Replies) -> bool:
        return change.wrote < 0 or all(reply == change.wrote for reply in replies)

    def _note(self, change: DataChange, eager: Eager) -> None:
        if change.fop == "truncate":
            eager.used, eager.end, eager.tick = True, change.start, self.clock.tick
        elif change.wrote >= 0:
            eager.wrote(change.fds[-1], change.start, change.wrote, self.clock.tick)
        else:
            eager.used, eager.unstable, eager.tick = True, True, self.clock.tick
            eager.fd = change.fds[-1]

    # -- the plain way -----------------------------------------------------------------------------------------

    async def begin(self, inode: Inode) -> Eager | None:
        """Set the mark on all children in turn; None, and nothing set, when one of them refuses."""
        known: Copies = inode.ctx[self.inode_slot]
        delta = self.keys.delta(DATA, 1)
        for edge in self.children:
            try:
                await edge.xattrop(self.internal, inode, ADD_ARRAY, delta, None)
            except FopError:
                await self.mark((1 << edge.index) - 1, inode, DATA, -1)
                return None
        eager = Eager(inode, self.members.everyone, token=self.token, end=0 if known.empty else -1)
        if known.empty:
            inode.ctx[self.inode_slot] = self.clean_copies(inode.gfid)
        self._keep(eager)
        return eager

    def _keep(self, eager: Eager) -> None:
        self.eager[eager.inode.gfid] = eager
        eager.tick = self.clock.tick
        if self.clock.asleep:
            self.clock.wake(self.process)

    async def conclude(self, change: DataChange, eager: Eager, replies: Replies, sources: int) -> Any:
        """The plain loop has failed somewhere: nobody else is in the middle of anything, so end the transaction here."""
        try:
            return self._judge(change, eager, replies, sources)
        finally:
            if self._ends(eager):
                await self._clear(eager)
                self._confirm(eager)

    # -- the general way ---------------------------------------------------------------------------------------

    async def write_general(self, change: DataChange) -> Any:
        gfid = change.inode.gfid
        whole = gfid not in self.eager if self._lingering else bool(self.opt.full_lock)
        while True:
            grant = await self.locks.acquire(gfid, locks.data() if whole else locks.data(change.start, change.end))
            try:
                reply = await self.shielded(self._write_locked, change, whole)
            finally:
                self.locks.release(grant)
            if isinstance(reply, Eager):
                return await self.shielded(self._end_with, reply, change)
            if reply is not _AGAIN:
                return reply
            whole = True

    @property
    def _lingering(self) -> bool:
        """Whether marks outlive the change that set them."""
        return bool(self.opt.eager_lock and self.opt.post_op_delay_secs)

    async def _write_locked(self, change: DataChange, whole: bool) -> Any:
        """The reply; or _AGAIN: the whole file must be locked for this; or the Eager to end when it is unlocked."""
        frame: Frame = change.args[0]
        inode = change.inode
        sources = (await self.known(frame, inode, writing=1)).sources(DATA)
        took = self.members.up
        for fd in change.fds:
            took = await self.reopen(frame, fd, took)
        self.require_quorum(took)
        self._require_source(took, sources)
        eager = self.eager.get(inode.gfid)
        if eager is not None:
            self._distrust(eager)
        if eager is not None and (eager.children != took or self._ends(eager) or not self._lingering):
            if not whole:
                return _AGAIN
            await self._clear(eager)
            eager = None
        if eager is None:
            if self._lingering and not whole:
                return _AGAIN
            eager = await self._begin_general(inode, took, sources)
        if self.crash is not None:
            await self.crash("pre-op-done", frozenset({change.fop}), change.args)
        replies = await self.wind(eager.children, change.fop, *change.args)
        if self.crash is not None:
            await self.crash("op-done", frozenset({change.fop}), change.args)
        return await self._end_general(change, eager, replies, sources, whole)

    async def _end_general(self, change: DataChange, eager: Eager, replies: Replies, sources: int, whole: bool) -> Any:
        """Judge the replies, and do the post-op if it must be done now."""
        try:
            change.reply = self._judge(change, eager, replies, sources)
        except FopError as error:
            change.reply = error
        if self._lingering and not self._ends(eager) and eager.used:
            return change.outcome()
        if not whole and self._lingering:
            return eager  # others are writing: wait for them, without the lock
        await self._clear(eager)
        self._confirm(eager)
        return change.outcome()

    async def _end_with(self, eager: Eager, change: DataChange) -> Any:
        await self._settle_general(eager)
        self._confirm(eager)
        return change.outcome()

    def _require_source(self, took: int, sources: int) -> None:
        if not took & sources:
            raise FopError(errno.EIO, f"{self.name}: no copy that takes part is known to be good (split-brain)")
        self.require_data_copy(took & sources)

    async def _begin_general(self, inode: Inode, took: int, sources: int) -> Eager:
        absent = self.members.everyone & ~took
        replies = await self.mark(took, inode, DATA, 1, absent)
        marked = self.succeeded(took, replies)
        if not self.members.quorum(marked) or not marked & sources:
            await self.mark(marked, inode, DATA, -1, absent, by=-1)
            raise self.failure(replies)
        await self.accuse_suspects(inode, marked)
        suspects = self.suspects
        known = inode.ctx[self.inode_slot]
        empty = known is not None and known.empty
        token = self.clean_token if marked == self.members.everyone else None
        eager = Eager(inode, marked, token=token, absent=absent, end=0 if empty else -1)
        if empty:
            inode.ctx[self.inode_slot] = None
        eager.failed = took & ~marked
        eager.suspects = suspects
        self.blame(inode, DATA, eager.failed)
        if self._lingering:
            self._keep(eager)
        return eager

    def _distrust(self, eager: Eager) -> None:
        """A copy that has lost power since may have lost what was written, and the mark."""
        lost = self.suspects & eager.children & ~eager.suspects
        if lost and eager.children & ~lost:
            eager.failed |= lost
            eager.children &= ~lost

    @staticmethod
    def _ends(eager: Eager) -> bool:
        return bool(eager.failed or eager.stuck)

    def _confirm(self, eager: Eager) -> None:
        if not eager.recorded:
            raise FopError(NO_QUORUM, f"{self.name}: no quorum has recorded which copies failed")

    # -- what both share ---------------------------------------------------------------------------------------

    def _judge(self, change: DataChange, eager: Eager, replies: Replies, sources: int) -> Any:
        """The reply for the caller, or FopError; whom to accuse is noted in `eager`."""
        took = eager.children
        longest = max((reply for reply in replies if isinstance(reply, int)), default=0)
        errnos = []
        for reply in replies:
            short = change.wrote >= 0 and isinstance(reply, int) and reply < longest
            errnos.append(reply.errno if isinstance(reply, FopError) else errno.EIO if short else 0)
        result = verdict(DATA, took, errnos, sources, self.members.quorum, dirtied=True)
        if result.unknown:
            eager.stuck, eager.token = True, None
            change.inode.ctx[self.inode_slot] = None
        if result.accused:
            eager.failed |= result.accused
            eager.children &= ~result.accused
            eager.token = None
            self.blame(change.inode, DATA, result.accused)
        if result.errno:
            raise self.failure(replies, result.errno)
        self._note(change, eager)
        return replies[first(result.good & sources or result.good)]

    async def settle(self, gfid: bytes) -> None:
        """End the eager transaction on a file, if there is one."""
        eager = self.eager.get(gfid)
        if eager is None:
            return
        if eager.token is self.token and gfid not in self.locks.held:
            await self._clear(eager)
        else:
            await self.shielded(self._settle_general, eager)

    async def settle_locked(self, gfid: bytes) -> None:
        """The same for a caller that has locked all data of the file."""
        eager = self.eager.get(gfid)
        if eager is not None:
            await self._clear(eager)

    async def _settle_general(self, eager: Eager) -> None:
        gfid = eager.inode.gfid
        grant = await self.locks.acquire(gfid, locks.data())
        try:
            if self.eager.get(gfid) is eager:
                await self._clear(eager)
        finally:
            self.locks.release(grant)

    async def _clear(self, eager: Eager) -> None:
        """Clear the mark and accuse who failed.  The whole file is locked, or nothing waits.

        Until this is done the file stays in the table, so that whoever settles it meanwhile waits for the end.
        """
        gfid = eager.inode.gfid
        if self.crash is not None:
            await self.crash("before-post-op", DATA_FOPS, (self.internal, eager.inode))
        if self.suspects:
            self._distrust(eager)
        try:
            if eager.token is self.token and not (eager.unstable and self.opt.ensure_durability):
                await self.loop("xattrop", (self.internal, eager.inode, ADD_ARRAY, self.keys.delta(DATA, -1), None))
            else:
                await self._post_op_of(eager)
        finally:
            if self.eager.get(gfid) is eager:
                del self.eager[gfid]

    async def _post_op_of(self, eager: Eager) -> None:
        inode = eager.inode
        good = await self._made_durable(eager, eager.children & self.members.up)
        if eager.stuck or eager.used or not eager.absent:
            replies = await self.mark(good, inode, DATA, 0 if eager.stuck else -1, eager.failed)
        else:  # nothing was changed after all: those that were absent have missed nothing
            replies = await self.mark(good, inode, DATA, -1, eager.absent, by=-1)
        eager.recorded = not eager.failed or self.members.quorum(self.told(good, replies))
        if eager.failed:
            self.blame(inode, DATA, eager.failed)

    async def _made_durable(self, eager: Eager, good: int) -> int:
        """Sync what was overwritten, so that no power cut can take from a good copy what others are accused of missing."""
        if not (eager.unstable and eager.fd is not None and self.opt.ensure_durability):
            return good
        opened = await self.reopen(self.internal, eager.fd, good)
        synced = self.succeeded(opened, await self.wind(opened, "fsync", self.internal, eager.fd, True, None))
        if synced == good:
            return good
        if not synced:
            eager.stuck = True
            return good
        eager.failed |= good & ~synced
        return synced

    # -- the clock ---------------------------------------------------------------------------------------------

    async def expire(self, tick: int) -> None:
        """Settle what was last changed longer ago than post-op-delay-secs."""
        oldest = tick - self.opt.post_op_delay_secs / TICK_S
        for gfid, eager in list(self.eager.items()):
            if eager.tick < oldest:
                await self.settle(gfid)

    async def settle_all(self) -> None:
        for gfid in list(self.eager):
            await self.settle(gfid)

    async def drain(self) -> None:
        await self.settle_all()
