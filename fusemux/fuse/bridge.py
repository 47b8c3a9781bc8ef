"""The bridge: what the kernel asks of a mounted volume, in fops on its graph.

One `Bridge` serves one mounted volume.  It knows nothing of the wire: a binding (`binding.py`) reads the
requests and calls it with node ids, names and handles.  All calls are coroutines, take the caller's `Frame` first and raise `FopError`
only; on a volume of ramdisks they never suspend.

    nodes    what the kernel has looked up and not forgotten          nodes.py
    handles  what is open                                             handles.py
    calls    lookup, create, read, write, readdir, ...                calls/

Files that are unlinked while open, and directories that are removed while somebody is in them, keep working:
their inode lives as long as the kernel refers to it, and what bricks cannot find by gfid any more is reached through who has it open.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any, NamedTuple

from fusemux.fuse.calls.directories import DirectoryCalls
from fusemux.fuse.calls.files import FileCalls
from fusemux.fuse.calls.xattrs import XattrCalls
from fusemux.fuse.nodes import Place
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.translator import Event, StaleAttributes, StaleName, Translator
from fusemux.graph.framework.types import Frame

__all__ = ["Bridge", "BridgeOptions", "BridgeStatistics"]

log = logging.getLogger("fusemux.fuse")


@dataclass(frozen=True)
class BridgeOptions:
    """`lru_limit`: beyond so many nodes the kernel is asked to drop some.  `writeback_cache`: it gathers writes.

    `locks`: users' locks come here instead of staying with the kernel (`sharing.py`).
    `sole_writer`: nobody changes the volume but through this bridge, or tells it (see `calls/recall.py`).
    """

    lru_limit: int = 65536
    writeback_cache: bool = True
    locks: bool = False
    sole_writer: bool = False


class BridgeStatistics(NamedTuple):
    nodes: int  # that the kernel refers to
    names: int  # of those, whose name is known
    open_files: int
    open_directories: int
    nameless: int  # open files without a name, as far as anybody asked about them
    removed_directories: int  # still referred to
    inodes: int  # of the graph, also those that nobody refers to


class Bridge(FileCalls, DirectoryCalls, XattrCalls):
    """See the module.  The binding sets the callbacks, through which the kernel hears of changes by others."""

    def __init__(self, graph: Graph, *, options: BridgeOptions = BridgeOptions()) -> None:
        super().__init__(graph, options.lru_limit, options.writeback_cache, options.sole_writer)
        self.options = options
        self.on_invalidate: Callable[[int], None] | None = None  # a node's attributes and contents are stale
        self.on_invalidate_entry: Callable[[int, bytes], None] | None = None  # a name (parent, name) is stale
        self.on_excess: Callable[[list[int]], None] | None = None  # nodes that need not be known any more
        self.nodes.on_excess = self._excess
        self._ear = _Ear("fuse", {}, graph.process)
        self._ear.hear = self._stale
        self._ear.hear_attributes = self._stale_attributes
        self._ear.hear_name = self._stale_name
        graph.top.translator.parents.append(self._ear)

    def close(self) -> None:
        """The volume is unmounted: nothing more will be heard from the graph."""
        parents = self.top.translator.parents
        if self._ear in parents:
            parents.remove(self._ear)

    def open_fds(self) -> list[Fd]:
        """All files and directories that are open."""
        directories = [directory.fd for directory in self.directories.values() if directory.fd is not None]
        return [*(file.fd for file in self.files.values()), *directories]

    @property
    def flushes(self) -> bool:
        """Whether close(2) has to reach the graph: only then does the kernel have to ask."""
        return self.top.flushes

    @property
    def passes(self) -> bool:
        """Whether the graph lets the kernel read and write any files by itself."""
        return self.top.passes

    def backing(self, fh: int) -> int | None:
        """A descriptor of the one local file that holds all bytes of the open file `fh`, None where there is none."""
        return self.top.backing(self._file(fh).fd)

    def unbacked(self, nodes: Container[int]) -> set[int]:
        """Those of `nodes` that are open and have no such descriptor, or not any more."""
        return {file.nodeid for fh, file in self.files.items() if file.nodeid in nodes and self.backing(fh) is None}

    def access_of(self, fh: int) -> int:
        """For what `fh` was opened: O_RDONLY, O_WRONLY or O_RDWR."""
        return self._file(fh).fd.flags & os.O_ACCMODE

    def only_written(self, fh: int) -> bool:
        """Whether nobody can read the file now: `fh` is for writing only, and nobody else has it open."""
        fd = self._file(fh).fd
        return fd.flags & os.O_ACCMODE == os.O_WRONLY and fd.inode.nopen == 1

    @property
    def waits(self) -> bool:
        """Whether another request may be answered while one waits."""
        return self.top.suspends

    async def disconnect(self) -> None:
        """The kernel is gone (unmounted, aborted) without closing and forgetting: do it in its place.  Never raises."""
        for handles, release in ((self.files, self.release), (self.directories, self.releasedir)):
            for fh in list(handles):
                try:
                    await release(Frame(), fh)
                except FopError as error:
                    log.info("closing what the kernel left open: %s", error)
        for nodeid, inode in list(self.known.items()):
            self.nodes.forget(nodeid, inode.nlookup)

    def statistics(self) -> BridgeStatistics:
        return BridgeStatistics(
            len(self.known), len(self.nodes.names), len(self.files), len(self.directories), len(self._orphans),
            len(self.nodes.removed), len(self.itable),
        )  # fmt: skip

    # -- what others changed ---------------------------------------------------------------------------------

    def _stale(self, inode: Inode) -> None:
        """Somebody else (heal, rebalance, another client) has changed the inode."""
        self.recall.forget(inode.gfid)
        nodeid = self.nodes.find(inode)
        if nodeid is None:
            return
        if stat.S_ISDIR(inode.type):
            self._drop([place for place in self.nodes.names if place[0] == nodeid])
        if self.on_invalidate is not None:
            self.on_invalidate(nodeid)

    def _stale_attributes(self, stale: StaleAttributes) -> None:
        """A heal has changed a directory."""
        self.recall.look_again(stale.directory.gfid)
        nodeid = self.nodes.find(stale.directory)
        if nodeid is not None and self.on_invalidate is not None:
            self.on_invalidate(nodeid)

    def _stale_name(self, stale: StaleName) -> None:
        """A heal has changed what a name is, perhaps one that the kernel remembers not to exist."""
        self.recall.forget(stale.directory.gfid)
        nodeid = self.nodes.find(stale.directory)
        if nodeid is None:
            return
        child = self.nodes.child(nodeid, stale.name)
        if child is None or not stat.S_ISDIR(child.type):  # see places_of_files
            self._drop([(nodeid, stale.name)])

    def _drop(self, places: list[Place]) -> None:
        if self.on_invalidate_entry is not None:
            for parent, name in places:
                self.on_invalidate_entry(parent, name)

    def _excess(self, nodes: list[int]) -> None:
        """The kernel knows more than it should: these nodes it has known longest."""
        if self.on_excess is not None:
            self.on_excess(nodes)
        else:
            self._drop(self.places_of_files(nodes))

    def places_of_files(self, nodes: list[int]) -> list[Place]:
        """Names by which a kernel that cannot drop nodes can be made to.

        Not of directories: invalidating the name of one tears down what is mounted below it.
        """
        places = self.nodes.places
        return [places[node] for node in nodes if node in places and not stat.S_ISDIR(self.known[node].type)]


class _Ear(Translator):
    """What the top of the graph takes for its parent: events reach the bridge through it."""

    type = "mount/fuse"
    hear: Callable[[Inode], None]
    hear_attributes: Callable[[StaleAttributes], None]
    hear_name: Callable[[StaleName], None]

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        if event is Event.UPCALL and isinstance(data, Inode):
            self.hear(data)
        elif event is Event.UPCALL and isinstance(data, StaleAttributes):
            self.hear_attributes(data)
        elif event is Event.UPCALL and isinstance(data, StaleName):
            self.hear_name(data)
