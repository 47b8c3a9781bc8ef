"""Files that the kernel reads and writes by itself, in the file of a brick (FUSE_PASSTHROUGH, Linux 6.9, root).

When a file is opened, the graph is asked for the one local file that holds its bytes; that is registered with the
connection, and the reply to the open names it.  Then read(2), write(2) and mmap(2) of that open file go to the brick's
file directly, and cost what they cost there; everything else comes to us as before.
After a write the kernel asks for the attributes anew; of a store to mapped memory it does not know, so while a
file is open for both (only then it can be mapped for writing) its attributes are not kept (`Session.stores`).

The kernel wants all that have one inode open to be of one kind: what the first open of a file has decided counts until
the last one is closed.  Only when the graph has changed meanwhile, so that it must see reads and writes, are later
opens sent to us (uncached).  What is open already goes on past the graph (`bypassing`) until it is closed, or revoked
(`revoking.py`), which ends it.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterable
from struct import Struct
from typing import TYPE_CHECKING

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel.protocol import Backing, OpenFlag

if TYPE_CHECKING:
    from fusemux.fuse.bridge import Bridge

__all__ = ["Passthrough"]

log = logging.getLogger("fusemux.fuse")

_PASSED = int(OpenFlag.PASSTHROUGH)
_SEEN = int(OpenFlag.PASSTHROUGH | OpenFlag.DIRECT_IO | OpenFlag.PARALLEL_DIRECT_WRITES)  # DIRECT_IO has precedence
_COMBINED = int(OpenFlag.NOFLUSH)  # what the kernel takes together with them
_ID = Struct("=I")


class _Node:
    """A file that is open: how often, as what it is registered (0: it is not), and whether it was revoked since."""

    __slots__ = ("backing", "opens", "revoked")

    def __init__(self, backing: int) -> None:
        self.backing = backing
        self.revoked = False
        self.opens = 1


class Passthrough:
    """What of one session is passed through."""

    def __init__(self, fd: int, bridge: Bridge, name: str) -> None:
        self._fd = fd
        self._bridge = bridge
        self._name = name
        self._nodes: dict[int, _Node] = {}
        self.refused = ""  # why the kernel does not do it after all

    @property
    def count(self) -> int:
        """How many files are passed through now."""
        return len(self.passed(self._nodes))

    def opened(self, nodeid: int, fh: int, flags: int) -> tuple[int, int]:
        """The flags for the reply to an open, and the id of the registered file (0: none)."""
        node = self._nodes.get(nodeid)
        if node is None:
            node = self._nodes[nodeid] = _Node(self._register(fh))
        else:
            node.opens += 1
        if not node.backing:
            return flags, 0
        flags &= _COMBINED  # there is no cache of ours to keep
        if node.revoked or (node.opens > 1 and self._bridge.backing(fh) is None):
            return flags | _SEEN, node.backing
        return flags | _PASSED, node.backing

    def closed(self, nodeid: int) -> bool:
        """One open less; whether that was the last one of a file that was passed through."""
        node = self._nodes.get(nodeid)
        if node is None:
            return False
        node.opens -= 1
        if node.opens:
            return False
        del self._nodes[nodeid]
        if node.backing:
            self._forget(node.backing)
        return node.backing != 0

    def passed(self, nodes: Iterable[int]) -> list[int]:
        """Those of `nodes` that are open and passed through."""
        return [
            nodeid
            for nodeid in nodes
            if (node := self._nodes.get(nodeid)) is not None and node.backing and not node.revoked
        ]

    def bypassing(self) -> set[int]:
        """The nodes whose reads and writes the graph would see by now, if they did not go past it."""
        return self._bridge.unbacked(set(self.passed(self._nodes)))

    def revoked(self, nodes: Iterable[int], yes: bool = True) -> None:
        """What is open of the nodes is of no use any more, or is so after all.

        What is opened anew comes to us as long as that is open, registered like the old: the kernel may have either inode.
        """
        for nodeid in nodes:
            if (node := self._nodes.get(nodeid)) is not None:
                node.revoked = yes

    def _register(self, fh: int) -> int:
        backing = self._bridge.backing(fh) if not self.refused else None
        if backing is None:
            return 0
        request = bytearray(p.BACKING_MAP.pack(backing, 0))
        try:
            return fcntl.ioctl(self._fd, Backing.OPEN, request, True)
        except OSError as error:
            self.refused = error.strerror or str(error)
            log.info("%s: no passthrough, the kernel says: %s", self._name, self.refused)
            return 0

    def _forget(self, backing: int) -> None:
        try:
            fcntl.ioctl(self._fd, Backing.CLOSE, _ID.pack(backing))
        except OSError as error:  # the connection is over
            log.debug("%s: giving back %d: %s", self._name, backing, error)
