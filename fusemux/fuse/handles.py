"""What a file handle of the kernel stands for."""

from __future__ import annotations

from fusemux.graph.framework.inode import Fd
from fusemux.graph.framework.types import DirEntry, Frame

__all__ = ["OpenDirectory", "OpenFile"]


class OpenFile:
    """An open file, and who opened it: some bindings are not told who reads and writes."""

    __slots__ = ("fd", "gid", "nodeid", "pid", "uid")

    def __init__(self, fd: Fd, nodeid: int, frame: Frame) -> None:
        self.fd = fd
        self.nodeid = nodeid
        self.uid = frame.uid
        self.gid = frame.gid
        self.pid = frame.pid


class OpenDirectory:
    """An open directory.  `fd` is None when it was removed before it was opened: it has no entries.

    `ahead` are entries read but not taken yet, from `position` on; they follow `offset`.
    """

    __slots__ = ("ahead", "fd", "nodeid", "offset", "position")

    def __init__(self, fd: Fd | None, nodeid: int) -> None:
        self.fd = fd
        self.nodeid = nodeid
        self.ahead: list[DirEntry] = []
        self.position = 0
        self.offset = 0
