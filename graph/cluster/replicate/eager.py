"""What replicate remembers of an open file, and of a file whose dirty mark is set.

Eager changelog: the first write to a file sets its dirty mark on the bricks, later ones find it set; it is cleared when the file is
flushed, synced or released, or when nothing was written for a while.  A steady writer so costs one write per copy and
no xattrop at all.
"""

from __future__ import annotations

from fusemux.graph.framework.inode import Fd, Inode

__all__ = ["Eager", "Opened"]


class Opened:
    """On which children an Fd is open, as of a generation."""

    __slots__ = ("children", "generation")

    def __init__(self, generation: int, children: int) -> None:
        self.generation = generation
        self.children = children


class Eager:
    """A data transaction that is kept open: the dirty mark is set on `children`, which have taken part in every write."""

    __slots__ = (
        "absent", "children", "end", "failed", "fd", "inode", "recorded", "stuck", "suspects", "tick", "token", "unstable",
        "used",
    )  # fmt: skip

    def __init__(self, inode: Inode, children: int, *, token: object | None, absent: int = 0, end: int = -1) -> None:
        self.inode = inode
        self.children = children
        self.absent = absent  # accused when the mark was set
        self.token = token  # the set's token while all children take part
        self.end = end  # size of the file where it is known, -1 otherwise: what lies beyond is appended
        self.fd: Fd | None = None  # to sync by
        self.failed = 0  # children still to be accused
        self.suspects = 0  # accused when the mark was set, of what they may have lost before
        self.stuck = False  # the copies may differ: leave the mark
        self.unstable = False  # something was overwritten and not synced
        self.used = False  # something was changed at all
        self.tick = 0  # of the last change
        self.recorded = True  # after the post-op: whether a quorum knows who failed

    def wrote(self, fd: Fd, offset: int, length: int, tick: int) -> None:
        """Note a write for the post-op: what was appended needs no sync, since healing sees it by the size."""
        self.tick = tick
        self.used = True
        self.fd = fd
        end = offset + length
        if 0 <= self.end <= offset:
            self.end = end
        else:
            self.unstable = True
            if end > self.end >= 0:
                self.end = end
