"""lookup: the one fop that asks all copies, and so learns which of them are good."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from typing import Any

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.changelog import DATA, METADATA, ZERO
from fusemux.graph.cluster.replicate.core import Replies, as_answers, first
from fusemux.graph.cluster.replicate.fops.choosing import Choosing
from fusemux.graph.cluster.replicate.naming import find
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["Lookup"]


class Lookup(Choosing):
    async def lookup(self, frame: Frame, inode: Inode, name: bytes, xdata: Xdata = None) -> Iatt:
        known = inode.ctx[self.inode_slot]
        request = self.keys.ask if xdata is None else self.asking(xdata)
        if known is not None and known.token is self.token and inode.gfid not in self.locks.held:
            replies: Replies = []
            error = None
            for edge in self.children:
                try:
                    replies.append(await edge.lookup(frame, inode, name, request))
                except FopError as refusal:
                    replies.append(refusal.with_traceback(None))
                    error = refusal
            if error is None and self._equal(replies):
                return self._found(replies)
            if error is not None and all(isinstance(r, FopError) and r.errno == error.errno for r in replies):
                # A fresh one: what is raised refers to this call, which must not refer back, or it were left to the collector.
                raise FopError(error.errno, error.message)
            return await self._weigh(frame, inode, name, replies, self.members.everyone, self.blames)
        return await self._general(frame, inode, name, request)

    async def _general(self, frame: Frame, inode: Inode, name: bytes, request: Mapping[bytes, Any]) -> Iatt:
        trusted = self.members.everyone
        if name:
            trusted = (await self.known(frame, inode)).sources(DATA)
        blames = self.blames
        replies = await self.everywhere("lookup", frame, inode, name, request)
        alone = self.inline and inode.gfid not in self.locks.held
        if not name or alone or len({_claim(reply) for reply in replies if reply is not None}) == 1:
            return await self._weigh(frame, inode, name, replies, trusted, blames)
        # Perhaps the name was changed between the answers: ask again when nobody changes it.
        grant = await self.locks.acquire(inode.gfid, locks.name(name))
        try:
            blames = self.blames
            replies = await self.everywhere("lookup", frame, inode, name, request)
        finally:
            self.locks.release(grant)
        return await self._weigh(frame, inode, name, replies, trusted, blames)

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
        self, frame: Frame, parent: Inode, name: bytes, replies: Replies, trusted: int, blames: int
    ) -> Iatt:
        """The copies differ, or some did not answer."""
        finding = find(as_answers(replies), trusted, self.members.quorum)
        if finding.errno:
            raise self.failure(replies, finding.errno)
        model: Iatt = replies[first(finding.holders)]
        inode = self.graph.itable.learn(model.gfid, stat.S_IFMT(model.mode)) if name else parent
        known = self.learn(inode, replies, finding.holders, blames)
        if known.data and not self.inline and self.sizes_differ(replies):
            known = await self.refresh(frame, inode)
        readable = known.readable(METADATA, self.arbiters) & finding.holders or finding.holders
        readable = self.chosen(inode, known) & finding.holders or readable
        child = known.read_metadata
        reply: Iatt = replies[child if child >= 0 and readable >> child & 1 else first(readable)]
        return reply


def _claim(reply: Any) -> bytes | int:
    """What one copy says about a name: its gfid, or why there is none."""
    claim: bytes | int = reply.errno if isinstance(reply, FopError) else reply.gfid
    return claim
