"""Renames: of files by the steps of rename_plan.py, of directories on all subvolumes, and exchanges.

A rename that stays on one subvolume is one call.  Everything else holds the locks of both names.  Before they are taken the
new name is looked up, which also mends what is stale there; afterwards it is looked at once more if anybody could
have come between.

A directory is renamed first where its new name hashes (there it is decided), then on all others; when one of those fails, it
is renamed back.  What it replaces must be empty on all subvolumes.

Exchange (RENAME_EXCHANGE): two files on one subvolume where both names hash, and two directories, are exchanged by the subvolumes
themselves.  Any other pair is exchanged by three renames through a name of our own.  Nobody sees that, because both names
and their directories are locked, by us and by the kernel; but a crash in the middle leaves the second file under
the third name, `.renameat2-<gfid>`.  Nothing is lost.
"""

from __future__ import annotations

import errno
import logging
import stat
from typing import Any, NamedTuple

from fusemux.graph.cluster.distribute.base import GONE, internal
from fusemux.graph.cluster.distribute.directory import Directory, merge
from fusemux.graph.cluster.distribute.fops.directories import Directories
from fusemux.graph.cluster.distribute.rename_plan import Kind, Step, plan
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fanout import fan_out_each
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["Renames"]

log = logging.getLogger("fusemux.distribute")

_NOREPLACE, _EXCHANGE = 1, 2
_ATTEMPTS = 5  # to find both names unchanged once they are locked


class _Move(NamedTuple):
    """One rename: what, from where, to where, and what lies there."""

    parent: Inode
    name: bytes
    newparent: Inode
    newname: bytes
    inode: Inode
    replaced: Inode | None

    def back(self) -> _Move:
        return _Move(self.newparent, self.newname, self.parent, self.name, self.inode, None)


