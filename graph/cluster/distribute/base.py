"""What all fops of distribute share: the slots, the way to a directory's layout, the children and their state.

A file's slot holds the `Edge` to the subvolume that has its data; a directory's holds a `Directory`.  Both can be
found anew at any time by asking all subvolumes for the gfid (`resolve`), so the inode table may forget them.

`generation` counts how often a subvolume came or went.  A directory learnt before that is asked for again at its next
use: with a subvolume back its layout is whole again, or what it missed must be healed.
"""

from __future__ import annotations

import errno
import logging
import stat
from time import monotonic
from typing import Any

from fusemux.graph.cluster.distribute import options
from fusemux.graph.cluster.distribute.directory import Directory, Survey, XattrNames
from fusemux.graph.cluster.distribute.hash import RSYNC_REGEX, hasher, placer
from fusemux.graph.cluster.distribute.layout import Layout
from fusemux.graph.cluster.distribute.locks import Locks
from fusemux.graph.cluster.distribute.space import Limits, Space
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fanout import fan_out
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import Frame, Iatt, StatVfs, Xdata, gfid_text

__all__ = ["GONE", "INTERNAL_PID", "SHARED_LAYOUTS", "DistributeBase", "internal"]

log = logging.getLogger("fusemux.distribute")

GONE = (errno.ENOENT, errno.ESTALE)
INTERNAL_PID = -3  # GlusterFS's mark of distribute's own work
SHARED_LAYOUTS = 1024  # kept at most; a volume of n subvolumes has some n different ones


def internal(frame: Frame, owner: Iatt | None = None, time_ns: int | None = None) -> Frame:
    """A frame for what distribute does by itself while it serves `frame`: as root, or as the owner of `owner`."""
    own = Frame(owner.uid, owner.gid, INTERNAL_PID) if owner is not None else Frame(0, 0, INTERNAL_PID)
    own.time_ns = frame.time_ns if time_ns is None else time_ns
    return own


