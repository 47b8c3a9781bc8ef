"""Inodes and open files as the client's graph knows them; an inode *is* its gfid.

`ctx` holds one slot for every translator that declares `inode_slots` (or `fd_slots`), at the index the graph gave
it.  A slot's owner alone reads and writes it, and must be able to rebuild it: the table may forget an inode that
nobody looks at any more.  Bricks never keep these objects: they know gfids, and open files of their own, which hang
in the `Fd`'s slot of the leaf that leads to them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from fusemux.graph.framework.types import ROOT_GFID, ino_of

__all__ = ["Fd", "Inode", "InodeTable"]


class Inode:
    """One file, directory, link or device.  `type` is its S_IFMT bits, 0 while unknown."""

    __slots__ = ("__weakref__", "bare", "ctx", "gfid", "ino", "nlookup", "nopen", "type")

    def __init__(self, gfid: bytes, type: int = 0, slots: int = 0) -> None:
        self.gfid = gfid
        self.ino = ino_of(gfid)
        self.type = type
        self.nlookup = 0  # lookups the kernel has not forgotten
        self.nopen = 0
        self.bare = False  # made here, and given no xattr since: nobody need be asked for one that says what it may do
        self.ctx: list[Any] = [None] * slots

    def __repr__(self) -> str:
        return f"<Inode {self.gfid.hex()} type={self.type:o} nlookup={self.nlookup}>"


class Fd:
    """One open file or directory.  `flags` are those of open(2)."""

    __slots__ = ("ctx", "flags", "inode", "pid")

    def __init__(self, inode: Inode, flags: int = 0, slots: int = 0, pid: int = 0) -> None:
        self.inode = inode
        self.flags = flags
        self.pid = pid
        self.ctx: list[Any] = [None] * slots

    def __repr__(self) -> str:
        return f"<Fd {self.inode.gfid.hex()} flags={self.flags:#x}>"


class InodeTable:
    """The inodes of one graph: those somebody refers to, and a bounded LRU of those nobody does.

    `find` and `link` are the only ways in: two `Inode` objects for one gfid cannot exist.  `limit` bounds the
    unreferenced ones; what is referenced (looked up by the kernel, or open) is bounded by whoever refers to it.
    """

    def __init__(self, *, inode_slots: int = 0, fd_slots: int = 0, limit: int = 16384) -> None:
        self.inode_slots = inode_slots
        self.fd_slots = fd_slots
        self.limit = limit
        self.active: dict[bytes, Inode] = {}
        self.unused: OrderedDict[bytes, Inode] = OrderedDict()
        self.on_forget: Callable[[Inode], None] | None = None
        self.root = self.link(ROOT_GFID, 0o040000)
        self.root.nlookup = 1

    def __len__(self) -> int:
        return len(self.active) + len(self.unused)

    def find(self, gfid: bytes) -> Inode | None:
        """The inode of `gfid` if it is in memory."""
        return self.active.get(gfid) or self.unused.get(gfid)

    def link(self, gfid: bytes, type: int) -> Inode:
        """The one `Inode` of `gfid`, made when there is none.  It stays while `nlookup` or `nopen` is above 0."""
        inode = self.active.get(gfid)
        if inode is None:
            inode = self.unused.pop(gfid, None)
            if inode is None:
                inode = Inode(gfid, type, self.inode_slots)
            self.active[gfid] = inode
        if type:
            inode.type = type
        return inode

    def learn(self, gfid: bytes, type: int) -> Inode:
        """The `Inode` of `gfid` for a translator that has just seen it in an answer; nobody needs to refer to it yet.

        What is new goes to the unused ones, where it is kept until it is old; `link` finds it there, its slots filled.
        """
        inode = self.active.get(gfid) or self.unused.get(gfid)
        if inode is None:
            inode = self.unused[gfid] = Inode(gfid, type, self.inode_slots)
            if len(self.unused) > self.limit:
                self._trim()
        return inode

    def fd(self, inode: Inode, flags: int, pid: int = 0) -> Fd:
        """A new `Fd` that keeps `inode` in memory until `closed`."""
        inode.nopen += 1
        return Fd(inode, flags, self.fd_slots, pid)

    def widen(self, fd: Fd) -> None:
        """Give `fd` the slots that were added since it was made."""
        fd.ctx.extend([None] * (self.fd_slots - len(fd.ctx)))

    def closed(self, fd: Fd) -> None:
        """`fd` was released, or its open failed."""
        fd.inode.nopen -= 1
        self.settle(fd.inode)

    def forget(self, inode: Inode, nlookup: int) -> None:
        """The kernel drops `nlookup` of its references."""
        inode.nlookup = max(0, inode.nlookup - nlookup)
        self.settle(inode)

    def settle(self, inode: Inode) -> None:
        """Move an inode that nobody refers to any more to the LRU, and drop the oldest beyond `limit`."""
        if inode.nlookup or inode.nopen or inode is self.root:
            return
        if self.active.pop(inode.gfid, None) is None:
            return
        self.unused[inode.gfid] = inode
        if len(self.unused) > self.limit:
            self._trim()

    def _trim(self) -> None:
        while len(self.unused) > self.limit:
            _, oldest = self.unused.popitem(last=False)
            if self.on_forget is not None:
                self.on_forget(oldest)

    def discard(self, inode: Inode) -> None:
        """The file is gone for good (last link removed, nobody holds it): do not keep it in the LRU."""
        if not (inode.nlookup or inode.nopen) and self.unused.pop(inode.gfid, None) is not None and self.on_forget:
            self.on_forget(inode)
