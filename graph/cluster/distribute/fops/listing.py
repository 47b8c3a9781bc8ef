"""Listing directories: the subvolumes one after the other, each name once.

A file is listed by the subvolume that has its data; its linkto files elsewhere are left out.  A directory is everywhere, so
only the subvolume that its name hashes to lists it, or, when that one cannot be asked, the first that is up.
Who asks for EVERY_NAME gets all that the subvolumes have: a lookup also finds a directory that one of them lacks.

An offset tells the leaf (the brick) it came from, so it leads back to the subvolume and, there, to the very place;
entries that come and go elsewhere do not shift it.  In a graph without protocol/client the children's indexes are folded in
here, in the same way.
"""

from __future__ import annotations

import errno
import stat
from typing import Any

from fusemux.graph.cluster.distribute.base import GONE
from fusemux.graph.cluster.distribute.directory import Directory
from fusemux.graph.cluster.distribute.fops.rename import Renames
from fusemux.graph.cluster.distribute.linkto import may_be_linkto
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import EVERY_NAME, DirEntry, Frame, Xdata
from fusemux.graph.protocol.client import Client
from fusemux.graph.protocol.offsets import decode, encode

__all__ = ["Listings"]

_AWAY = (errno.ENOTCONN, *GONE)
_MARKS = 0o3000
_IFDIR, _IFREG = stat.S_IFDIR, stat.S_IFREG
_new = tuple.__new__


class Listings(Renames):
    def learn_leaves(self) -> None:
        """Find out which child each leaf of the graph is below."""
        self.leaves = 0
        self.child_of_leaf: dict[int, int] = {}
        for edge in self.children:
            for leaf in _clients(edge.translator):
                self.child_of_leaf[leaf.leaf] = edge.index
                self.leaves = leaf.leaves

    async def opendir(self, frame: Frame, inode: Inode, fd: Fd, xdata: Xdata = None) -> None:
        """On every subvolume that is up and has it; the others' leaves open it when they are asked to list it."""
        await self.directory(frame, inode)
        answers = await self.ask_all("opendir", frame, inode, fd, xdata)
        failed = [a for a in answers if isinstance(a, FopError)]
        if len(failed) == len(answers):
            raise next((a for a in failed if a.errno not in GONE), failed[0])

    async def readdir(
        self, frame: Frame, fd: Fd, count: int, offset: int, plus: bool, xdata: Xdata = None
    ) -> list[DirEntry]:
        directory = await self.directory(frame, fd.inode)
        place, at = self._resume(offset)
        everything = xdata is not None and EVERY_NAME in xdata
        entries: list[DirEntry] = []
        while place < len(self.children) and len(entries) < count:
            batch = await self._batch(frame, fd, place, count - len(entries), at, plus, xdata)
            if not batch:
                place, at = place + 1, 0
                continue
            at = batch[-1].offset
            for entry in batch:
                iatt, type_ = entry.iatt, entry.type
                if everything:
                    pass
                elif type_ == _IFDIR:
                    if place != self._lister(directory, entry.name):
                        continue
                elif type_ == _IFREG and (iatt is None or may_be_linkto(iatt)):
                    there = await self.see(frame, place, fd.inode, entry.name)
                    if there is None or self.target_of(there) is not None:
                        continue
                entries.append(self._as_asked(entry, place, plus))
        return entries

    def _resume(self, offset: int) -> tuple[int, int]:
        """The child that `offset` belongs to, and the offset as that child knows it."""
        if offset == 0:
            return 0, 0
        if self.leaves:
            return self.child_of_leaf.get(decode(offset, self.leaves)[0], len(self.children)), offset
        return decode(offset, len(self.children))

    async def _batch(
        self, frame: Frame, fd: Fd, place: int, count: int, offset: int, plus: bool, xdata: Xdata
    ) -> list[DirEntry]:
        """The next entries of one subvolume; none when it is away: what is up is shown."""
        if not self.up[place]:
            return []
        try:
            batch: list[DirEntry] = await self.children[place].readdir(
                frame, fd, count, offset, plus or self.opt.use_readdirp, xdata
            )
        except FopError as error:
            if error.errno in _AWAY:
                return []
            raise
        return batch

    def _lister(self, directory: Directory, name: bytes) -> int:
        """Which subvolume lists the directory `name`."""
        if not self.opt.readdir_optimize:
            place = directory.layout.find(self.hash(name))
            if place >= 0 and self.up[place]:
                return place
        return self.first_up().index

    def _as_asked(self, entry: DirEntry, place: int, plus: bool) -> DirEntry:
        """An entry as the caller wants it; what is known of its file by now is remembered.

        One copy of a directory has not all of its attributes: leave them to a lookup.
        """
        name, offset, ino, type_, iatt = entry
        if not self.leaves:
            offset = encode(offset, place, len(self.children))
        if iatt is not None:
            if not plus or type_ == _IFDIR or (iatt.mode & _MARKS == _MARKS and type_ == _IFREG):
                iatt = None
            else:
                self.place_file(iatt.gfid, iatt.mode, self.children[place])
        return _new(DirEntry, (name, offset, ino, type_, iatt))


def _clients(translator: Translator) -> list[Any]:
    """The protocol/client leaves at or below `translator`."""
    if isinstance(translator, Client):
        return [translator]
    return [leaf for edge in translator.children for leaf in _clients(edge.translator)]
