"""Making and removing directories: on all subvolumes, the hashed one first and last.

A directory exists when its hashed subvolume has it.  mkdir makes it there first, so that of two callers one fails; rmdir removes it
there last, so that a failure half-way leaves a directory that the next lookup completes.

mkdir decides the layout beforehand and sends each subvolume its share along with the mkdir: one call each.  Only when
one of them fails is the layout divided again, among those that have the directory.

rmdir lists all subvolumes first.  Linkto files whose data has gone are removed; anything else is ENOTEMPTY.
"""

from __future__ import annotations

import errno
import functools
import logging
import stat
from typing import Any

from fusemux.graph.cluster.distribute.base import GONE, internal
from fusemux.graph.cluster.distribute.directory import MDS_AT_REST, Directory, merge
from fusemux.graph.cluster.distribute.fops.entries import Entries
from fusemux.graph.cluster.distribute.layout import Layout
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fanout import fan_out_each
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import DirEntry, Frame, Iatt, Xdata, gfid_text

__all__ = ["Directories"]

log = logging.getLogger("fusemux.distribute")


class Directories(Entries):
    # -- mkdir -----------------------------------------------------------------------------------------------

    async def mkdir(
        self, frame: Frame, parent: Inode, name: bytes, mode: int, gfid: bytes, xdata: Xdata = None
    ) -> Iatt:
        above = await self.directory(frame, parent)
        hashed = self.hashed(above, name)
        for attempt in range(2):
            keys = await self.locks.take((parent.gfid, name))
            try:
                return await self._mkdir(frame, parent, above, name, mode, gfid, hashed, xdata)
            except FopError as error:
                if attempt or error.errno != errno.EEXIST:
                    raise
            finally:
                self.locks.give(keys)
            await self._need_absent(frame, parent, name)
        raise AssertionError("the second attempt returns or raises")

    async def _mkdir(
        self,
        frame: Frame,
        parent: Inode,
        above: Directory,
        name: bytes,
        mode: int,
        gfid: bytes,
        hashed: int,
        xdata: Xdata,
    ) -> Iatt:
        mine = Directory(gfid, above.layout, self.generation, hashed, above, name)
        layout = await self.new_layout(frame, mine, self.volume_commit, await self._for_new(frame))

        def arguments(place: int) -> tuple[Any, ...]:
            xattrs = {**(xdata or {}), self.xattr.layout: layout.disk(place)}
            if place == hashed:
                xattrs[self.xattr.mds] = MDS_AT_REST
            return (frame, parent, name, mode, gfid, xattrs)

        first: Iatt = await self.children[hashed].mkdir(*arguments(hashed))
        others = [place for place in range(len(self.children)) if place != hashed and self.up[place]]
        answers = await fan_out_each([(self.children[place], "mkdir", arguments(place)) for place in others])
        failed = {p: a for p, a in zip(others, answers, strict=True) if isinstance(a, FopError)}
        if failed:
            layout = await self._mkdir_failed(frame, parent, mine, first, failed, layout)
        self.place_directory(gfid, layout, hashed, above, name)
        return merge([first, *(a for a in answers if isinstance(a, Iatt))], first)

    async def _for_new(self, frame: Frame) -> list[int]:
        """The subvolumes that get a share of new directories: those that are up, without filled ones if possible."""
        space = await self.know_space(frame)
        up = [place for place, is_up in enumerate(self.up) if is_up]
        return [place for place in up if not space.filled[place]] or up

    async def _mkdir_failed(
        self, frame: Frame, parent: Inode, directory: Directory, made: Iatt, failed: dict[int, FopError], layout: Layout
    ) -> Layout:
        """Some subvolumes have not made the directory: help them once, then do without them."""
        gfid, name = directory.gfid, directory.name
        inode = self.table.learn(gfid, stat.S_IFDIR)
        own = internal(frame)
        missing = []
        for place, error in failed.items():
            if not await self._mkdir_again(own, parent, directory, made, place, error, layout):
                log.warning("%s: %s has not made directory %r: %s", self.name, self.names[place], name, error)
                missing.append(place)
        if any(layout.extents[place].shares for place in missing):
            having = [place for place, up in enumerate(self.up) if up and place not in missing]
            layout = await self.new_layout(frame, directory, layout.commit, having)
            await self.write_layout(own, inode, layout, having)
        return layout

    async def _mkdir_again(
        self, frame: Frame, parent: Inode, directory: Directory, made: Iatt, place: int, error: FopError, layout: Layout
    ) -> bool:
        """Clear what was in the way of one subvolume: a copy of the parent that it lacks, or a leftover."""
        edge, name, gfid = self.children[place], directory.name, directory.gfid
        share = {self.xattr.layout: layout.disk(place)}
        try:
            if error.errno in GONE and directory.parent is not None:
                await self.refresh(frame, directory.parent)
            elif error.errno == errno.EEXIST:
                there = await self.see(frame, place, parent, name)
                if there is not None and there.gfid == gfid:
                    await edge.setxattr(frame, self.table.learn(gfid, stat.S_IFDIR), share, 0)
                    return True
                if there is not None and there.is_dir:
                    await edge.rmdir(frame, parent, name, self.table.learn(there.gfid, stat.S_IFDIR))
                elif there is not None and self.target_of(there) is not None:
                    await self.remove_linkto(frame, place, parent, name, there.gfid)
            else:
                return False
            owner = internal(frame, made)
            await edge.mkdir(owner, parent, name, made.mode & 0o7777, gfid, share)
        except FopError as again:
            log.debug("%s: %r on %s: %s", self.name, name, self.names[place], again)
            return False
        return True

    # -- rmdir -----------------------------------------------------------------------------------------------

    async def rmdir(self, frame: Frame, parent: Inode, name: bytes, inode: Inode, xdata: Xdata = None) -> None:
        above = await self.directory(frame, parent)
        self.need_all_up("rmdir")
        hashed = self.hashed(above, name)
        keys = await self.locks.take((parent.gfid, name), (inode.gfid, b""))
        try:
            await self.need_empty(frame, inode)
            await self._rmdir(frame, parent, name, inode, hashed, xdata)
        finally:
            self.locks.give(keys)

    async def _rmdir(self, frame: Frame, parent: Inode, name: bytes, inode: Inode, hashed: int, xdata: Xdata) -> None:
        others = [edge for edge in self.children if edge.index != hashed]
        calls: list[tuple[Any, str, tuple[Any, ...]]]
        calls = [(edge, "rmdir", (frame, parent, name, inode, xdata)) for edge in others]
        answers = await fan_out_each(calls)
        failed = next((a for a in answers if isinstance(a, FopError) and a.errno not in GONE), None)
        if failed is None:
            try:
                await self.children[hashed].rmdir(frame, parent, name, inode, xdata)
                return
            except FopError as error:
                failed = error
        if failed.errno in GONE:
            if all(isinstance(a, FopError) for a in answers):
                raise failed
            return  # the hashed copy was missing, the others are gone now
        await self._restore(frame, inode)
        raise failed

    async def _restore(self, frame: Frame, inode: Inode) -> None:
        """A removal failed half-way: make the directory again where it is missing."""
        directory = inode.ctx[self.inode_slot]
        if not isinstance(directory, Directory) or directory.parent is None:
            return
        parent, name = directory.parent, directory.name
        survey = await self.survey(frame, inode.gfid, parent, name, directory)
        hashed = parent.layout.find(self.hash(name))
        healing = survey.healing(hashed, inode.gfid, by_name=True)
        if healing:
            try:
                await self.perform_healing(frame, directory, survey, healing._replace(relayout=False), hashed)
                own = internal(frame)
                await self.write_layout(own, inode, directory.layout, healing.make)
            except FopError as error:
                log.warning("%s: %s was not made whole again: %s", self.name, gfid_text(inode.gfid), error)

    async def need_empty(self, frame: Frame, inode: Inode) -> None:
        """Raise ENOTEMPTY when a directory has an entry on any subvolume; remove linkto files that lead nowhere."""
        own = internal(frame)
        linktos: list[tuple[int, DirEntry]] = []

        def note(place: int, entry: DirEntry) -> bool:
            if entry.iatt is None or self.target_of(entry.iatt) is None:
                raise FopError(errno.ENOTEMPTY)
            linktos.append((place, entry))
            return True

        for place in range(len(self.children)):
            try:
                await self.visit(own, place, inode, functools.partial(note, place))
            except FopError as error:
                if error.errno not in GONE:
                    raise
        for place, entry in linktos:
            await self._remove_stale(own, inode, place, entry)

    async def _remove_stale(self, frame: Frame, inode: Inode, place: int, entry: DirEntry) -> None:
        """Remove a linkto file of a directory in which no file was found.

        Whoever holds its name is making a file just now.  While nobody can come between, the listing has proved that
        its file is not there; else, or without rmdir-optimize, its target is asked.
        """
        assert entry.iatt is not None
        if (inode.gfid, entry.name) in self.locks.held:
            raise FopError(errno.ENOTEMPTY)
        keys = await self.locks.take((inode.gfid, entry.name))
        try:
            target = self.target_of(entry.iatt)
            unsure = not (self.steady and self.opt.rmdir_optimize) and target is not None and target >= 0
            if unsure and await self.see(frame, target or 0, inode, entry.name) is not None:
                raise FopError(errno.ENOTEMPTY)
            await self.remove_linkto(frame, place, inode, entry.name, entry.iatt.gfid)
        finally:
            self.locks.give(keys)
