"""Lookups: a name where its hash says, behind a linkto file, or anywhere; a gfid on all subvolumes.

Most lookups end at once: the subvolume that the name hashes to answers with a file, or that there is nothing and the
directory's commit hash vouches that there is nothing elsewhere.  What remains:

* a directory: all subvolumes are asked, compared (directory.py) and, when they disagree, healed;
* something of mode 01000: asked again for its linkto xattr, and followed;
* nothing, where misplaced files are possible: all subvolumes are asked, and a linkto file is made for what is
  found so that the next lookup is short; linkto files that lead nowhere are removed.

What changes anything happens under the lock of the name, after looking again.
"""

from __future__ import annotations

import errno
import logging
import stat

from fusemux.graph.cluster.distribute.base import GONE, internal
from fusemux.graph.cluster.distribute.directory import Directory, Survey, unchanged
from fusemux.graph.cluster.distribute.linkto import may_be_linkto
from fusemux.graph.cluster.distribute.vouching import Vouching
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.types import Frame, Iatt, Xdata, gfid_text

__all__ = ["Lookups"]

log = logging.getLogger("fusemux.distribute")

_IFMT, _IFDIR, _IFREG = 0o170000, stat.S_IFDIR, stat.S_IFREG
_MARKS = 0o3000  # sticky and set-group-ID: what a file carries while it is migrated
_STICKY = 0o1000


