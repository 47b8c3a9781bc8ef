"""Directory self-heal: make what a survey says is missing, so that all subvolumes agree on a directory.

Runs as part of a lookup of the directory, under the lock of its name (nobody renames or removes it meanwhile) and of itself (one
healer at a time), and looks again first.  Whatever fails is left for the next lookup; the lookup itself succeeds.

Order: attributes and missing copies before layouts, because a name may only be placed where its directory is.
Copies are made with the directory's own times: healing is not a change that users should see.

Source: GlusterFS `dht-selfheal.c` (design facts, section 8).
"""

from __future__ import annotations

import errno
import logging
import stat
from collections.abc import Mapping
from typing import Any

from fusemux.graph.cluster.distribute.base import GONE, SHARED_LAYOUTS, internal
from fusemux.graph.cluster.distribute.directory import MDS_AT_REST, Directory, Healing, Survey
from fusemux.graph.cluster.distribute.layout import COMMIT_UNKNOWN, TYPE_USER, Layout, fresh, keep_overlap
from fusemux.graph.cluster.distribute.linkto import Linktos
from fusemux.graph.cluster.distribute.space import chunks
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fanout import fan_out_each
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import ROOT_GFID, Frame, Iatt, SetAttr, Xdata, gfid_text

__all__ = ["DirectoryHealing"]

log = logging.getLogger("fusemux.distribute")

# What users put on directories is copied; in `trusted.` most belongs to translators and differs between subvolumes.
_COPIED = (b"user.", b"security.", b"system.posix_acl_", b"trusted.")
_KEPT = (
    b"trusted.gfid",
    b"trusted.glusterfs.",
    b"trusted.afr.",
    b"trusted.ec.",
    b"trusted.bit-rot.",
    b"trusted.pgfid.",
)


