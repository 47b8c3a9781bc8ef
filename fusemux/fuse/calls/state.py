"""What all calls of the bridge share: the graph, the nodes, the handles, and what to do about files without a name."""

from __future__ import annotations

import errno
from collections.abc import Coroutine
from itertools import count
from typing import Any, TypeVar

from fusemux.fuse.calls.recall import Recall
from fusemux.fuse.handles import OpenDirectory, OpenFile
from fusemux.fuse.nodes import NodeTable
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Frame

__all__ = ["NAME_MAX", "BridgeState", "Call", "unknown_node"]

_T = TypeVar("_T")

NAME_MAX = 255

# What a call of the bridge returns.  Where it only finds the inode or file and asks the graph it is a plain function, which
# returns the graph's coroutine as it is: one coroutine less for each request.
Call = Coroutine[Any, Any, _T]
_LOST = (errno.ESTALE, errno.ENOENT)


def unknown_node(nodeid: int) -> FopError:
    """The kernel names a node that it has forgotten: it may only do so for file handles of before (open_by_handle_at)."""
    return FopError(errno.ESTALE, f"node {nodeid:#x} is not known")


class BridgeState:
    """The base of the bridge; the calls are in its subclasses."""

    def __init__(self, graph: Graph, lru_limit: int, writeback_cache: bool, sole_writer: bool) -> None:
        self.graph = graph
        self.top = graph.top  # an Edge: its fops are bound anew at every linking, so they are fetched at every call
        self.itable = graph.itable
        self.nodes = NodeTable(graph.itable, lru_limit)
        self.known = self.nodes.known
        self.files: dict[int, OpenFile] = {}
        self.directories: dict[int, OpenDirectory] = {}
        self.writeback_cache = writeback_cache
        self.recall = Recall(graph.process, graph.top, on=sole_writer)
        self._orphans: dict[int, Fd] = {}  # nodes without a name that are reached through an open file
        self._next_handle = count(1).__next__

    def _file(self, fh: int) -> OpenFile:
        try:
            return self.files[fh]
        except KeyError:
            raise FopError(errno.EBADF, f"file handle {fh} is not open") from None

    def _directory(self, fh: int) -> OpenDirectory:
        try:
            return self.directories[fh]
        except KeyError:
            raise FopError(errno.EBADF, f"directory handle {fh} is not open") from None

    def _inode(self, nodeid: int) -> Inode:
        try:
            return self.known[nodeid]
        except KeyError:
            raise unknown_node(nodeid) from None

    async def _on(self, nodeid: int, fop: str, frame: Frame, *args: Any) -> Any:
        """Call a fop that takes an inode or an open file.

        A file that was unlinked while open cannot be found by its inode any more, only through who has it open.
        """
        inode = self._inode(nodeid)
        if self.nodes.is_gone(inode):
            raise FopError(errno.ESTALE)
        target: Inode | Fd = self._orphans.get(nodeid, inode) if self._orphans else inode
        try:
            return await getattr(self.top, fop)(frame, target, *args)
        except FopError as error:
            if error.errno not in _LOST or target is not inode or not inode.nopen:
                raise
            fd = self._opened_as(nodeid)
            if fd is None:
                raise
        self._orphans[nodeid] = fd
        return await getattr(self.top, fop)(frame, fd, *args)

    def _opened_as(self, nodeid: int) -> Fd | None:
        """An open file of the node, one that may be written if there is one."""
        found = None
        for file in self.files.values():
            if file.nodeid == nodeid:
                found = file.fd
                if found.flags & 3:
                    break
        return found
