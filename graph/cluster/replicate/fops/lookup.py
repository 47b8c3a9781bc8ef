"""lookup: the one fop that asks all copies, and so learns which of them are good."""

from __future__ import annotations

import stat

from fusemux.graph.cluster.replicate.changelog import DATA, METADATA, ZERO
from fusemux.graph.cluster.replicate.core import Core, Replies, as_answers, first
from fusemux.graph.cluster.replicate.naming import find
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["Lookup"]


class Lookup(Core):
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
                    replies.append(refusal)
                    error = refusal
            if error is None and self._equal(replies):
                return self._found(replies)
            if error is not None and all(isinstance(r, FopError) and r.errno == error.errno for r in replies):
                raise error
            return self._weigh(inode, name, replies, self.members.everyone)
        trusted = self.members.everyone
        if name:
            trusted = (await self.known(frame, inode)).sources(DATA)
        replies = await self.everywhere("lookup", frame, inode, name, request)
        return self._weigh(inode, name, replies, trusted)

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

    def _weigh(self, parent: Inode, name: bytes, replies: Replies, trusted: int) -> Iatt:
        """The copies differ, or some did not answer."""
        underway = bool(name) and any(
            grant.span.name in (name, None) and grant.span.space == "name"
            for grant in self.locks.held.get(parent.gfid, ())
        )
        finding = find(as_answers(replies), trusted, self.members.quorum, underway=underway)
        if finding.errno:
            raise self.failure(replies, finding.errno)
        model: Iatt = replies[first(finding.holders)]
        inode = self.graph.itable.learn(model.gfid, stat.S_IFMT(model.mode)) if name else parent
        known = self.learn(inode, replies, finding.holders)
        readable = known.readable(METADATA, self.arbiters)
        child = known.read_metadata
        reply: Iatt = replies[child if child >= 0 else first(readable or finding.holders)]
        return reply
