"""What all fops of replicate stand on: its children, what is known of each inode's copies, asking the copies.

The common case is decided by identity checks.  `token` is one object for as long as all children are up, none of them ever waits,
and no option asks for more than usual; an inode whose `Copies` carry this token can be served by a plain loop over the
children ("fast" below).  Everything else (a child down, copies accused, children that wait) finds another object there and
takes the general way through transaction.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from stat import S_IFREG
from typing import Any

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.changelog import METADATA, Keys
from fusemux.graph.cluster.replicate.delays import Clock, clock_of
from fusemux.graph.cluster.replicate.eager import Eager, Opened
from fusemux.graph.cluster.replicate.errors import NO_QUORUM, fold
from fusemux.graph.cluster.replicate.locks import Locks
from fusemux.graph.cluster.replicate.members import Members
from fusemux.graph.cluster.replicate.naming import find
from fusemux.graph.cluster.replicate.options import OPTIONS
from fusemux.graph.cluster.replicate.quorum import rule
from fusemux.graph.cluster.replicate.readable import Copies, Policy, accusations
from fusemux.graph.cluster.replicate.trust import Trust
from fusemux.graph.framework.errors import FopError, FusemuxError, OptionError
from fusemux.graph.framework.fanout import fan_out
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["GFID_REQ", "INTERNAL_PID", "Core", "Replies"]

log = logging.getLogger("fusemux.replicate")

GFID_REQ = b"gfid-req"  # in a lookup's xdata: a gfid for what has none
INTERNAL_PID = -6  # as GlusterFS's self-heal daemon: what replicate does on its own account
Replies = list[Any]  # one place per child: its reply, its FopError, or None when it was not called


class Core(Translator):
    children_min = 2
    children_max = 16  # GlusterFS's limit
    inode_slots = 1  # Copies
    fd_slots = 1  # Opened
    options = OPTIONS
    crash_points = ("pre-op-done", "op-done", "before-post-op")  # of every transaction

    def __init__(self, name: str, given: Mapping[str, str], process: Process) -> None:
        super().__init__(name, given, process)
        self.locks = Locks()
        self.eager: dict[
            bytes, Eager
        ] = {}  # files whose dirty mark is set, by gfid; bounded by what is open and the delay
        self.clock: Clock = clock_of(process)
        self.internal = Frame(pid=INTERNAL_PID)
        self.members = Members(0, rule(0, "none", None))
        self.trust = Trust(0)
        self.suspects = 0  # children that may have lost what was not synced; see trust.py
        self.generation = 0
        self.token: object = object()
        self.clean_token: object | None = None
        self.blames = 0  # how often copies were blamed: what was asked of them before that may be out of date
        self.crash: Any = None  # what is armed at crash points (debug/crash.py)
        self._ways: tuple[Any, ...] = ()
        self._merged_for: Xdata = None
        self._merged: Mapping[bytes, Any] = {}
        self.healer: Any  # a Healer; the whole translator makes it
        self.heals_accessed = False  # whether any option asks for healing on access

    async def init(self) -> None:
        count = len(self.children)
        names = self.opt.afr_pending_xattr or tuple(edge.name for edge in self.children)
        if len(names) != count:
            raise FusemuxError(f"{self.name}: option afr-pending-xattr names {len(names)} children, there are {count}")
        self.keys = Keys(names, self.opt.afr_dirty_xattr)
        self.arbiters = 1 << count - 1 if self.opt.arbiter_count else 0
        self.members = Members(count, rule(count, self.opt.quorum_type, self.opt.quorum_count))
        self.trust = Trust(count)
        self.reading = [0] * count  # reads under way, for read-hash-mode 3 and 5
        self.latency = [0.0] * count  # seconds a read took lately, for 4 and 5
        self.settle_ways()
        self._settle_healing()

    def linked(self) -> None:
        self.settle_ways()

    def reconfigure(self, given: Mapping[str, str]) -> None:
        before = self.opt, self.unknown_options, self.given
        super().reconfigure(given)
        try:
            self._read_policy()
        except OptionError:
            self.opt, self.unknown_options, self.given = before
            raise
        self.members.quorum = rule(len(self.children), self.opt.quorum_type, self.opt.quorum_count)
        self.settle_ways()
        self._settle_healing()

    def _settle_healing(self) -> None:
        opt = self.opt
        self.heals_accessed = bool(opt.data_self_heal or opt.metadata_self_heal or opt.entry_self_heal)

    # -- what holds while no child comes or goes ---------------------------------------------------------------

    def settle_ways(self) -> None:
        """Children, options or links have changed: decide anew which way is the common one.

        If it is another one than before, a new generation begins, and everything known is looked at again.
        """
        members = self.members
        if not members.count:
            return  # not initialised yet
        usual = bool(self.opt.eager_lock and self.opt.post_op_delay_secs and self.opt.optimistic_change_log)
        usual = usual and self.crash is None  # the plain way has no crash points
        self.inline = not any(edge.suspends for edge in self.children)
        self.policy = self._read_policy()
        fast = members.complete and self.inline and usual
        self.suspects = self.trust.suspects
        if self._ways == (members.up, members.generation, fast, self.policy, self.suspects):
            return
        members.generation += 1
        self.generation = members.generation
        self._ways = (members.up, members.generation, fast, self.policy, self.suspects)
        self._interned: dict[tuple[Any, ...], Copies] = {}
        self.token = object()
        self.clean_token = self.token if fast else None  # what `Copies` and `Eager` carry to be recognised
        self.opened = Opened(members.generation, members.everyone)
        self.clean = self.copies(members.everyone, 0, 0)
        self.empty = self.copies(members.everyone, 0, 0, empty=True)

    def _read_policy(self) -> Policy:
        names = [edge.name for edge in self.children]
        fixed = self.opt.read_subvolume_index
        if fixed >= len(names):
            raise OptionError(
                f"option read-subvolume-index {fixed}: {self.name} has the children 0 to {len(names) - 1}"
            )
        if self.opt.read_subvolume in names:
            fixed = names.index(self.opt.read_subvolume)
        if fixed < 0 and self.opt.choose_local:
            local = [edge.index for edge in self.children if not edge.suspends and not self.arbiters >> edge.index & 1]
            fixed = local[0] if local else -1
        return Policy(len(names), self.opt.read_hash_mode, fixed, os.getpid())

    def copies(
        self, seen: int, data: int, metadata: int, gfid: bytes = b"", *, directory: bool = False, empty: bool = False
    ) -> Copies:
        """The shared record of this knowledge.  With a read policy that goes by gfid there is one per child to read."""
        policy = self.policy
        readable = seen & ~data & ~metadata & ~self.arbiters
        by_gfid = policy.by_gfid and bool(gfid)
        data_child = policy.choose(readable or seen & ~data & ~self.arbiters, gfid, directory=directory)
        meta_child = policy.choose(readable or seen & ~metadata & ~self.arbiters, gfid, directory=directory)
        key = (seen, data, metadata, empty, data_child, meta_child)
        found = self._interned.get(key)
        if found is None:
            clean = seen == self.members.everyone and not data and not metadata
            found = self._interned[key] = Copies(
                self.generation, seen, data, metadata, read_data=data_child, read_metadata=meta_child,
                token=self.clean_token if clean and (by_gfid or not policy.by_gfid) else None, empty=empty,
            )  # fmt: skip
        return found

    def clean_copies(self, gfid: bytes, *, directory: bool = False, empty: bool = False) -> Copies:
        """Of an inode that is there on all children, accused by none."""
        if self.policy.by_gfid:
            return self.copies(self.members.everyone, 0, 0, gfid, directory=directory, empty=empty)
        return self.empty if empty else self.clean

    def blame(self, inode: Inode, kind: int, failed: int) -> None:
        """Children have just missed a change of `inode`: do not read it there."""
        self.blames += 1
        known = inode.ctx[self.inode_slot]
        if known is None or known.generation != self.generation:
            inode.ctx[self.inode_slot] = None
            return
        data = known.data | (0 if kind == METADATA else failed)
        metadata = known.metadata | (failed if kind == METADATA else 0)
        inode.ctx[self.inode_slot] = self.copies(known.seen, data, metadata, inode.gfid, directory=_is_dir(inode))

    # -- asking the copies -------------------------------------------------------------------------------------

    def asking(self, xdata: Xdata) -> Mapping[bytes, Any]:
        """The lookup request that also asks for the changelog.

        Children are not offered a gfid: each would give its own copy one, whatever the others have.
        """
        if xdata is None:
            return self.keys.ask
        if xdata is not self._merged_for:
            rest = {key: value for key, value in xdata.items() if key != GFID_REQ}
            self._merged_for, self._merged = xdata, {**rest, **self.keys.ask}
        return self._merged

    async def known(self, frame: Frame, inode: Inode, *, writing: int = 0) -> Copies:
        """What is known of `inode`'s copies, asked of them if it is out of date."""
        known: Copies | None = inode.ctx[self.inode_slot]
        if known is not None and known.generation == self.generation:
            return known
        return await self.refresh(frame, inode, writing=writing)

    async def refresh(self, frame: Frame, inode: Inode, *, writing: int = 0) -> Copies:
        """Look `inode` up on all children.  Raises FopError when no quorum of them has it.

        `writing`: how many of the locks on its data are the caller's own, so that sizes tell something.
        """
        blames = self.blames
        replies = await self.everywhere("lookup", frame, inode, b"", self.keys.ask)
        finding = find(as_answers(replies), self.members.everyone, self.members.quorum)
        if finding.errno:
            raise FopError(finding.errno, f"{self.name}: {len(self.children)} copies asked")
        known = self.learn(inode, replies, finding.holders, blames, writing=writing)
        if writing or self.inline or not self.sizes_differ(replies):
            return known
        # Perhaps a write came between the answers: ask again when there is none.
        grant = await self.locks.acquire(inode.gfid, locks.data())
        try:
            return await self.refresh(frame, inode, writing=1)
        finally:
            self.locks.release(grant)

    def learn(self, inode: Inode, replies: Replies, holders: int, blames: int, *, writing: int = 0) -> Copies:
        """What the copies in `holders` answered about `inode`; remembered, if nobody was blamed since (`blames`)."""
        answers = [reply if holders >> i & 1 else None for i, reply in enumerate(replies)]
        busy = self.locks.writers(inode.gfid) > writing
        seen, data, metadata = accusations(answers, self.keys, self.arbiters, busy=busy, suspects=self.suspects)
        model = next(answer for answer in answers if answer is not None)
        known = self.copies(seen, data, metadata, inode.gfid, directory=model.is_dir)
        inode.ctx[self.inode_slot] = known if blames == self.blames else None
        return known

    def sizes_differ(self, replies: Replies) -> bool:
        holders = [reply for i, reply in enumerate(replies) if not self.arbiters >> i & 1]
        files = [reply for reply in holders if isinstance(reply, Iatt) and reply.type == S_IFREG]
        return len({file.size for file in files}) > 1

    # -- calling children --------------------------------------------------------------------------------------

    async def everywhere(self, fop: str, *args: Any) -> Replies:
        """Call a fop on every child that is up.  Raises ENOTCONN without quorum."""
        up = self.members.up
        self.require_quorum(up)
        return await self.wind(up, fop, *args)

    async def wind(self, which: int, fop: str, *args: Any) -> Replies:
        """Call a fop on the children in the set `which`."""
        edges = self.edges(which)
        if len(edges) == len(self.children):
            return await fan_out(edges, fop, *args)
        return self._placed(edges, await fan_out(edges, fop, *args))

    def _placed(self, edges: Sequence[Edge], answers: Sequence[Any]) -> Replies:
        replies: Replies = [None] * len(self.children)
        for edge, answer in zip(edges, answers, strict=True):
            replies[edge.index] = answer
        return replies

    def edges(self, which: int) -> list[Edge]:
        return [edge for edge in self.children if which >> edge.index & 1]

    def require_quorum(self, present: int) -> None:
        if not self.members.quorum(present):
            raise FopError(
                NO_QUORUM, f"{self.name}: {present.bit_count()} of {len(self.children)} copies are no quorum"
            )

    def succeeded(self, which: int, replies: Replies) -> int:
        """Those of the children `which` that did not answer an error."""
        return sum(1 << i for i, reply in enumerate(replies) if which >> i & 1 and not isinstance(reply, FopError))

    def agreed(self, which: int, replies: Replies, prefer: int = 0) -> Any:
        """One reply for fops that only need a quorum of children to succeed: of one in `prefer`, if possible."""
        good = self.succeeded(which, replies)
        if not self.members.quorum(good):
            raise self.failure(replies)
        return replies[first(good & prefer or good)]

    def failure(self, replies: Replies, errno: int = 0) -> FopError:
        """The error for the caller: `errno`, or what the children's errors fold to."""
        errors = [reply for reply in replies if isinstance(reply, FopError)]
        number = errno or fold(error.errno for error in errors)
        messages = "; ".join(error.message for error in errors if error.errno == number and error.message)
        return FopError(number, messages or self.name)


def as_answers(replies: Replies) -> list[Iatt | int | None]:
    """For the pure modules: errnos in place of FopErrors."""
    return [reply.errno if isinstance(reply, FopError) else reply for reply in replies]


def first(children: int) -> int:
    """The lowest child of a set that is not empty."""
    return (children & -children).bit_length() - 1


def inode_of(target: Inode | Fd) -> Inode:
    return target if isinstance(target, Inode) else target.inode


def _is_dir(inode: Inode) -> bool:
    return inode.type == 0o040000
