"""Fops that read: from one good copy, and from another when that one fails.

Which errors are worth asking another copy: all but those that a good copy answers about the request itself.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Any

from fusemux.graph.cluster.replicate.changelog import DATA, METADATA
from fusemux.graph.cluster.replicate.choices import PREFIX as SPLIT_BRAIN
from fusemux.graph.cluster.replicate.core import first, inode_of
from fusemux.graph.cluster.replicate.fops.handles import Handles
from fusemux.graph.cluster.replicate.fops.metadata import CHANGELOG_PREFIX
from fusemux.graph.cluster.replicate.heal.parking import PREFIX
from fusemux.graph.cluster.replicate.readable import Copies
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import EVERY_NAME, DirEntry, Frame, Iatt, StatVfs, Xdata
from fusemux.graph.protocol.client import Client
from fusemux.graph.protocol.offsets import decode

__all__ = ["Reads"]

_FINAL = frozenset({
    errno.E2BIG, errno.EACCES, errno.EINVAL, errno.EISDIR, errno.ENAMETOOLONG, errno.ENODATA, errno.ENOTDIR, errno.ENXIO,
    errno.EOPNOTSUPP, errno.EPERM, errno.ERANGE,
})  # fmt: skip
_ABSENT = (errno.ENOENT, errno.ESTALE)
_OWN = (CHANGELOG_PREFIX, SPLIT_BRAIN)


class Reads(Handles):
    def linked(self) -> None:
        super().linked()
        below = [(leaf, edge.index) for edge in self.children for leaf in _leaves(edge.translator)]
        self.child_of_leaf = {leaf.leaf: index for leaf, index in below}
        self.leaves = max((leaf.leaves for leaf, _ in below), default=1)

    def child_above(self, leaf: str) -> int:
        """The child that leads to the leaf of this name, -1 when none does."""
        for edge in self.children:
            if any(found.name == leaf for found in _leaves(edge.translator)):
                return edge.index
        return -1

    def has_open(self, fd: Fd) -> int:
        """The children on whose bricks `fd` is open, whoever opened it."""
        return sum(1 << e.index for e in self.children if any(leaf.has_open(fd) for leaf in _leaves(e.translator)))

    async def readv(self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Xdata = None) -> Any:
        known = fd.inode.ctx[self.inode_slot]
        skip = 0
        if known is not None and known.token is self.token and fd.ctx[self.fd_slot] is self.opened:
            child = known.read_data
            if child >= 0:
                try:
                    return await self.children[child].readv(frame, fd, size, offset, xdata)
                except FopError as error:
                    if error.errno in _FINAL:
                        raise
                    skip = 1 << child
        return await self._read(DATA, "readv", (frame, fd, size, offset, xdata), fd.inode, fd, skip)

    async def stat(self, frame: Frame, target: Inode | Fd, xdata: Xdata = None) -> Iatt:
        inode = target if type(target) is Inode else inode_of(target)
        known = inode.ctx[self.inode_slot]
        skip = 0
        if known is not None and known.token is self.token and (target is inode or self._open_everywhere(target)):
            child = known.read_metadata
            if child >= 0:
                try:
                    return await self.children[child].stat(frame, target, xdata)
                except FopError as error:
                    if error.errno in _FINAL:
                        raise
                    skip = 1 << child
        return await self._read_target(METADATA, "stat", (frame, target, xdata), target, skip)

    def _open_everywhere(self, target: Any) -> bool:
        return target.ctx[self.fd_slot] is self.opened

    async def readlink(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> Any:
        return await self._read(METADATA, "readlink", (frame, inode, xdata), inode)

    async def seek(self, frame: Frame, fd: Fd, offset: int, whence: int, xdata: Xdata = None) -> int:
        return await self._read(DATA, "seek", (frame, fd, offset, whence, xdata), fd.inode, fd)

    async def rchecksum(self, frame: Frame, fd: Fd, offset: int, length: int, xdata: Xdata = None) -> tuple[int, bytes]:
        args = (frame, fd, offset, length, xdata)
        return await self._read(DATA, "rchecksum", args, fd.inode, fd)

    async def getxattr(
        self, frame: Frame, target: Inode | Fd, name: bytes | None, xdata: Xdata = None
    ) -> Mapping[bytes, bytes]:
        if name is not None and name.startswith(_OWN) and frame.pid >= 0:
            if name.startswith(SPLIT_BRAIN):
                return await self.split_brain_status(inode_of(target), name)
            raise FopError(errno.ENODATA, f"{name.decode()} belongs to {self.name}")
        args = (frame, target, name, xdata)
        reply: Mapping[bytes, bytes] = await self._read_target(METADATA, "getxattr", args, target)
        if name is None:
            return {key: value for key, value in reply.items() if not key.startswith(CHANGELOG_PREFIX)}
        return reply

    # -- any read ----------------------------------------------------------------------------------------------

    async def _read_target(self, kind: int, fop: str, args: tuple[Any, ...], target: Inode | Fd, skip: int = 0) -> Any:
        return await self._read(kind, fop, args, inode_of(target), target if isinstance(target, Fd) else None, skip)

    async def _read(
        self, kind: int, fop: str, args: tuple[Any, ...], inode: Inode, fd: Fd | None = None, skip: int = 0
    ) -> Any:
        """Read from the chosen copy, then from the other good ones (not those in `skip`), then ask all copies anew, once."""
        frame: Frame = args[0]
        self.require_quorum(self.members.up)
        failure: FopError | None = None
        for known in (await self.known(frame, inode), None):
            if known is None:
                known = await self.refresh(frame, inode)
            good = self.chosen(inode, known) or known.readable(kind, self.arbiters)
            if good and self.heals_accessed and known.token is not self.token:
                self.healer.accessed.ask(inode, known)
            while readable := good & self.members.up & ~skip:
                child = self._choose(known, kind, readable)
                skip |= 1 << child
                if fd is not None and not await self.reopen(frame, fd, 1 << child):
                    continue
                try:
                    return await self._timed(child, fop, args)
                except FopError as error:
                    if error.errno in _FINAL:
                        raise
                    failure = error
        if failure is None and not good and await self.settled(inode):
            return await self._read(kind, fop, args, inode, fd)
        raise failure or self.unreadable(inode)

    def _choose(self, known: Copies, kind: int, readable: int) -> int:
        child = known.read_metadata if kind == METADATA else known.read_data
        if child >= 0 and readable >> child & 1:
            return child
        if self.policy.dynamic:
            return self.policy.choose_now(readable, self.reading, self.latency)
        return first(readable)

    async def _timed(self, child: int, fop: str, args: tuple[Any, ...]) -> Any:
        if not self.policy.dynamic:
            return await getattr(self.children[child], fop)(*args)
        self.reading[child] += 1
        began = perf_counter()
        try:
            return await getattr(self.children[child], fop)(*args)
        finally:
            self.reading[child] -= 1
            self.latency[child] += (perf_counter() - began - self.latency[child]) / 8

    # -- directories and space ---------------------------------------------------------------------------------

    async def readdir(
        self, frame: Frame, fd: Fd, count: int, offset: int, plus: bool, xdata: Xdata = None
    ) -> list[DirEntry]:
        """A listing goes on with the copy it began with: that is where its offsets mean something.

        The root's leaves out the hidden directory of healing.
        """
        if xdata is not None and EVERY_NAME in xdata:
            return await self._every_name(frame, fd, count, offset, xdata)
        entries = await self._listed(frame, fd, count, offset, plus, xdata)
        if fd.inode is self.graph.itable.root:
            while entries and not (shown := [entry for entry in entries if not entry.name.startswith(PREFIX)]):
                entries = await self._listed(frame, fd, count, entries[-1].offset, plus, xdata)
            entries = shown if entries else []
        if not plus or not entries:
            return entries
        child = self.child_of_offset(entries[0].offset)
        return [await self._vouched(frame, entry, child) for entry in entries]

    async def _listed(self, frame: Frame, fd: Fd, count: int, offset: int, plus: bool, xdata: Xdata) -> list[DirEntry]:
        args = (frame, fd, count, offset, plus, xdata)
        if not offset:
            begun: list[DirEntry] = await self._read(DATA, "readdir", args, fd.inode, fd)
            return begun
        child = self.child_of_offset(offset)
        if child < 0 or not await self.reopen(frame, fd, self.members.up & 1 << child):
            raise FopError(errno.ENOTCONN, f"{self.name}: the copy that was being listed is away; begin anew")
        entries: list[DirEntry] = await self.children[child].readdir(*args)
        return entries

    async def _every_name(
        self, frame: Frame, fd: Fd, count: int, offset: int, xdata: Mapping[bytes, Any]
    ) -> list[DirEntry]:
        """Of all copies, one after the other: a lookup asks them all.  Raises FopError when one cannot be listed.

        A copy that lacks the directory, as on a brick that was replaced, has no names.
        """
        if self.leaves < len(self.children):
            raise FopError(errno.EOPNOTSUPP, f"{self.name}: offsets do not say which copy they are of")
        begun = self.child_of_offset(offset) if offset else 0
        if begun < 0:
            raise FopError(errno.ENOTCONN, f"{self.name}: the copy that was being listed is away; begin anew")
        for edge in self.children[begun:]:
            try:
                entries: list[DirEntry] = await edge.readdir(frame, fd, count, offset, False, xdata)
            except FopError as error:
                if error.errno not in _ABSENT:
                    raise
                entries = []
            if entries:
                return entries
            offset = 0
        return []

    def child_of_offset(self, offset: int) -> int:
        """The child whose leaf made a directory offset, -1 when it was removed."""
        return self.child_of_leaf.get(decode(offset, self.leaves)[0], -1 if self.leaves > 1 else 0)

    async def _vouched(self, frame: Frame, entry: DirEntry, child: int) -> DirEntry:
        """`entry` with its attributes if its copy on `child` is good, else without, so that it is looked up."""
        if entry.iatt is None:
            return entry
        inode = self.graph.itable.learn(entry.iatt.gfid, stat.S_IFMT(entry.iatt.mode))
        known = inode.ctx[self.inode_slot]
        if known is not None and known.token is self.token and known.read_metadata == child:
            return entry
        try:
            known = await self.known(frame, inode)
        except FopError:
            return entry._replace(iatt=None)
        good = (
            known.read_metadata == child if self.opt.consistent_metadata else known.seen & ~known.data & ~known.metadata
        )
        usable = good if isinstance(good, bool) else bool(good >> child & 1) and not self.arbiters >> child & 1
        return entry if usable else entry._replace(iatt=None)

    async def statfs(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> StatVfs:
        """Of the copies that hold data, the one with the least space."""
        up = self.members.up & ~self.arbiters
        self.require_quorum(self.members.up)
        replies = await self.wind(up, "statfs", frame, inode, xdata)
        good = [reply for reply in replies if isinstance(reply, StatVfs)]
        if not good:
            raise self.failure(replies)
        return min(good, key=lambda space: space.bavail * space.frsize)


def _leaves(translator: Translator) -> Iterator[Client]:
    if isinstance(translator, Client):
        yield translator
    for edge in translator.children:
        yield from _leaves(edge.translator)