class DistributeBase(Translator):
    inode_slots = 1

    def __init__(self, name: str, given: dict[str, str], process: Process) -> None:
        super().__init__(name, given, process)
        self.generation = 0
        self.up: list[bool] = []
        self.steady = False  # all subvolumes are up and none of them can make us wait
        self.locks = Locks()
        self.space = Space()
        self.names: list[str] = []
        self.volume_commit = 0
        self._layouts: dict[Layout, Layout] = {}
        self._fresh: dict[Any, Layout] = {}  # fresh layouts by what they were made of
        self._adopt()

    async def init(self) -> None:
        self.names = [edge.name for edge in self.children]
        self.place_of_name = {edge.name.encode(): edge.index for edge in self.children}
        self.suffix = f"@{self.name}:".encode()
        self.table = self.graph.itable
        options.check(self.opt, self.names)

    def linked(self) -> None:
        self.steady = bool(self.up) and all(self.up) and not any(edge.suspends for edge in self.children)

    def reconfigure(self, given: Any) -> None:
        before, before_given = self.opt, self.given
        super().reconfigure(given)
        try:
            self._adopt()
        except BaseException:
            self.opt, self.given = before, before_given
            raise

    def _adopt(self) -> None:
        """Take the options' values to where they are used."""
        opt = self.opt
        options.check(opt, self.names)
        regexes = (opt.rsync_hash_regex or RSYNC_REGEX, opt.extra_hash_regex)
        self.hash = placer(*regexes)
        self.hash_once = hasher(*regexes)
        self.limits: Limits = (opt.min_free_disk, opt.min_free_inodes)
        self.xattr = XattrNames.of(opt.xattr_name)
        self.optimizing: bool = opt.lookup_optimize
        self.space.forget()

    # -- slots -----------------------------------------------------------------------------------------------

    def place_file(self, gfid: bytes, mode: int, edge: Edge) -> None:
        """Remember that the data of file `gfid` is below `edge`."""
        table = self.table
        inode = table.active.get(gfid)
        if inode is None:
            inode = table.learn(gfid, mode & 0o170000)
        inode.ctx[self.inode_slot] = edge

    def place_directory(
        self, gfid: bytes, layout: Layout, mds: int | None, parent: Directory | None = None, name: bytes = b""
    ) -> Directory:
        """Remember the layout of a directory, and where it is in the tree when that is known."""
        inode = self.table.learn(gfid, stat.S_IFDIR)
        layout = self._shared(layout)
        known = inode.ctx[self.inode_slot]
        if not isinstance(known, Directory):
            known = inode.ctx[self.inode_slot] = Directory(gfid, layout, self.generation, mds, parent, name)
        else:
            if known.layout is not layout or known.generation != self.generation:
                known.vouched = None
            known.layout, known.generation, known.mds = layout, self.generation, mds
            if parent is not None:
                known.parent, known.name = parent, name
        return known

    def _shared(self, layout: Layout) -> Layout:
        """The one object for equal layouts: a volume has few different ones."""
        if len(self._layouts) >= SHARED_LAYOUTS:
            self._layouts.clear()
        return self._layouts.setdefault(layout, layout)

    async def directory(self, frame: Frame, inode: Inode) -> Directory:
        """What is known of directory `inode`, asked for when nothing is or when a subvolume came or went."""
        known = inode.ctx[self.inode_slot]
        if isinstance(known, Directory) and known.generation != self.generation:
            await self.refresh(frame, known)
        elif known is None:
            await self.resolve(frame, inode)
            known = inode.ctx[self.inode_slot]
        if not isinstance(known, Directory):
            raise FopError(errno.ENOTDIR, f"{gfid_text(inode.gfid)} is no directory")
        return known

    async def file(self, frame: Frame, inode: Inode) -> Edge:
        """The way to the data of file `inode`."""
        known = inode.ctx[self.inode_slot]
        if known is None:
            await self.resolve(frame, inode)
            known = inode.ctx[self.inode_slot]
        if not isinstance(known, Edge):
            raise FopError(errno.EISDIR, f"{gfid_text(inode.gfid)} is a directory")
        return known

    async def resolve(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> Iatt:
        """Find `inode` by its gfid on all subvolumes and fill its slot.  Implemented by lookups."""
        raise NotImplementedError

    async def refresh(self, frame: Frame, directory: Directory) -> None:
        """Learn `directory` anew, and what is above it first: a subvolume came or went.  Implemented by lookups."""
        raise NotImplementedError

    # -- children --------------------------------------------------------------------------------------------

    async def ask_all(self, fop: str, *args: Any) -> list[Any]:
        """`fop` on every subvolume that is up: replies and FopErrors in the order of the subvolumes."""
        if all(self.up):
            return await fan_out(self.children, fop, *args)
        answers: list[Any] = [FopError(errno.ENOTCONN, f"{edge.name} is down") for edge in self.children]
        up = self.edges_up
        for edge, answer in zip(up, await fan_out(up, fop, *args), strict=True):
            answers[edge.index] = answer
        return answers

    @property
    def edges_up(self) -> list[Edge]:
        return [edge for edge in self.children if self.up[edge.index]]

    def first_up(self) -> Edge:
        for edge in self.children:
            if self.up[edge.index]:
                return edge
        raise FopError(errno.ENOTCONN, f"all subvolumes of {self.name} are down")

    def need_all_up(self, what: str) -> None:
        """Refuse what must be done on every subvolume while one is down."""
        down = [self.names[place] for place, up in enumerate(self.up) if not up]
        if down:
            raise FopError(errno.ENOTCONN, f"{what} needs all subvolumes, {', '.join(down)} is down")

    def hashed(self, directory: Directory, name: bytes) -> int:
        """The subvolume that `name` belongs to.  Raises ENOTCONN or EIO when nobody has its hash."""
        place = directory.layout.find(self.hash(name))
        if place < 0:
            raise self.nowhere(name)
        return place

    def forced(self, name: bytes) -> tuple[bytes, int | None]:
        """`NAME@VOL-dht:SUBVOLUME` is NAME, to be made on that subvolume (GlusterFS's way of choosing one by hand)."""
        bare, _, subvolume = name.rpartition(self.suffix)
        place = self.place_of_name.get(subvolume)
        return (bare, place) if bare and place is not None else (name, None)

    def nowhere(self, name: bytes) -> FopError:
        if all(self.up):
            return FopError(errno.EIO, f"no subvolume of {self.name} has the hash of {name!r}")
        return FopError(errno.ENOTCONN, f"the subvolume of {self.name} that has the hash of {name!r} may be down")

    # -- space -----------------------------------------------------------------------------------------------

    async def know_space(self, frame: Frame) -> Space:
        """How full the subvolumes are, at most a second ago."""
        now = monotonic()
        if now >= self.space.expires:
            answers = await self.ask_all("statfs", internal(frame), self.table.root)
            self.space.learn([a if isinstance(a, StatVfs) else None for a in answers], self.limits, now)
        return self.space

    # -- placing directories ---------------------------------------------------------------------------------

    def start_hash(self, directory: Directory) -> int:
        """What rotates the shares of a fresh layout."""
        if self.opt.randomize_hash_range_by_gfid:
            return self.hash_once(gfid_text(directory.gfid).encode())
        return self.hash_once(directory.path())

    def learn_commit(self, survey: Survey) -> None:
        """Take the volume's commit hash, decimal text in an xattr of the root; 0 when it has none."""
        for iatt in survey.iatts.values():
            text = (iatt.xdata or {}).get(self.xattr.commit)
            if text is not None:
                try:
                    self.volume_commit = int(bytes(text).rstrip(b"\0"))
                except ValueError:
                    log.warning("%s: %r is no commit hash, ignored", self.name, text)
                return
        self.volume_commit = 0
