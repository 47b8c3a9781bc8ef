"""What the kernel knows of a volume: its node ids, and the name by which each was last reached.

A node id is the inode number of the gfid, so it is the same after every mount; one gfid has one node id, whatever
number of names it has.  Should two gfids have one inode number, or one that FUSE reserves, a number from a
counter stands in.

The kernel's requests to remove or rename name a parent and a name, the graph wants the inode: `child` answers
from what lookups and creations have told.  A node keeps one name, its last; others (hard links) are looked up anew.
Everything here is bounded by what the kernel refers to, and that by `limit`: beyond it the kernel is asked (`on_excess`) to drop
what it has known longest.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from fusemux.graph.framework.inode import Fd, Inode, InodeTable
from fusemux.graph.framework.types import Iatt

__all__ = ["ROOT_ID", "NodeTable", "Place"]

ROOT_ID = 1
_SHED = 1024  # how many nodes the kernel is asked to drop at a time
_IFMT = 0o170000
_IFDIR = 0o040000

Place = tuple[int, bytes]  # the parent's node id, and a name in it


class NodeTable:
    """`known` maps node ids to inodes; use it, `enter`, `child`, `moved`, `unnamed` and `forget` to keep it true."""

    def __init__(self, itable: InodeTable, limit: int) -> None:
        self.itable = itable
        self.limit = max(limit, 1)
        self.known: dict[int, Inode] = {ROOT_ID: itable.root}
        self.names: dict[Place, Inode] = {}
        self.places: dict[int, Place] = {}
        self.removed: dict[int, Iatt] = {}  # all but files: gone but still referred to, as they were last
        self.on_excess: Callable[[list[int]], None] | None = None
        self._unlinked: set[Inode] = set()
        self._linked: set[Inode] = set()  # of those that the kernel knows: seen with more than one name
        self._aliases: dict[bytes, int] = {}
        self._numbers = count(2)
        self._patience = 0  # references to come before the kernel is asked again

    # -- what the kernel learns ------------------------------------------------------------------------------

    def enter(self, iatt: Iatt, parent: int, name: bytes) -> int:
        """The kernel is told of `iatt` under this name: one more reference.  Returns the node id.  Parent 0: no name."""
        inode = self.itable.link(iatt.gfid, iatt.mode & _IFMT)
        nodeid = inode.ino
        known = self.known.get(nodeid)
        if known is not inode:
            nodeid = self._add(inode, known)
        inode.nlookup += 1
        if len(self.known) > self.limit:
            self._patience -= 1
            if self._patience <= 0:
                self._shed()
        if iatt.nlink > 1 and iatt.mode & _IFMT != _IFDIR:
            self._linked.add(inode)
        if parent:
            if self._unlinked:
                self._unlinked.discard(inode)  # it had another name
            place = (parent, name)
            if self.names.get(place) is not inode:
                self._place(place, inode, nodeid)
        return nodeid

    def _add(self, inode: Inode, known: Inode | None) -> int:
        nodeid = self._aliases.get(inode.gfid) if self._aliases else None
        if nodeid is not None:
            return nodeid
        nodeid = inode.ino
        if known is not None or nodeid <= ROOT_ID:
            nodeid = next(number for number in self._numbers if number not in self.known)
            self._aliases[inode.gfid] = nodeid
        self.known[nodeid] = inode
        return nodeid

    def id_of(self, inode: Inode) -> int:
        """The node id of an inode that the kernel knows."""
        return self._aliases.get(inode.gfid, inode.ino) if self._aliases else inode.ino

    def find(self, inode: Inode) -> int | None:
        """The node id of `inode`, None when the kernel does not know it."""
        nodeid = self.id_of(inode)
        return nodeid if self.known.get(nodeid) is inode else None

    def forget(self, nodeid: int, nlookup: int) -> None:
        """The kernel drops `nlookup` of its references."""
        inode = self.known.get(nodeid)
        if inode is None or nodeid == ROOT_ID:
            return
        inode.nlookup -= nlookup
        if inode.nlookup > 0:
            return
        inode.nlookup = 0
        del self.known[nodeid]
        place = self.places.pop(nodeid, None)
        if place is not None:
            del self.names[place]
        if self._aliases:
            self._aliases.pop(inode.gfid, None)
        if self.removed:
            self.removed.pop(nodeid, None)
        if self._linked:
            self._linked.discard(inode)
        self.itable.settle(inode)
        self._bury(inode)

    def closed(self, fd: Fd) -> None:
        """An open file or directory was released, or its opening failed."""
        self.itable.closed(fd)
        if self._unlinked:
            self._bury(fd.inode)

    def _bury(self, inode: Inode) -> None:
        """What was unlinked and is referred to no more need not stay in memory.

        Should it have another name after all, the next lookup finds it again.
        """
        if inode in self._unlinked and not inode.nlookup and not inode.nopen:
            self._unlinked.discard(inode)
            self.itable.discard(inode)

    def is_gone(self, inode: Inode) -> bool:
        """Whether the last name of `inode` was removed here and nobody has it open: no brick needs to be asked.

        With the writeback cache the kernel asks for such inodes, to set their times, before it forgets them.
        """
        return inode in self._unlinked and not inode.nopen and inode not in self._linked

    # -- names -----------------------------------------------------------------------------------------------

    def child(self, parent: int, name: bytes) -> Inode | None:
        """What the kernel was last told of this name; None when it was told nothing, or has forgotten."""
        return self.names.get((parent, name))

    def _place(self, place: Place, inode: Inode, nodeid: int) -> None:
        before = self.places.get(nodeid)
        if before is not None:
            del self.names[before]
        self.vacate(place)
        self.names[place] = inode
        self.places[nodeid] = place

    def vacate(self, place: Place) -> None:
        """Nothing is known of this name any more."""
        inode = self.names.pop(place, None)
        if inode is not None:
            del self.places[self.id_of(inode)]

    def unnamed(self, place: Place, inode: Inode) -> None:
        """The name was unlinked or removed."""
        self.vacate(place)
        if inode.nlookup or inode.nopen:
            self._unlinked.add(inode)
        else:
            self.itable.discard(inode)

    def moved(self, old: Place, new: Place, inode: Inode, replaced: Inode | None) -> None:
        """Renamed; `replaced` lay at the new name and has lost it."""
        if replaced is not None:
            self.unnamed(new, replaced)
        self.vacate(old)
        if inode.nlookup:
            self._place(new, inode, self.id_of(inode))

    def exchanged(self, old: Place, new: Place, inode: Inode, other: Inode) -> None:
        """The two names have changed places."""
        self.vacate(old)
        self.vacate(new)
        for place, moved in ((new, inode), (old, other)):
            if moved.nlookup:
                self._place(place, moved, self.id_of(moved))

    # -- the limit -------------------------------------------------------------------------------------------

    def _shed(self) -> None:
        """Ask the kernel to drop what it has known long; those it cannot drop count as young again.

        What it drops it tells later.  Until then it may look up the same again, so what counts are references, not nodes.
        """
        wanted = min(_SHED, len(self.known) - self.limit + self.limit // 8 + 1)
        self._patience = wanted // 2
        oldest = []
        for nodeid, inode in self.known.items():
            if not inode.nopen and nodeid != ROOT_ID:
                oldest.append(nodeid)
                if len(oldest) == wanted:
                    break
        for nodeid in oldest:
            self.known[nodeid] = self.known.pop(nodeid)
        if self.on_excess is not None and oldest:
            self.on_excess(oldest)
