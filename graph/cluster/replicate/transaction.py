"""Transactions of metadata and entries: lock, pre-op, operation, post-op.  What to write, changelog.py decides.

`change` takes the plain loop over the children when nothing is unusual, and nothing waits: then no lock is needed, and while
all succeed nothing is recorded.  Otherwise `_transact` goes through all steps.  Once it holds its locks a transaction
cannot be cancelled: its caller may go, the changelog must be brought to an end.

The caller is answered after the post-op when a copy failed, so that no crash can make the others forget it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.changelog import ADD_ARRAY, DATA, ENTRY, METADATA, Verdict, new_entry, verdict
from fusemux.graph.cluster.replicate.core import Core, Replies, first
from fusemux.graph.cluster.replicate.eager import Opened
from fusemux.graph.cluster.replicate.errors import NO_QUORUM
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Frame, Xdata

__all__ = ["CREATES", "ENTRY_CHANGED", "Change", "Transactions"]

ENTRY_CHANGED = b"glusterfs.xattrop-entry-create"  # tells features/index which name of the directory changed
CREATES = frozenset({"create", "tmpfile"})  # leave a file open
_GONE = frozenset({errno.ENOENT, errno.ESTALE})
_ORDERS = os.O_CREAT | os.O_EXCL | os.O_TRUNC  # of open(2)'s flags, not to be repeated when a file is opened again


class Change:
    """One transaction of metadata or entries.

    `owners` are the inodes whose xattrs keep the changelog: the file itself, or the directories, each with the name that
    changes in it.  `made`: gfid and mode of what a create, mknod or mkdir brings into the world.
    """

    __slots__ = ("args", "fop", "gaining", "kind", "losing", "made", "owners")

    def __init__(
        self,
        kind: int,
        fop: str,
        args: tuple[Any, ...],
        *owners: tuple[Inode, bytes | None],
        made: tuple[bytes, int] | None = None,
        losing: Inode | None = None,
        gaining: Inode | None = None,
    ) -> None:
        self.kind = kind
        self.fop = fop
        self.args = args  # as the children get them, the frame first
        self.owners = owners
        self.made = made
        self.losing = losing  # what a name is taken from: nothing may be done to it meanwhile, for it may be the last
        self.gaining = gaining  # what gets another name: it may not lose its last one meanwhile

    def spans(self) -> list[tuple[bytes, locks.Span]]:
        """The locks it needs."""
        if self.kind == METADATA:
            return [(inode.gfid, locks.metadata()) for inode, _ in self.owners]
        wanted = [(inode.gfid, locks.name(name)) for inode, name in self.owners]
        if self.losing is not None:
            parts = [locks.name(None), locks.metadata(), locks.data(), locks.opening()]
            gone = parts[:2] if stat.S_ISDIR(self.losing.type) else parts[1:]
            wanted += [(self.losing.gfid, span) for span in gone]
        if self.gaining is not None:
            wanted.append((self.gaining.gfid, locks.metadata()))
        return wanted

    @property
    def emptied(self) -> Inode | None:
        """The directory that must be empty to go: a copy of it that lacks entries cannot say whether it is."""
        return self.losing if self.losing is not None and stat.S_ISDIR(self.losing.type) else None

    @property
    def retimed(self) -> list[Inode]:
        """What it gives a new change time without a name by which healing would find it.

        (A renamed file gets its times together with its new name.)
        """
        return [inode for inode in (self.losing, self.gaining) if inode is not None]

    @property
    def files(self) -> tuple[Fd, ...]:
        """What must be open on a child for it to take part."""
        return tuple(arg for arg in self.args if isinstance(arg, Fd)) if self.fop not in CREATES else ()


class Transactions(Core):
    def usual(self, inode: Inode) -> bool:
        """Whether fops on `inode` may take the plain loop."""
        known = inode.ctx[self.inode_slot]
        return known is not None and known.token is self.token and inode.gfid not in self.locks.held

    async def change(self, change: Change) -> Any:
        """Perform it; the reply of one copy."""
        for inode, _ in change.owners:
            if not self.usual(inode):
                return await self._transact(change)
        if change.emptied is not None and not self.usual(change.emptied):
            return await self._transact(change)
        for fd in change.files:
            if fd.ctx[self.fd_slot] is not self.opened:
                return await self._transact(change)
        replies, failed = await self.loop(change.fop, change.args)
        if failed:
            return await self._conclude(change, self.members.everyone, replies, self.members.everyone, dirtied=False)
        if change.made is not None:
            self._made_everywhere(change)
        return replies[0]

    def _made_everywhere(self, change: Change) -> None:
        """What was made is known to be there on all children."""
        assert change.made is not None
        gfid, mode = change.made
        inode = change.args[-2].inode if change.fop in CREATES else self.graph.itable.learn(gfid, stat.S_IFMT(mode))
        inode.ctx[self.inode_slot] = self.clean_copies(gfid, directory=stat.S_ISDIR(mode), empty=stat.S_ISREG(mode))

    async def loop(self, fop: str, args: tuple[Any, ...]) -> tuple[Replies, bool]:
        """Call all children in turn: their replies, and whether any failed."""
        replies: Replies = []
        failed = False
        for edge in self.children:
            try:
                replies.append(await getattr(edge, fop)(*args))
            except FopError as error:
                replies.append(error.with_traceback(None))  # or it would refer to this call, which refers to it
                failed = True
        return replies, failed

    async def shielded(self, work: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Run `work` to its end even if the caller is cancelled.

        Also where no child ever waits, since a lock may have to be waited for.
        """
        with trio.CancelScope(shield=True):
            return await work(*args)

    async def _transact(self, change: Change) -> Any:
        grants = await self.locks.acquire_all(change.spans())
        try:
            return await self.shielded(self._perform, change)
        finally:
            self.locks.release(*grants)

    async def _perform(self, change: Change) -> Any:
        frame: Frame = change.args[0]
        everyone = self.members.everyone
        sources = everyone
        for inode, _ in change.owners:
            sources &= (await self.known(frame, inode)).sources(change.kind)
        if change.emptied is not None:
            sources &= (await self.known(frame, change.emptied)).sources(ENTRY)
        took = self.members.up
        for fd in change.files:
            took = await self.reopen(frame, fd, took)
        self.require_quorum(took)
        if change.kind == METADATA:
            self.require_data_copy(took & sources)
            await self.accuse_suspects(change.owners[0][0], took)
        if took == everyone and self.opt.optimistic_change_log:
            replies = await self._operate(change, took)
            return await self._conclude(change, took, replies, sources, dirtied=False)
        absent = everyone & ~took
        marked = await self._pre_op(change, took, absent)
        replies = await self._operate(change, marked)
        return await self._conclude(change, marked, replies, sources, dirtied=True, absent=absent, late=took & ~marked)

    async def _operate(self, change: Change, which: int) -> Replies:
        if self.crash is None:
            return await self.wind(which, change.fop, *change.args)
        await self.crash("pre-op-done", frozenset({change.fop}), change.args)
        replies = await self.wind(which, change.fop, *change.args)
        await self.crash("op-done", frozenset({change.fop}), change.args)
        return replies

    def require_data_copy(self, sources: int) -> None:
        """Refuse to change a file of which only the arbiter has a good copy.  Raises ENOTCONN."""
        if sources and not sources & ~self.arbiters:
            raise FopError(NO_QUORUM, f"{self.name}: only the arbiter has a good copy")

    async def _pre_op(self, change: Change, took: int, absent: int) -> int:
        """Mark the owners on the children in `took`, accusing the `absent`; those on which it worked.

        Raises FopError, having taken everything back, when these are no quorum.
        """
        marked = took
        done: list[tuple[Inode, int]] = []
        for inode, name in change.owners:
            replies = await self.mark(took, inode, change.kind, 1, absent, name=name)
            done.append((inode, self.succeeded(took, replies)))
            marked &= done[-1][1]
        if not self.members.quorum(marked):
            for inode, where in done:
                await self.mark(where, inode, change.kind, -1, absent, by=-1)
            raise self.failure(replies)
        return marked

    async def mark(
        self,
        which: int,
        inode: Inode,
        kind: int,
        dirty: int,
        accused: int = 0,
        *,
        by: int = 1,
        name: bytes | None = None,
    ) -> Replies:
        """Add to the changelog of `inode` on the children `which`; nothing to add sends nothing."""
        delta = self.keys.delta(kind, dirty, accused, by=by)
        if not delta or not which:
            return [{}] * len(self.children)
        marks = accused and by > 0 and name is not None and self.opt.granular_entry_heal
        xdata: Xdata = {ENTRY_CHANGED: name} if marks else None
        return await self.wind(which, "xattrop", self.internal, inode, ADD_ARRAY, delta, xdata)

    async def accuse_suspects(self, inode: Inode, which: int) -> None:
        """A copy that may have lost contents shows it by size and times: only until these are changed."""
        suspects = self.suspects & which
        if suspects and which & ~suspects and stat.S_ISREG(inode.type):
            await self.mark(which & ~suspects, inode, DATA, 0, suspects)
            self.blame(inode, DATA, suspects)

    async def _conclude(
        self,
        change: Change,
        took: int,
        replies: Replies,
        sources: int,
        *,
        dirtied: bool,
        absent: int = 0,
        late: int = 0,
    ) -> Any:
        """Judge the replies, record what must be recorded, answer the caller.

        `absent` were accused by the pre-op; `late` failed in it and are to be accused with those that failed now.
        """
        errnos = [reply.errno if isinstance(reply, FopError) else 0 for reply in replies]
        result = verdict(change.kind, took, errnos, sources, self.members.quorum, dirtied=dirtied, absent=absent)
        accused = result.accused | late if not result.errno else result.accused
        self._remember(change, result, accused)
        if change.fop in CREATES:
            await self._opened(change, took, replies, result)
        if change.made is not None and not result.errno:
            if result.good == self.members.everyone:
                self._made_everywhere(change)
            else:
                await self._accuse_of_new(change.made, result.good)
        if accused | absent and not result.errno:
            for inode in change.retimed:
                await self._accuse_of_time(inode, result.good, accused | absent)
        recorded = await self._post_op(change, took, result, accused)
        self._remember(change, result, accused)
        if result.errno:
            raise self.failure(replies, result.errno)
        if accused and not self.members.quorum(recorded):
            raise FopError(NO_QUORUM, f"{self.name}: no quorum has recorded which copies failed")
        return replies[first(result.good & sources or result.good)]

    def _remember(self, change: Change, result: Verdict, accused: int) -> None:
        """Before and after the post-op: a reader may ask the copies in between."""
        for inode, _ in change.owners:
            if result.unknown:
                inode.ctx[self.inode_slot] = None
            elif accused:
                self.blame(inode, change.kind, accused)

    async def _post_op(self, change: Change, marked: int, result: Verdict, accused: int) -> int:
        """The children on which everything was recorded."""
        if self.crash is not None:
            await self.crash("before-post-op", frozenset({change.fop}), change.args)
        recorded = result.good
        for inode, name in change.owners:
            which, by = (result.absolved, -1) if result.absolved else (accused, 1)
            replies = await self.mark(result.good, inode, change.kind, result.dirty, which, by=by, name=name)
            recorded &= self.told(result.good, replies)
        if result.dirty < 0 and self.members.quorum(recorded):
            await self._unmark(change, marked & ~result.good & self.members.up)
        return recorded

    async def _unmark(self, change: Change, failed: int) -> None:
        """Accused they are by now: a mark left there would have a directory's healing bring back what was removed."""
        for inode, _ in change.owners:
            await self.mark(failed, inode, change.kind, -1)

    def told(self, which: int, replies: Replies) -> int:
        """The children that know what the changelog should say: those that recorded it, and those where the file has gone."""
        gone = sum(1 << i for i, reply in enumerate(replies) if isinstance(reply, FopError) and reply.errno in _GONE)
        return self.succeeded(which, replies) | which & gone

    async def _accuse_of_time(self, inode: Inode, good: int, missed: int) -> None:
        """If it is still there: a name made and removed while a copy was away would else leave its times different."""
        asked = 1 << first(good)
        if self.succeeded(asked, await self.wind(asked, "lookup", self.internal, inode, b"", None)):
            await self.mark(good, inode, METADATA, 0, missed)
            self.blame(inode, METADATA, missed)

    async def _accuse_of_new(self, made: tuple[bytes, int], good: int) -> None:
        missed = self.members.everyone & ~good
        gfid, mode = made
        inode = self.graph.itable.learn(gfid, stat.S_IFMT(mode))
        delta = self.keys.accuse(new_entry(mode, granular=self.opt.granular_entry_heal), missed)
        await self.wind(good, "xattrop", self.internal, inode, ADD_ARRAY, delta, None)
        inode.ctx[self.inode_slot] = None

    async def _opened(self, change: Change, took: int, replies: Replies, result: Verdict) -> None:
        """A create has left the file open where it succeeded; when it failed as a whole nobody will close that."""
        fd: Fd = change.args[-2]
        made = self.succeeded(took, replies)
        if result.errno:
            await self.wind(made, "release", change.args[0], fd, None)
        else:
            fd.ctx[self.fd_slot] = Opened(self.generation, made)

    # -- open files --------------------------------------------------------------------------------------------

    def open_on(self, fd: Fd) -> int:
        """The children on which `fd` is open: a brick that went away meanwhile has forgotten it."""
        opened: Opened | None = fd.ctx[self.fd_slot]
        if opened is None:
            return 0
        since = self.members.since
        return sum(
            1 << i
            for i in range(len(self.children))
            if opened.children & self.members.up & 1 << i and since[i] <= opened.generation
        )

    async def reopen(self, frame: Frame, fd: Fd, wanted: int) -> int:
        """Open `fd` where it is not: on children that came back.  Those of `wanted` on which it is open then."""
        have = wanted if fd.ctx[self.fd_slot] is self.opened else self.open_on(fd)
        if not wanted & ~have:
            return wanted
        grant = await self.locks.acquire(fd.inode.gfid, locks.opening())
        try:
            return await self._reopen_locked(frame, fd, wanted)
        finally:
            self.locks.release(grant)

    async def _reopen_locked(self, frame: Frame, fd: Fd, wanted: int) -> int:
        """Nobody else opens it at the same time: a second open of the same `fd` would never be closed."""
        generation = self.generation
        have = self.open_on(fd)
        missing = wanted & ~have
        if missing:
            if stat.S_ISDIR(fd.inode.type):
                replies = await self.wind(missing, "opendir", frame, fd.inode, fd, None)
            else:
                replies = await self.wind(missing, "open", frame, fd.inode, fd.flags & ~_ORDERS, fd, None)
            have |= self.succeeded(missing, replies)
            complete = have == self.members.everyone and generation == self.generation
            fd.ctx[self.fd_slot] = self.opened if complete else Opened(generation, have)
        return have & wanted