class Lookups(Vouching):
    async def lookup(self, frame: Frame, inode: Inode, name: bytes, xdata: Xdata = None) -> Iatt:
        if not name:
            return await self._lookup_self(frame, inode, xdata)
        directory = inode.ctx[self.inode_slot]
        if directory is None or directory.generation != self.generation:
            directory = await self.directory(frame, inode)
        if self.suffix in name:
            name, _ = self.forced(name)
        layout = directory.layout
        place = layout.find(self.hash(name))
        if place < 0:
            return await self._search(frame, inode, directory, name, xdata, -1)
        edge = self.children[place]
        try:
            iatt: Iatt = await edge.lookup(frame, inode, name, xdata)
        except FopError as error:
            if error.errno == errno.ENOTCONN:
                return await self._search(frame, inode, directory, name, xdata, place)
            if error.errno != errno.ENOENT:
                raise
            if self.optimizing and (layout.commit == self.volume_commit or directory.vouched):
                raise
            if not await self.may_be_elsewhere(frame, directory):
                raise
            return await self._search(frame, inode, directory, name, xdata, place)
        mode = iatt.mode
        if mode & _IFMT == _IFDIR:
            return await self._found_directory(frame, inode, directory, name, xdata)
        if mode & _MARKS and mode & _IFMT == _IFREG:
            return await self._marked(frame, inode, directory, name, xdata, place, iatt)
        self.place_file(iatt.gfid, mode, edge)
        return iatt

    # -- by gfid ---------------------------------------------------------------------------------------------

    async def _lookup_self(self, frame: Frame, inode: Inode, xdata: Xdata) -> Iatt:
        known = inode.ctx[self.inode_slot]
        if isinstance(known, Edge):
            try:
                iatt: Iatt = await known.lookup(frame, inode, b"", xdata)
            except FopError as error:
                if error.errno not in GONE:
                    raise
            else:
                if not iatt.mode & _MARKS:
                    return iatt
        return await self.resolve(frame, inode, xdata)

    async def resolve(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> Iatt:
        known = inode.ctx[self.inode_slot]
        answers = await self.ask_all("lookup", frame, inode, b"", self.request(inode.gfid, xdata))
        if any(isinstance(a, Iatt) and a.mode & _IFMT == _IFDIR for a in answers):
            survey = Survey(answers, self.xattr, known if isinstance(known, Directory) else None)
            directory = known if isinstance(known, Directory) else None
            parent = directory.parent if directory is not None else None
            return await self.learn(frame, inode.gfid, survey, parent, directory.name if directory is not None else b"")
        data = [p for p, a in enumerate(answers) if isinstance(a, Iatt) and self.target_of(a) is None]
        if not data:
            raise self._not_found(answers, gfid_text(inode.gfid))
        iatt: Iatt = answers[data[0]]
        inode.ctx[self.inode_slot] = self.children[data[0]]
        return self.shown(iatt)

    async def refresh(self, frame: Frame, directory: Directory) -> None:
        parent = directory.parent
        if parent is None:
            await self.resolve(frame, self.table.learn(directory.gfid, _IFDIR))
            return
        if parent.generation != self.generation:
            await self.refresh(frame, parent)
        survey = await self.survey(frame, directory.gfid, parent, directory.name, directory)
        found = {iatt.gfid for iatt in survey.iatts.values()}
        if found == {directory.gfid}:
            await self.learn(frame, directory.gfid, survey, parent, directory.name)
            return
        directory.parent = None  # somebody else has moved it
        await self.resolve(frame, self.table.learn(directory.gfid, _IFDIR))

    def _not_found(self, answers: list[Iatt | FopError], what: str) -> FopError:
        errors = [a for a in answers if isinstance(a, FopError)]
        unsure = next((error for error in errors if error.errno not in GONE), None)
        return unsure or FopError(errno.ESTALE, f"{what} is on no subvolume of {self.name}")

    # -- by name ---------------------------------------------------------------------------------------------

    async def _found_directory(
        self, frame: Frame, inode: Inode, directory: Directory, name: bytes, xdata: Xdata
    ) -> Iatt:
        request = self.request(b"", xdata)
        answers = await self.ask_all("lookup", frame, inode, name, request)
        return await self._learn_named(frame, directory, name, answers)

    async def _learn_named(
        self, frame: Frame, directory: Directory, name: bytes, answers: list[Iatt | FopError]
    ) -> Iatt:
        gfid = next((a.gfid for a in answers if isinstance(a, Iatt) and a.mode & _IFMT == _IFDIR), None)
        if gfid is None:
            raise FopError(errno.ENOENT, f"{name!r} went away")
        known = self.table.learn(gfid, _IFDIR).ctx[self.inode_slot]
        if not isinstance(known, Directory):
            return await self.learn(frame, gfid, Survey(answers, self.xattr), directory, name)
        if known.generation == self.generation:
            iatt = unchanged(known, answers, self.xattr)
            if iatt is not None:
                known.parent, known.name = directory, name
                return self.visible(iatt)
        return await self.learn(frame, gfid, Survey(answers, self.xattr, known), directory, name)

    async def _marked(
        self, frame: Frame, inode: Inode, directory: Directory, name: bytes, xdata: Xdata, place: int, iatt: Iatt
    ) -> Iatt:
        """A regular file with the sticky or the set-group-ID bit: perhaps a linkto file, or one that is being migrated."""
        edge = self.children[place]
        if iatt.mode & _MARKS != _MARKS and not may_be_linkto(iatt):
            self.place_file(iatt.gfid, iatt.mode, edge)
            return iatt
        iatt = await edge.lookup(frame, inode, name, {**(xdata or {}), self.xattr.linkto: None})
        target = self.target_of(iatt)
        if target is None:
            self.place_file(iatt.gfid, iatt.mode, edge)
            return self.shown(iatt)
        if target >= 0 and target != place:
            try:
                data: Iatt = await self.children[target].lookup(frame, inode, name, self._with_linkto(xdata))
            except FopError as error:
                if error.errno not in GONE:
                    raise
            else:
                if data.gfid == iatt.gfid and data.mode & _IFMT == _IFREG and self.target_of(data) is None:
                    self.place_file(data.gfid, data.mode, self.children[target])
                    return self.shown(data, misplaced=True)
        return await self._search(frame, inode, directory, name, xdata, place)

    def _with_linkto(self, xdata: Xdata) -> Xdata:
        return {self.xattr.linkto: None} if xdata is None else {**xdata, self.xattr.linkto: None}

    # -- everywhere ------------------------------------------------------------------------------------------

    async def _search(
        self, frame: Frame, inode: Inode, directory: Directory, name: bytes, xdata: Xdata, hashed: int
    ) -> Iatt:
        """Ask all subvolumes for `name`; leave a linkto file to what is found and none that leads nowhere."""
        answers = await self.ask_all("lookup", frame, inode, name, self.request(b"", xdata))
        if not self._to_mend(answers, hashed):
            return await self._judge(frame, inode, directory, name, answers, hashed)
        keys = await self.locks.take((inode.gfid, name))
        try:
            answers = await self.ask_all("lookup", frame, inode, name, self.request(b"", xdata))
            await self._mend(frame, inode, name, answers, hashed)
        finally:
            self.locks.give(keys)
        return await self._judge(frame, inode, directory, name, answers, hashed)

    async def _judge(
        self, frame: Frame, inode: Inode, directory: Directory, name: bytes, answers: list[Iatt | FopError], hashed: int
    ) -> Iatt:
        """What `name` is, from the answers of all subvolumes."""
        if any(isinstance(a, Iatt) and a.mode & _IFMT == _IFDIR for a in answers):
            return await self._learn_named(frame, directory, name, answers)
        data = self._data(answers)
        if not data:
            raise self._absent(name, answers, hashed)
        place, iatt = next(iter(data.items()))
        if len({found.gfid for found in data.values()}) > 1:
            places = ", ".join(self.names[p] for p in data)
            raise FopError(errno.EIO, f"{name!r} in {gfid_text(inode.gfid)} is another file on each of {places}")
        if len(data) > 1:
            log.warning("%s: %r in %s is on several subvolumes", self.name, name, gfid_text(inode.gfid))
        self.place_file(iatt.gfid, iatt.mode, self.children[place])
        return self.shown(iatt, misplaced=place != hashed)

    def _data(self, answers: list[Iatt | FopError]) -> dict[int, Iatt]:
        """The files themselves, without linkto files."""
        return {p: a for p, a in enumerate(answers) if isinstance(a, Iatt) and self.target_of(a) is None}

    def _absent(self, name: bytes, answers: list[Iatt | FopError], hashed: int) -> FopError:
        """Nothing was found: the hashed subvolume's word counts; while it cannot be asked nobody can say "no".

        A name without a gfid is there nevertheless (ENODATA): who offers one has it given.
        """
        if any(isinstance(found, FopError) and found.errno == errno.ENODATA for found in answers):
            return FopError(errno.ENODATA, f"{name!r} has no gfid")
        answer = answers[hashed] if hashed >= 0 else None
        if hashed < 0 and not all(self.up):
            return self.nowhere(name)
        if isinstance(answer, FopError) and answer.errno not in GONE:
            return answer
        return FopError(errno.ENOENT)

    def _to_mend(self, answers: list[Iatt | FopError], hashed: int) -> bool:
        data = self._data(answers)
        linktos = {p: a for p, a in enumerate(answers) if isinstance(a, Iatt) and p not in data}
        if any(a.mode & _IFMT == _IFDIR for a in data.values()) or len({a.gfid for a in data.values()}) > 1:
            return False
        if not data:
            return bool(linktos) and all(self.up)
        place = next(iter(data))
        if hashed < 0 or hashed == place or not self.up[hashed]:
            return False
        there = linktos.get(hashed)
        return there is None or there.gfid != data[place].gfid or self.target_of(there) != place

    async def _mend(self, frame: Frame, inode: Inode, name: bytes, answers: list[Iatt | FopError], hashed: int) -> None:
        """Under the name's lock: make the linkto file that is missing, remove those that lead nowhere."""
        if not self._to_mend(answers, hashed):
            return
        data = self._data(answers)
        try:
            if data:
                place, iatt = next(iter(data.items()))
                await self.make_linkto(frame, hashed, inode, name, iatt.gfid, place, iatt)
                return
            for place, answer in enumerate(answers):
                if isinstance(answer, Iatt):
                    await self.remove_linkto(internal(frame), place, inode, name, answer.gfid)
        except FopError as error:
            # The lookup itself has succeeded; a full or read-only subvolume only keeps its stale linkto file.
            log.warning("%s: the linkto file of %r was not mended: %s", self.name, name, error)

    # -- what users see --------------------------------------------------------------------------------------

    def shown(self, iatt: Iatt, *, misplaced: bool = False) -> Iatt:
        """`iatt` (asked with its linkto xattr) without the marks of a migration."""
        mode = iatt.mode
        found = iatt.xdata
        if found is not None and self.xattr.linkto in found:
            if mode & _MARKS == _MARKS and mode & _IFMT == _IFREG:
                mode &= ~_MARKS
            found = {key: value for key, value in found.items() if key != self.xattr.linkto} or None
        if misplaced and self.opt.unhashed_sticky_bit:
            mode |= _STICKY
        return iatt if mode == iatt.mode and found is iatt.xdata else iatt._replace(mode=mode, xdata=found)
