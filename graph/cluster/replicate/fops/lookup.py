"""lookup: the one fop that asks all copies, and so learns which of them are good.

Where they disagree about a name, the name is healed before the caller is answered (naming.py says when); so are attributes that
differ, with option metadata-self-heal.
"""

from __future__ import annotations

import errno
import logging
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.changelog import DATA, METADATA, ZERO
from fusemux.graph.cluster.replicate.core import GFID_REQ, Replies, as_answers, first
from fusemux.graph.cluster.replicate.fops.choosing import Choosing
from fusemux.graph.cluster.replicate.heal.inspection import quorum_of
from fusemux.graph.cluster.replicate.heal.parking import is_private
from fusemux.graph.cluster.replicate.naming import Finding, find, mends
from fusemux.graph.cluster.replicate.readable import accusations
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["Lookup"]

log = logging.getLogger("fusemux.replicate")


class _Asked(NamedTuple):
    """What the copies answered, who of the directory's copies nobody accuses, and `Core.blames` before they were asked."""

    replies: Replies
    trusted: int
    blames: int


class Lookup(Choosing):
    def _settle_healing(self) -> None:
        super()._settle_healing()
        self._alike = Lookup._equal_and_owned if self.opt.metadata_self_heal else Lookup._equal

    async def lookup(self, frame: Frame, inode: Inode, name: bytes, xdata: Xdata = None) -> Iatt:
        known = inode.ctx[self.inode_slot]
        request = self.keys.ask if xdata is None else self.asking(xdata)
        if known is not None and known.token is self.token and inode.gfid not in self.locks.held:
            replies: Replies = []
            error = None
            refusals = 0  # that are like the last one
            for edge in self.children:
                try:
                    replies.append(await edge.lookup(frame, inode, name, request))
                except FopError as refusal:
                    replies.append(refusal.with_traceback(None))
                    refusals = refusals + 1 if error is not None and error.errno == refusal.errno else 1
                    error = refusal
            if error is None:
                if self._alike(self, replies):
                    return self._found(replies)
            elif refusals == len(replies) and error.errno != errno.ENODATA:
                # A fresh one: what is raised refers to this call, which must not refer back, or it were left to the collector.
                raise FopError(error.errno, error.message)
            return await self._weigh(
                frame, inode, name, request, _Asked(replies, self.members.everyone, self.blames), xdata
            )
        asked = await self._general(frame, inode, name, request)
        return await self._weigh(frame, inode, name, request, asked, xdata)

    async def _general(self, frame: Frame, inode: Inode, name: bytes, request: Mapping[bytes, Any]) -> _Asked:
        trusted = self.members.everyone
        if name:
            trusted = (await self.known(frame, inode)).sources(DATA)
        blames = self.blames
        replies = await self.everywhere("lookup", frame, inode, name, request)
        alone = self.inline and inode.gfid not in self.locks.held
        if not name or alone or len({_claim(reply) for reply in replies if reply is not None}) == 1:
            return _Asked(replies, trusted, blames)
        # Perhaps the name was changed between the answers: ask again when nobody changes it.
        grant = await self.locks.acquire(inode.gfid, locks.name(name))
        try:
            blames = self.blames
            replies = await self.everywhere("lookup", frame, inode, name, request)
        finally:
            self.locks.release(grant)
        return _Asked(replies, trusted, blames)

    def _equal(self, replies: Replies) -> bool:
        """Whether all copies are alike, and no copy accuses another."""
        model: Iatt = replies[0]
        gfid, mode, size = model.gfid, model.mode, model.size
        sized = mode & 0o170000 == 0o100000
        arbiters = self.arbiters
        for index, reply in enumerate(replies):
            if reply.gfid != gfid or reply.mode != mode or (sized and reply.size != size and not arbiters >> index & 1):
                return False
            marks = reply.xdata
            if marks:
                for key in self.keys.pending:
                    if key in marks and marks[key] != ZERO:
                        return False
        return True

    def _equal_and_owned(self, replies: Replies) -> bool:
        """The same where differing owners are to be healed."""
        return self._equal(replies) and len({(reply.uid, reply.gid) for reply in replies}) == 1

    def _found(self, replies: Replies) -> Iatt:
        model: Iatt = replies[0]
        inode = self.graph.itable.learn(model.gfid, model.mode & 0o170000)
        known = inode.ctx[self.inode_slot]
        if known is None or known.token is not self.token:
            directory = model.mode & 0o170000 == 0o040000
            known = inode.ctx[self.inode_slot] = self.clean_copies(model.gfid, directory=directory)
        child = known.read_metadata
        reply: Iatt = replies[child] if child > 0 else model
        return reply

    async def _weigh(
        self, frame: Frame, inode: Inode, name: bytes, request: Mapping[bytes, Any], asked: _Asked, xdata: Xdata
    ) -> Iatt:
        """The copies differ, or some did not answer: make them agree where that is due, and answer."""
        finding = self._finding(asked)
        if name and (finding.uneven or finding.nameless) and await self._mend_name(inode, name, asked, finding, xdata):
            asked = await self._general(frame, inode, name, request)
            finding = self._finding(asked)
        if self.opt.metadata_self_heal and await self._mend_attributes(asked.replies, finding):
            asked = await self._general(frame, inode, name, request)
            finding = self._finding(asked)
        return await self._answer(frame, inode, name, asked, finding)

    def _finding(self, asked: _Asked) -> Finding:
        return find(as_answers(asked.replies), asked.trusted, self.members.quorum)

    async def _answer(self, frame: Frame, parent: Inode, name: bytes, asked: _Asked, finding: Finding) -> Iatt:
        replies = asked.replies
        if finding.errno:
            raise self.failure(replies, finding.errno)
        model: Iatt = replies[first(finding.holders)]
        inode = self.graph.itable.learn(model.gfid, stat.S_IFMT(model.mode)) if name else parent
        known = self.learn(inode, replies, finding.holders, asked.blames)
        if known.data and not self.inline and self.sizes_differ(replies):
            known = await self.refresh(frame, inode)
        readable = known.readable(METADATA, self.arbiters) & finding.holders or finding.holders
        readable = self.chosen(inode, known) & finding.holders or readable
        child = known.read_metadata
        reply: Iatt = replies[child if child >= 0 and readable >> child & 1 else first(readable)]
        return reply

    # -- healing what is looked at -----------------------------------------------------------------------------

    async def _mend_name(self, parent: Inode, name: bytes, asked: _Asked, finding: Finding, xdata: Xdata) -> bool:
        """Heal a name about which the copies disagree; whether anything was changed."""
        members, answers = self.members, as_answers(asked.replies)
        ruled = quorum_of(self) > 0
        if not members.complete or is_private(parent, name):
            return False
        if not mends(finding, answers, everyone=members.everyone, trusted=asked.trusted, ruled=ruled):
            return False
        try:
            healed: bool = await self.healer.name(parent, name, (xdata or {}).get(GFID_REQ, b""))
        except FopError as error:
            log.info("%s: %r in %s is not healed: %s", self.name, name, parent.gfid.hex(), error)
            return False
        return healed

    async def _mend_attributes(self, replies: Replies, finding: Finding) -> bool:
        """Heal attributes that differ, or that a copy is accused of having missed; whether anything was changed."""
        if finding.errno or finding.holders != self.members.everyone or replies[0].gfid in self.healer.busy:
            return False  # who heals its contents now heals its attributes next: that may take too long to wait for
        _, _, accused = accusations(replies, self.keys, self.arbiters, busy=True)
        if not accused and len({(reply.mode, reply.uid, reply.gid) for reply in replies}) == 1:
            return False
        try:
            healed = await self.healer.heal(replies[0].gfid, kinds=(METADATA,))
        except FopError as error:
            log.info("%s: %s is not healed: %s", self.name, replies[0].gfid.hex(), error)
            return False
        return bool(healed.changed)


def _claim(reply: Any) -> bytes | int:
    """What one copy says about a name: its gfid, or why there is none."""
    claim: bytes | int = reply.errno if isinstance(reply, FopError) else reply.gfid
    return claim
