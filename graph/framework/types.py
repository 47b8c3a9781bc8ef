"""The values that travel through the graph: attributes, directory entries, the caller of a fop.

All of them are immutable once they have been handed on, so no translator can change what another one
sees and nothing needs a lock.  `Iatt` is a plain tuple underneath because one is made for nearly every
reply: `Iatt._make((...))` or `tuple.__new__(Iatt, (...))` costs a third of a microsecond.

Units: times are nanoseconds since the epoch, sizes are bytes, `blocks` are 512 bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

__all__ = [
    "DIRECTORY_BLOCKS", "DIRECTORY_SIZE", "EVERY_NAME", "ROOT_GFID", "DirEntry", "Flock", "Frame", "Iatt", "SetAttr", "StatVfs", "Xdata", "gfid_text", "ino_of",
]  # fmt: skip

# Optional requests and answers: an immutable mapping, or None on the common path.  Keys are bytes; a key that
# is an xattr's name asks for that xattr (value None) in a request and carries its raw bytes in an answer.
Xdata = Mapping[bytes, Any] | None

ROOT_GFID = bytes(15) + b"\x01"

# In a readdir's xdata: every name that a lookup might find, from whatever copy or subvolume and as often as there are
# such.  Listings show less: of copies that are not healed yet one, of a directory what the subvolume has that its name hashes to.
EVERY_NAME = b"fusemux.every-name"

# What every directory shows, wherever and on however many bricks it is (GlusterFS's distribute does so).
DIRECTORY_SIZE, DIRECTORY_BLOCKS = 4096, 8


def ino_of(gfid: bytes) -> int:
    """The inode number of a gfid: its bytes 8..15, big-endian (GlusterFS; the root's is 1)."""
    return int.from_bytes(gfid[8:], "big")


@lru_cache(maxsize=1024)  # the copies of a file are changed one right after the other
def gfid_text(gfid: bytes) -> str:
    """A gfid in its canonical form, 8-4-4-4-12 lower-case hex digits."""
    h = gfid.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


class Iatt(NamedTuple):
    """Attributes of one inode, and in `xdata` whatever else the request asked for."""

    gfid: bytes
    mode: int  # type and permissions, as st_mode
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    blksize: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    xdata: Xdata = None

    @property
    def ino(self) -> int:
        return int.from_bytes(self.gfid[8:], "big")

    @property
    def type(self) -> int:
        return self.mode & 0o170000

    @property
    def is_dir(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFDIR


class SetAttr(NamedTuple):
    """What `setattr` shall change; None leaves a field as it is.  The size has a fop of its own: truncate."""

    mode: int | None = None  # permission bits, 0..0o7777
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None  # only the kernel's writeback cache and healing set it


class DirEntry(NamedTuple):
    """One name of a directory.  `offset` resumes *after* this entry; `type` is S_IFMT bits or 0."""

    name: bytes
    offset: int
    ino: int
    type: int
    iatt: Iatt | None = None


class StatVfs(NamedTuple):
    """statvfs(3): counts are in units of `frsize` bytes."""

    bsize: int
    frsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    favail: int
    namemax: int = 255


class Flock(NamedTuple):
    """A POSIX record lock: `length` 0 reaches to the end of file; `type` is F_RDLCK, F_WRLCK or F_UNLCK.

    `is_flock`: one of flock(2), which knows nothing of record locks, nor they of it.
    """

    type: int
    start: int
    length: int
    pid: int = 0
    owner: int = 0
    is_flock: bool = False


class Frame:
    """Who calls and when: one for each request, handed unchanged to every fop that serves it.

    `time_ns` is stamped once by features/utime, so that all copies record the same times; 0 means that
    the bricks keep the times of their backing store.  A negative `pid` marks an internal caller
    (GlusterFS: -3 rebalance, -6 self-heal), which reserves and quotas do not stop.
    """

    __slots__ = ("gid", "lk_owner", "pid", "time_ns", "uid", "umask")

    def __init__(self, uid: int = 0, gid: int = 0, pid: int = 0, umask: int = 0) -> None:
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.umask = umask
        self.lk_owner = 0
        self.time_ns = 0
