"""The self-healer of one replica set: what the indices list, on brick-up, on a period and by command; everything by command.

It runs as one task of the serving process and heals a bounded number of inodes at a time.  An inode is healed in
the order entries, data, metadata.  Healing needs all copies: while one is away nothing is decided, and the sweep ends early.

While copies may differ though no changelog says so (trust.py), every sweep is a full one, until one has gone through.

A sweep is repeated while it heals something, because healing a directory makes new entries that must be healed in turn.
"""

from __future__ import annotations

import errno
import logging
import stat
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.changelog import DATA, ENTRY, METADATA
from fusemux.graph.cluster.replicate.heal.accessed import Accessed
from fusemux.graph.cluster.replicate.heal.attributes import heal_attributes
from fusemux.graph.cluster.replicate.heal.contents import heal_contents
from fusemux.graph.cluster.replicate.heal.direction import FAVOURITES, Favourite, entry_plan
from fusemux.graph.cluster.replicate.heal.directories import heal_entries
from fusemux.graph.cluster.replicate.heal.inspection import Outcome, arbiter_of, inspect, quorum_of, settle_indices
from fusemux.graph.cluster.replicate.heal.mending import mend
from fusemux.graph.cluster.replicate.heal.names import NameHealed, heal_name
from fusemux.graph.cluster.replicate.heal.parking import PREFIX, is_parked, purge
from fusemux.graph.cluster.replicate.writing import Writing
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.translator import Event, StaleAttributes
from fusemux.graph.framework.types import ROOT_GFID, Iatt, gfid_text

__all__ = ["Healed", "Healer", "Progress"]

log = logging.getLogger("fusemux.heal")

_ROUNDS = 64  # sweeps in a row, at most
_PATIENCE_S = 1  # how long who looks at a name waits for copies that broke off to be mended; then it is not healed
INDICES = (b"xattrop", b"dirty")
_ALL = (DATA, METADATA, ENTRY)
_PAST = b"glusterfs.index.past"
_CHANGES = b"entry-changes"  # names that changed in directories; the directories need not be there any more


class Healed(NamedTuple):
    """What healing one inode came to."""

    changed: bool
    pending: bool
    split_brain: bool


@dataclass
class Progress:
    """Of the sweep that runs, or ran last."""

    running: bool = False
    healed: int = 0
    left: dict[bytes, Healed] = field(default_factory=dict, repr=False)  # what is still to be healed
    crawled: set[bytes] = field(
        default_factory=set, repr=False
    )  # what looking at everything has found, and could not heal

    def count(self, gfid: bytes, healed: Healed) -> None:
        """What came of healing one inode."""
        self.healed += healed.changed
        if healed.pending:
            self.left[gfid] = healed
        else:
            self.left.pop(gfid, None)

    @property
    def failed(self) -> int:
        return len(self.left)

    @property
    def split_brain(self) -> int:
        return sum(healed.split_brain for healed in self.left.values())