class Renames(Directories):
    async def rename(
        self, frame: Frame, parent: Inode, name: bytes, newparent: Inode, newname: bytes, inode: Inode,
        replaced: Inode | None, flags: int, xdata: Xdata = None,
    ) -> Iatt:  # fmt: skip
        old, new = await self.directory(frame, parent), await self.directory(frame, newparent)
        sh, dh = self.hashed(old, name), self.hashed(new, newname)
        alone = self.steady and not self.locks.held
        if sh == dh and alone:
            edge = self.children[sh]
            there = None if replaced is None else replaced.ctx[self.inode_slot]
            if inode.ctx[self.inode_slot] is edge and (there is edge or (replaced is None and flags == _NOREPLACE)):
                iatt: Iatt = await edge.rename(frame, parent, name, newparent, newname, inode, replaced, flags, xdata)
                return iatt
        for _ in range(_ATTEMPTS):
            alone = self.steady and not self.locks.held
            if replaced is None or not alone:
                replaced = await self._at(frame, newparent, newname)
            keys = await self.locks.take(*self._keys(parent, name, newparent, newname, inode, replaced))
            try:
                if not alone and await self._changed(frame, dh, newparent, newname, replaced):
                    continue
                move = _Move(parent, name, newparent, newname, inode, replaced)
                return await self._rename(frame, move, flags)
            finally:
                self.locks.give(keys)
        raise FopError(errno.EBUSY, f"{newname!r} changes too often to be replaced")

    def _keys(
        self, parent: Inode, name: bytes, newparent: Inode, newname: bytes, inode: Inode, replaced: Inode | None
    ) -> list[tuple[bytes, bytes]]:
        keys = [(parent.gfid, name), (newparent.gfid, newname)]
        keys += [(i.gfid, b"") for i in (inode, replaced) if i is not None and i.type == stat.S_IFDIR]
        return keys

    async def _at(self, frame: Frame, parent: Inode, name: bytes) -> Inode | None:
        """What `name` refers to now."""
        try:
            iatt = await self.lookup(internal(frame), parent, name)
        except FopError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return self.table.learn(iatt.gfid, iatt.type)

    async def _changed(self, frame: Frame, hashed: int, parent: Inode, name: bytes, expected: Inode | None) -> bool:
        there = await self.see(frame, hashed, parent, name)
        if there is None:
            return expected is not None and self._place(expected) == hashed
        return expected is None or there.gfid != expected.gfid

    def _place(self, inode: Inode) -> int | None:
        """Where a file's data is; None for a directory."""
        known = inode.ctx[self.inode_slot]
        return known.index if isinstance(known, Edge) else None

    # -- under the locks -------------------------------------------------------------------------------------

    async def _rename(self, frame: Frame, move: _Move, flags: int) -> Iatt:
        if move.replaced is not None and flags == _NOREPLACE:
            raise FopError(errno.EEXIST)
        if flags == _EXCHANGE:
            return await self._exchange(frame, move)
        if move.replaced is move.inode:
            return await self._attributes(frame, move.inode)  # two names of one file: POSIX wants nothing done
        return await self._move(frame, move)

    async def _move(self, frame: Frame, move: _Move) -> Iatt:
        from_dir = move.inode.type == stat.S_IFDIR
        if move.replaced is not None and from_dir != (move.replaced.type == stat.S_IFDIR):
            raise FopError(errno.ENOTDIR if from_dir else errno.EISDIR)
        return await (self._move_directory(frame, move) if from_dir else self._move_file(frame, move))

    async def _hashes(self, frame: Frame, move: _Move) -> tuple[int, int]:
        old, new = await self.directory(frame, move.parent), await self.directory(frame, move.newparent)
        return self.hashed(old, move.name), self.hashed(new, move.newname)

    async def _attributes(self, frame: Frame, inode: Inode) -> Iatt:
        if inode.type == stat.S_IFDIR:
            return await self.resolve(frame, inode)
        iatt: Iatt = await (await self.file(frame, inode)).stat(frame, inode)
        return iatt

    # -- files -----------------------------------------------------------------------------------------------

    async def _move_file(self, frame: Frame, move: _Move) -> Iatt:
        source = await self.file(frame, move.inode)
        if move.replaced is not None:
            await self.file(frame, move.replaced)
        dc = None if move.replaced is None else self._place(move.replaced)
        sh, dh = await self._hashes(frame, move)
        steps = plan(sh, source.index, dh, dc)
        if len(steps) == 1:
            iatt: Iatt = await source.rename(frame, *move, 0)
            return iatt
        owner = await self.see(frame, source.index, move.parent, move.name)
        if owner is None or owner.gfid != move.inode.gfid or self.target_of(owner) is not None:
            raise FopError(errno.ESTALE, f"{move.name!r} is no longer what it was")
        done: list[Step] = []
        decided = False
        for step in steps:
            try:
                await self._step(frame, move, step, owner, source)
            except FopError as error:
                if decided:
                    log.warning("%s: after renaming %r: %s: %s", self.name, move.name, step.kind.value, error)
                    continue
                await self._take_back(frame, move, done, owner, source)
                raise
            done.append(step)
            decided = decided or step.decides
        return await self._attributes(frame, move.inode)

    async def _take_back(self, frame: Frame, move: _Move, done: list[Step], owner: Iatt, source: Edge) -> None:
        for step in reversed(done):
            if step.undo is not None:
                try:
                    await self._step(frame, move, Step(step.undo, step.place), owner, source)
                except FopError as error:
                    log.warning("%s: taking back the rename of %r: %s", self.name, move.name, error)

    async def _step(self, frame: Frame, move: _Move, step: Step, owner: Iatt, source: Edge) -> None:
        edge = self.children[step.place]
        gfid = move.inode.gfid
        match step.kind:
            case Kind.LINKTO_OLD:
                await self.make_linkto(frame, step.place, move.parent, move.name, gfid, source.index, owner)
            case Kind.LINK_NEW:
                await self._link_new(frame, move, edge)
            case Kind.RENAME:
                await edge.rename(frame, *move, 0)
            case Kind.UNLINK_OLD:
                await edge.unlink(frame, move.parent, move.name, move.inode)
            case Kind.UNLINK_OLD_LINKTO:
                await self.remove_linkto(frame, step.place, move.parent, move.name, gfid)
            case Kind.UNLINK_NEW:
                await edge.unlink(frame, move.newparent, move.newname, move.inode)
            case Kind.UNLINK_REPLACED:
                assert move.replaced is not None
                await edge.unlink(frame, move.newparent, move.newname, move.replaced)

    async def _link_new(self, frame: Frame, move: _Move, edge: Edge) -> None:
        """The hard link; a stale linkto file in its way is removed."""
        try:
            await edge.link(frame, move.inode, move.newparent, move.newname)
        except FopError as error:
            if error.errno != errno.EEXIST:
                raise
            there = await self.see(frame, edge.index, move.newparent, move.newname)
            if there is None or self.target_of(there) is None:
                raise
            await self.remove_linkto(frame, edge.index, move.newparent, move.newname, there.gfid)
            await edge.link(frame, move.inode, move.newparent, move.newname)

    # -- directories -----------------------------------------------------------------------------------------

    async def _move_directory(self, frame: Frame, move: _Move, flags: int = 0) -> Iatt:
        self.need_all_up("renaming a directory")
        if move.replaced is not None and flags != _EXCHANGE:
            await self.need_empty(frame, move.replaced)
        _, dh = await self._hashes(frame, move)
        first = await self._rename_copy(frame, move, dh, flags)
        others = [edge for edge in self.children if edge.index != dh]
        calls: list[tuple[Edge, str, tuple[Any, ...]]]
        calls = [(edge, "rename", (frame, *move, flags)) for edge in others]
        answers = await fan_out_each(calls)
        failed = [a for a in answers if isinstance(a, FopError) and a.errno not in GONE]
        if failed:
            done = [self.children[dh], *(e for e, a in zip(others, answers, strict=True) if isinstance(a, Iatt))]
            await self._rename_back(frame, move, done, flags)
            raise failed[0]
        await self._moved(frame, move, flags)
        return merge([first, *(a for a in answers if isinstance(a, Iatt))], first)

    async def _rename_copy(self, frame: Frame, move: _Move, place: int, flags: int) -> Iatt:
        """The copy that decides; when the subvolume lacks it, it is healed first."""
        edge = self.children[place]
        try:
            iatt: Iatt = await edge.rename(frame, *move, flags)
        except FopError as error:
            if error.errno not in GONE:
                raise
            await self._restore(frame, move.inode)
            iatt = await edge.rename(frame, *move, flags)
        return iatt

    async def _rename_back(self, frame: Frame, move: _Move, edges: list[Edge], flags: int) -> None:
        back = move if flags == _EXCHANGE else move.back()
        if flags == _EXCHANGE and move.replaced is not None:
            back = move._replace(inode=move.replaced, replaced=move.inode)
        for edge in edges:
            try:
                await edge.rename(frame, *back, flags)
            except FopError as error:
                log.error("%s: %r was not renamed back on %s: %s", self.name, move.newname, edge.name, error)

    async def _moved(self, frame: Frame, move: _Move, flags: int) -> None:
        """Directories know their names and parents."""
        old, new = await self.directory(frame, move.parent), await self.directory(frame, move.newparent)
        for inode, parent, name in ((move.inode, new, move.newname), (move.replaced, old, move.name)):
            known = None if inode is None else inode.ctx[self.inode_slot]
            if isinstance(known, Directory) and (inode is move.inode or flags == _EXCHANGE):
                known.parent, known.name = parent, name

    # -- exchange --------------------------------------------------------------------------------------------

    async def _exchange(self, frame: Frame, move: _Move) -> Iatt:
        if move.replaced is None:
            raise FopError(errno.ENOENT)
        if move.replaced is move.inode:
            return await self._attributes(frame, move.inode)
        directories = [inode.type == stat.S_IFDIR for inode in (move.inode, move.replaced)]
        if all(directories):
            return await self._move_directory(frame, move, _EXCHANGE)
        if not any(directories):
            one, other = await self.file(frame, move.inode), await self.file(frame, move.replaced)
            sh, dh = await self._hashes(frame, move)
            if one is other and sh == dh == one.index:
                iatt: Iatt = await one.rename(frame, *move, _EXCHANGE)
                return iatt
        return await self._exchange_in_turn(frame, move, move.replaced)

    async def _exchange_in_turn(self, frame: Frame, move: _Move, other: Inode) -> Iatt:
        aside = b".renameat2-" + other.gfid.hex().encode()
        moves = [
            _Move(move.newparent, move.newname, move.newparent, aside, other, None),
            move._replace(replaced=None),
            _Move(move.newparent, aside, move.parent, move.name, other, None),
        ]
        done: list[_Move] = []
        try:
            for one in moves:
                await self._move(frame, one)
                done.append(one)
        except FopError:
            for one in reversed(done):
                await self._move(frame, one.back())
            raise
        return await self._attributes(frame, move.inode)