class DirectoryHealing(Linktos):
    def request(self, gfid: bytes, xdata: Xdata = None) -> dict[bytes, Any]:
        """The xdata of a lookup that wants to know a directory (the root: also the volume's commit hash)."""
        x = self.xattr
        request: dict[bytes, Any] = {x.layout: None, x.mds: None, x.linkto: None}
        if gfid == ROOT_GFID:
            request[x.commit] = None
        return request if xdata is None else {**xdata, **request}

    async def survey(
        self, frame: Frame, gfid: bytes, parent: Directory | None, name: bytes, known: Directory | None
    ) -> Survey:
        """Ask all subvolumes for a directory: by name below `parent`, or by gfid."""
        at = gfid if parent is None else parent.gfid
        inode = self.table.learn(at, stat.S_IFDIR)
        request = self.request(gfid)
        answers = await self.ask_all("lookup", internal(frame), inode, b"" if parent is None else name, request)
        return Survey(answers, self.xattr, known)

    async def learn(self, frame: Frame, gfid: bytes, survey: Survey, parent: Directory | None, name: bytes) -> Iatt:
        """Remember a surveyed directory, heal it if need be, and answer its attributes.  Raises EIO on a conflict."""
        if survey.conflict:
            raise FopError(errno.EIO, f"{name!r} ({gfid_text(gfid)}) {survey.conflict}")
        if gfid == ROOT_GFID:
            self.learn_commit(survey)
        hashed = -1 if parent is None else parent.layout.find(self.hash(name))
        layout, mds = survey.layout(), survey.mds
        if survey.healing(hashed, gfid, by_name=parent is not None):
            try:
                survey, layout, mds = await self._heal(frame, gfid, parent, name, hashed)
            except FopError as error:
                if error.errno in GONE:
                    raise
                log.warning("%s: directory %s was not healed: %s", self.name, gfid_text(gfid), error)
        self.place_directory(gfid, layout, mds, parent, name)
        return self.visible(survey.merged(hashed))

    def visible(self, iatt: Iatt) -> Iatt:
        """Without the xattrs that distribute asked for."""
        if iatt.xdata is None:
            return iatt
        rest = {key: value for key, value in iatt.xdata.items() if key not in self.xattr}
        return iatt._replace(xdata=rest or None)

    # -- healing ---------------------------------------------------------------------------------------------

    async def _heal(
        self, frame: Frame, gfid: bytes, parent: Directory | None, name: bytes, hashed: int
    ) -> tuple[Survey, Layout, int | None]:
        """Returns the survey that was acted on, the layout and the MDS.  Raises ENOENT when the directory is gone."""
        own = [(parent.gfid, name)] if parent is not None else []
        keys = await self.locks.take((gfid, b""), *own)
        try:
            survey = await self.survey(frame, gfid, parent, name, None)
            if survey.conflict or {iatt.gfid for iatt in survey.iatts.values()} != {gfid}:
                raise FopError(errno.ENOENT, f"{name!r} ({gfid_text(gfid)}) went away")
            directory = Directory(gfid, survey.layout(), self.generation, survey.mds, parent, name)
            healing = survey.healing(hashed, gfid, by_name=parent is not None)
            await self.perform_healing(frame, directory, survey, healing, hashed)
            return survey, directory.layout, directory.mds
        finally:
            self.locks.give(keys)

    async def perform_healing(
        self, frame: Frame, directory: Directory, survey: Survey, healing: Healing, hashed: int
    ) -> None:
        """Do what `healing` says; `directory` gets the layout and the MDS that result.  Its lock is held."""
        inode = self.table.learn(directory.gfid, stat.S_IFDIR)
        merged = survey.merged(hashed)
        quiet = internal(frame, time_ns=merged.ctime_ns)  # lookups have no time, and each copy would take its own
        await self._heal_copies(quiet, directory, inode, survey, healing, hashed)
        if healing.mark is not None:
            await self.children[healing.mark].setxattr(quiet, inode, {self.xattr.mds: MDS_AT_REST}, 0)
            directory.mds = healing.mark
        if healing.relayout:
            every = range(len(self.children))
            layout = await self.new_layout(frame, directory, COMMIT_UNKNOWN, every)
            await self.write_layout(quiet, inode, layout, every)
            directory.layout = layout
        elif healing.shares:
            await self.write_layout(quiet, inode, directory.layout, healing.shares)

    async def _heal_copies(
        self, frame: Frame, directory: Directory, inode: Inode, survey: Survey, healing: Healing, hashed: int
    ) -> None:
        """Missing copies, attributes and user xattrs."""
        source, merged = survey.source(hashed), survey.merged(hashed)
        xattrs: Mapping[bytes, bytes] = {}
        if healing.make or healing.copy_xattrs:
            xattrs = await self._user_xattrs(frame, source, inode)
        for place in healing.make:
            await self._make_copy(frame, directory, place, merged, xattrs)
        await self._set_attributes(frame, inode, merged, [*healing.attributes, *healing.make])
        if healing.copy_xattrs:
            await self._copy_xattrs(frame, inode, source, xattrs, [p for p in survey.iatts if p != source])

    async def _make_copy(
        self, frame: Frame, directory: Directory, place: int, like: Iatt, xattrs: Mapping[bytes, bytes]
    ) -> None:
        assert directory.parent is not None
        parent = self.table.learn(directory.parent.gfid, stat.S_IFDIR)
        try:
            await self.children[place].mkdir(
                frame, parent, directory.name, like.mode & 0o7777, directory.gfid, xattrs or None
            )
        except FopError as error:
            if error.errno != errno.EEXIST:
                raise

    async def _set_attributes(self, frame: Frame, inode: Inode, like: Iatt, places: list[int]) -> None:
        attrs = SetAttr(like.mode & 0o7777, like.uid, like.gid, like.atime_ns, like.mtime_ns, like.ctime_ns)
        for place in places:
            await self.children[place].setattr(frame, inode, attrs)

    async def _user_xattrs(self, frame: Frame, place: int, inode: Inode) -> Mapping[bytes, bytes]:
        found: Mapping[bytes, bytes] = await self.children[place].getxattr(frame, inode, None)
        own = (*_KEPT, self.xattr.layout)
        return {k: bytes(v) for k, v in found.items() if k.startswith(_COPIED) and not k.startswith(own)}

    async def _copy_xattrs(
        self, frame: Frame, inode: Inode, source: int, wanted: Mapping[bytes, bytes], places: list[int]
    ) -> None:
        """Make the user xattrs of `places` those of the MDS, then put its counter at rest."""
        for place in places:
            edge = self.children[place]
            there = await self._user_xattrs(frame, place, inode)
            for key in there.keys() - wanted.keys():
                await edge.removexattr(frame, inode, key)
            changed = {key: value for key, value in wanted.items() if there.get(key) != value}
            if changed:
                await edge.setxattr(frame, inode, changed, 0)
        await self.children[source].setxattr(frame, inode, {self.xattr.mds: MDS_AT_REST}, 0)

    # -- layouts ---------------------------------------------------------------------------------------------

    async def new_layout(self, frame: Frame, directory: Directory, commit: int, usable: Any) -> Layout:
        """Divide the ring among the subvolumes `usable`, less those that will be removed."""
        leaving = set(self.opt.decommissioned_bricks or ())
        places = [place for place in usable if self.names[place] not in leaving] or list(usable)
        weights = None
        if self.opt.weighted_rebalance:
            weights = [chunks(stat_) for stat_ in (await self.know_space(frame)).stats]
        first = self.start_hash(directory) % len(self.names)
        key = (first, commit, tuple(places), tuple(weights or ()), self.opt.directory_layout_spread)
        layout = self._fresh.get(key)
        if layout is None:
            if len(self._fresh) >= SHARED_LAYOUTS:
                self._fresh.clear()
            layout = self._fresh[key] = fresh(
                self.names, places, first, commit=commit, weights=weights, spread=self.opt.directory_layout_spread
            )
        return layout

    async def write_layout(self, frame: Frame, inode: Inode, layout: Layout, places: Any) -> None:
        """Record on each of `places` its share.  Raises the first error, after all have been tried."""
        answers = await fan_out_each(
            [
                (self.children[place], "setxattr", (frame, inode, {self.xattr.layout: layout.disk(place)}, 0))
                for place in places
            ]
        )
        failed = next((a for a in answers if isinstance(a, FopError)), None)
        if failed is not None:
            raise failed

    async def fix_layout(self, frame: Frame, inode: Inode) -> None:
        """Divide a directory's ring anew over all subvolumes, moving as few hashes as possible.

        Not for one that was divided by hand.  Names do not move by this; lookups find them everywhere until a rebalance
        has moved them.
        """
        self.need_all_up("fix-layout")
        directory = await self.directory(frame, inode)
        keys = await self.locks.take((inode.gfid, b""))
        try:
            old = directory.layout
            if old.type == TYPE_USER:
                return
            layout = await self.new_layout(frame, directory, COMMIT_UNKNOWN, range(len(self.children)))
            sizes = {e.stop - e.start for e in layout.extents if e.shares}
            if not self.opt.weighted_rebalance or max(sizes) - min(sizes) <= len(self.children):
                layout = keep_overlap(self.names, old, layout)
            await self.write_layout(internal(frame), inode, layout, range(len(self.children)))
            self.place_directory(inode.gfid, layout, directory.mds)
        finally:
            self.locks.give(keys)