class Healer:
    def __init__(self, core: Writing) -> None:
        self.core = core
        self.progress = Progress()
        self._wanted = trio.Event()
        self._full = False
        self._sweeping = trio.Lock()
        self._mending = trio.Lock()
        self._sweeps: list[trio.CancelScope] = []
        self.busy: dict[bytes, trio.Event] = {}  # being healed now, and the end of it
        self.accessed = Accessed(self)

    # -- when ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The task: sweep when asked, and every heal-timeout seconds."""
        while True:
            with trio.move_on_after(self.core.opt.heal_timeout):
                await self._wanted.wait()
            self._wanted = trio.Event()
            full, self._full = self._full, False
            if not self.core.opt.self_heal_daemon:
                continue
            try:
                await self.sweep(full=full)
            except FopError as error:
                log.info("%s: healing stops for now: %s", self.core.name, error)

    def ask(self, *, full: bool = False) -> None:
        """Have the task sweep soon."""
        self._full = self._full or full
        self._wanted.set()

    # -- sweeps ----------------------------------------------------------------------------------------------

    async def sweep(self, *, full: bool = False) -> Progress:
        """Heal what the indices list (with `full`: everything), after the sweep that is under way.

        Raises FopError: ENOTCONN while a copy is away, EINTR when the graph is about to be changed.
        """
        with trio.CancelScope() as scope:
            self._sweeps.append(scope)
            try:
                async with self._sweeping:
                    return await self._sweep(full)
            finally:
                self._sweeps.remove(scope)
        raise FopError(errno.EINTR, f"{self.core.name}: its bricks are being changed; heal again")

    @property
    def at_work(self) -> bool:
        return bool(self._sweeps or self.busy)

    def interrupt(self) -> None:
        """End what is being healed; it stays recorded."""
        self.accessed.stop()
        for scope in self._sweeps:
            scope.cancel()

    async def _sweep(self, full: bool) -> Progress:
        progress = self.progress = Progress(running=True)
        full = full or self.core.trust.unclean
        touched = False
        try:
            for _ in range(_ROUNDS):
                self._require_all()
                healed = progress.healed
                if full:
                    if await self._crawl(progress):
                        await self._vouch()
                    progress.crawled = set(progress.left)
                    full = False
                touched |= await self._sweep_index(progress)
                if progress.healed == healed:
                    if touched or progress.healed:
                        await self._sync()
                    if not progress.failed and not await self.listed():
                        await purge(self.core)
                        await self._forget_gone_directories()
                    return progress
            return progress
        finally:
            progress.running = False

    async def _sync(self) -> None:
        """Once a sweep: a copy that then loses power must not accuse others anew of what they were healed of."""
        if self.core.opt.ensure_durability:
            for edge in self.core.children:
                await edge.syncfs(self.core.internal, self.core.graph.itable.root, None)

    async def _mend(self) -> None:
        """Have the copies complete what they broke off; see mending.py."""
        if not self.core.trust.unmended:
            return
        async with self._mending:
            for edge in self.core.edges(self.core.trust.unmended):
                await mend(self.core, edge.index)
                self.core.trust.mended(edge.index)

    async def _vouch(self) -> None:
        """Everything was looked at: the copies are alike but for what the indices list."""
        core = self.core
        if not core.trust.unclean:
            return
        await self._sync()
        for edge in core.children:
            try:
                await edge.removexattr(core.internal, core.graph.itable.root, _PAST, None)
            except FopError as error:
                if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                    raise
        core.trust.vouched()
        core.settle_ways()
        log.info("%s: all copies were compared after an unclean end", core.name)

    def _require_all(self) -> None:
        if not self.core.members.complete:
            away = [edge.name for edge in self.core.children if not self.core.members.up >> edge.index & 1]
            raise FopError(errno.ENOTCONN, f"{self.core.name}: {', '.join(away)} is down, healing needs all copies")

    async def _sweep_index(self, progress: Progress) -> bool:
        """Whether anything was listed."""
        listed = await self.listed()
        progress.left = {}  # all of that is looked at again
        window = max(1, self.core.opt.shd_max_threads)
        order = iter(sorted(listed | progress.crawled, key=lambda gfid: (gfid != ROOT_GFID, gfid)))

        async def worker() -> None:
            for gfid in order:
                progress.count(gfid, await self._try(gfid))
                await trio.lowlevel.checkpoint()

        if window == 1 or self.core.inline:
            await worker()
            return bool(listed)
        async with trio.open_nursery() as nursery:
            for _ in range(window):
                nursery.start_soon(worker)
        return bool(listed)

    async def _try(self, gfid: bytes) -> Healed:
        try:
            return await self.heal(gfid)
        except FopError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE) and await self._gone_everywhere(gfid):
                await self._unlist(gfid)
                return Healed(False, False, False)
            log.info("%s: %s is not healed: %s", self.core.name, gfid_text(gfid), error)
            return Healed(False, True, False)

    async def listed(self) -> set[bytes]:
        """The gfids that the indices of the bricks that are up list."""
        found: set[bytes] = set()
        for edge in self.core.edges(self.core.members.up):
            found |= await self.listed_on(edge.index)
        return found

    async def listed_on(self, child: int) -> set[bytes]:
        """The gfids in the indices of one brick; a file that is being written right now is dirty, but not pending."""
        pending, dirty = await self.indices_on(child)
        return pending | {gfid for gfid in dirty if not self._being_written(gfid)}

    async def indices_on(self, child: int) -> tuple[set[bytes], set[bytes]]:
        """The gfids of which one brick accuses others, and those with a mark of work that was begun."""
        pending, dirty = [await self._index(child, kind) for kind in INDICES]
        return pending, dirty

    async def pending_on(self, child: int) -> set[bytes]:
        """What one brick lists, without what is gone and what is only being changed just now."""
        pending, dirty = await self.indices_on(child)
        left = {gfid for gfid in pending if not await self._gone(gfid)}
        return left | {gfid for gfid in dirty - pending if await self._unfinished(gfid)}

    async def _unfinished(self, gfid: bytes) -> bool:
        """Whether there is a mark of which nobody who has set it knows any more."""
        core = self.core
        if self._being_written(gfid):
            return False
        grants = await core.locks.acquire_all(
            [(gfid, locks.name(None)), (gfid, locks.metadata()), (gfid, locks.data())]
        )
        try:
            if self._being_written(gfid):
                return False
            inode = Inode(gfid, 0, core.graph.itable.inode_slots)
            replies = await core.wind(core.members.up, "lookup", core.internal, inode, b"", core.keys.ask)
            return any(
                any((reply.xdata or {}).get(core.keys.dirty, b"")) for reply in replies if isinstance(reply, Iatt)
            )
        finally:
            core.locks.release(*grants)

    async def _index(self, child: int, kind: bytes) -> set[bytes]:
        """The gfids in one index of one brick; none when the brick keeps no index."""
        core, name = self.core, b"glusterfs.index." + kind
        try:
            answer = await core.children[child].getxattr(core.internal, core.graph.itable.root, name, None)
        except FopError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return set()
            raise
        raw = bytes(answer[name])
        return {raw[at : at + 16] for at in range(0, len(raw), 16)}

    async def _forget_gone_directories(self) -> None:
        """Changed names are listed of directories that were then removed themselves: on a good copy nobody asks for them again."""
        listed = {gfid for edge in self.core.children for gfid in await self._index(edge.index, _CHANGES)}
        for gfid in sorted(listed):
            if await self._gone_everywhere(gfid):
                await self._unlist(gfid)

    def _being_written(self, gfid: bytes) -> bool:
        """Whether all copies take part in the writes that have set its mark."""
        eager, core = self.core.eager.get(gfid), self.core
        if eager is None or eager.token is core.token:
            return eager is not None
        whole = eager.children == core.members.everyone and core.members.complete
        return whole and not (eager.absent or eager.failed or eager.stuck)

    async def _gone_everywhere(self, gfid: bytes) -> bool:
        return self.core.members.complete and await self._gone(gfid)

    async def _gone(self, gfid: bytes) -> bool:
        """Whether no copy that is up has it, or only among what is parked and about to be purged."""
        inode = Inode(gfid, 0, self.core.graph.itable.inode_slots)
        replies = await self.core.wind(self.core.members.up, "lookup", self.core.internal, inode, b"", None)
        for edge, reply in zip(self.core.children, replies, strict=True):
            if reply is None or (isinstance(reply, FopError) and reply.errno in (errno.ENOENT, errno.ESTALE)):
                continue
            if not isinstance(reply, Iatt) or not await is_parked(self.core, edge.index, inode):
                return False
        return True

    async def _unlist(self, gfid: bytes) -> None:
        """No copy has the file any more: it needs no healing."""
        for edge in self.core.children:
            for kind in (*INDICES, _CHANGES):
                try:
                    name = b"glusterfs.index." + kind + b"." + gfid.hex().encode()
                    await edge.removexattr(self.core.internal, self.core.graph.itable.root, name, None)
                except FopError:
                    pass  # it was not listed there

    async def _crawl(self, progress: Progress) -> bool:
        """Every directory from the root down, and all that is in it; whether all could be looked at."""
        root = await self.heal(ROOT_GFID, full=True)
        progress.count(ROOT_GFID, root)
        complete = root.split_brain or not root.pending
        pending = [self.core.graph.itable.root]
        while pending:
            directory = pending.pop()
            async with aclosing(self._children_of(directory)) as children:
                async for iatt in children:
                    complete &= await self._crawl_to(iatt, progress)
                    if iatt.is_dir:
                        pending.append(self.core.graph.itable.learn(iatt.gfid, iatt.type))
        return complete

    async def _crawl_to(self, iatt: Iatt, progress: Progress) -> bool:
        """Whether it could be looked at."""
        self.core.graph.itable.learn(iatt.gfid, iatt.type)
        try:
            healed = await self.heal(iatt.gfid, full=True)
        except FopError as error:
            log.info("%s: %s is not healed: %s", self.core.name, gfid_text(iatt.gfid), error)
            progress.count(iatt.gfid, Healed(False, True, False))
            return False
        progress.count(iatt.gfid, healed)
        return healed.split_brain or not healed.pending

    async def _children_of(self, directory: Inode) -> AsyncGenerator[Iatt, None]:
        core = self.core
        fd = core.graph.itable.fd(directory, 0)
        edge = core.children[0]
        try:
            await edge.opendir(core.internal, directory, fd, None)
            offset = 0
            while entries := await edge.readdir(core.internal, fd, 256, offset, True, None):
                offset = entries[-1].offset
                for entry in entries:
                    if entry.iatt is not None and not entry.name.startswith(PREFIX):
                        yield entry.iatt
        finally:
            with trio.CancelScope(shield=True):
                await edge.release(core.internal, fd, None)
            core.graph.itable.closed(fd)

    # -- one inode -------------------------------------------------------------------------------------------

    @property
    def favourite(self) -> Favourite:
        """What option favorite-child-policy says for split-brains."""
        return FAVOURITES[self.core.opt.favorite_child_policy]

    async def heal(
        self, gfid: bytes, pick: Favourite | None = None, *, full: bool = False, kinds: Collection[int] = _ALL
    ) -> Healed:
        """Heal one inode, or only these kinds.  Raises FopError when a copy does not answer."""
        core, pick = self.core, pick or self.favourite
        while (other := self.busy.get(gfid)) is not None:
            await other.wait()
        self.busy[gfid] = trio.Event()
        inode = core.graph.itable.learn(gfid, 0)
        inode.nopen += 1  # stays in memory meanwhile
        try:
            kind = inode.type or await self._type_of(inode)
            outcomes: list[Outcome] = []
            if stat.S_ISDIR(kind) and ENTRY in kinds:
                await self._mend()
                outcomes.append(await heal_entries(core, inode, pick, full=full))
            elif stat.S_ISREG(kind) and DATA in kinds:
                outcomes.append(await heal_contents(core, inode, pick))
            if METADATA in kinds:
                outcomes.append(await heal_attributes(core, inode, pick))
            if not any(outcome.pending for outcome in outcomes):
                await settle_indices(core, inode)
        finally:
            inode.nopen -= 1
            inode.ctx[core.inode_slot] = None
            self.busy.pop(gfid).set()
        healed = Healed(
            any(outcome.changed for outcome in outcomes),
            any(outcome.pending for outcome in outcomes),
            any(outcome.plan.split_brain or outcome.conflict for outcome in outcomes),
        )
        if healed.changed:
            log.info("%s: healed %s", core.name, gfid_text(gfid))
            if not stat.S_ISDIR(kind) or any(outcome.changed and outcome.plan.source < 0 for outcome in outcomes):
                core.notify(Event.UPCALL, None, inode)  # it may look different now from what was seen before
            else:
                core.notify(Event.UPCALL, None, StaleAttributes(inode))
        return healed

    async def _type_of(self, inode: Inode) -> int:
        replies = await self.core.wind(self.core.members.up, "lookup", self.core.internal, inode, b"", None)
        for reply in replies:
            if isinstance(reply, Iatt):
                inode.type = reply.type
                return reply.type
        raise next(reply for reply in replies if isinstance(reply, FopError))

    async def name(self, parent: Inode, name: bytes, offered: bytes = b"") -> bool:
        """Heal one name on which the copies disagree; whether anything was changed.

        `offered`: a gfid for what has none on any copy.  Raises FopError.
        """
        core = self.core
        self._require_all()
        if core.trust.unmended:
            with trio.move_on_after(_PATIENCE_S):
                await self._mend()
        if core.trust.unmended:
            raise FopError(errno.EAGAIN, f"{core.name}: a copy must first complete what it broke off")
        grant = await core.locks.acquire(parent.gfid, locks.name(name))
        try:
            healed: NameHealed = await core.shielded(self._name_locked, parent, name, offered)
        finally:
            core.locks.release(grant)
        return healed.changed

    async def _name_locked(self, parent: Inode, name: bytes, offered: bytes) -> NameHealed:
        core = self.core
        _, marks = await inspect(core, parent)
        plan = entry_plan(marks, quorum=quorum_of(core), arbiter=arbiter_of(core))
        return await heal_name(core, parent, name, plan.sources, self.favourite, offered)
