"""A volume as the pyfuse3 binding serves it: its reply objects, and what is known of its files' privileges.

There is one reply object of a kind a volume: pyfuse3 copies it before anything else can run.
"""

from __future__ import annotations

import stat

from pyfuse3 import EntryAttributes, FileInfo

from fusemux.fuse.binding import FOREVER, MountPoint
from fusemux.fuse.permissions import groups_of, without_privileges
from fusemux.fuse.routes import Volume
from fusemux.graph.framework.types import Frame, Iatt, SetAttr

__all__ = ["Pyfuse3Volume"]

_FOREVER_S = 1e9  # some thirty years; the kernel does not count further
_PRIVILEGES = stat.S_ISUID | stat.S_ISGID
_INCAPABLE_MAX = 65536


class Pyfuse3Volume(Volume):
    def __init__(self, point: MountPoint) -> None:
        super().__init__(point.bridge)
        self.point = point
        self.entry = EntryAttributes()
        self.entry.entry_timeout = min(point.options.entry_timeout, _FOREVER_S)
        self.entry.attr_timeout = min(point.options.attr_timeout, _FOREVER_S)
        self.absent: EntryAttributes | None = None  # the answer for a name that is not there, when it may be kept
        if point.options.negative_timeout > 0:
            self.absent = EntryAttributes()
            self.absent.st_ino = 0
            self.absent.entry_timeout = min(point.options.negative_timeout, _FOREVER_S)
        self.info = FileInfo(keep_cache=True)
        self.sole_writer = point.options.attr_timeout == FOREVER
        self.privileged: set[int] = set()  # files with setuid or setgid bits
        self.incapable: set[int] = set()  # files known to have no file capabilities

    def attributes(self, nodeid: int, shown: int, iatt: Iatt) -> EntryAttributes:
        """The reply object, filled."""
        entry = self.entry
        (_, mode, entry.st_nlink, entry.st_uid, entry.st_gid, entry.st_rdev, entry.st_size, entry.st_blocks,
         entry.st_blksize, entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns, _) = iatt  # fmt: skip
        entry.st_ino = shown
        entry.st_mode = mode
        if mode & _PRIVILEGES and stat.S_ISREG(mode):
            self.privileged.add(nodeid)
        return entry

    def made(self, nodeid: int) -> None:
        """A new file has no capabilities.  The kernel asks for them before every write; the answer is here."""
        if self.sole_writer:
            if len(self.incapable) >= _INCAPABLE_MAX:
                self.incapable.clear()
            self.incapable.add(nodeid)

    def forgotten(self, nodeid: int) -> None:
        self.incapable.discard(nodeid)
        if self.privileged and nodeid not in self.bridge.known:
            self.privileged.discard(nodeid)

    async def unprivileged(self, frame: Frame, nodeid: int, attrs: SetAttr) -> SetAttr:
        """`attrs` that also take away setuid and setgid, as chown(2), and writing and truncating by ordinary users, do.

        libfuse may have agreed with the kernel that this is ours to do, or the kernel sends the mode, which then
        keeps a setgid bit that the caller's groups do not allow.
        """
        iatt = await self.bridge.getattr(frame, nodeid)
        before = stat.S_IMODE(iatt.mode)
        if attrs.mode is not None:
            iatt = iatt._replace(mode=stat.S_IFMT(iatt.mode) | attrs.mode)
        gid = frame.gid if frame.uid else iatt.gid  # root is of every group
        mode = without_privileges(iatt, gid, lambda: groups_of(frame.pid))
        if not mode & _PRIVILEGES:
            self.privileged.discard(nodeid)
        return attrs if mode == before and attrs.mode is None else attrs._replace(mode=mode)
