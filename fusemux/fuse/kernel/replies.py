"""Putting replies and notifications together: each function returns one whole message, header included.

A reply that carries a payload (READ, READLINK, ...) is a pair (header, payload), which the channel hands to writev(2)
as it is.  Times are nanoseconds; timeouts are seconds, `inf` for ever.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

from fusemux.fuse.kernel import protocol as p
from fusemux.graph.framework.types import DIRECTORY_BLOCKS, DIRECTORY_SIZE, ROOT_GFID, DirEntry, Iatt, StatVfs

__all__ = [
    "NOTHING",
    "ROOT",
    "Validity",
    "attributes",
    "created",
    "entry",
    "error",
    "negative",
    "opened",
    "validity",
    "with_payload",
]

_G = 1_000_000_000
_FOREVER_S = 1 << 40  # far beyond what the kernel's jiffies hold, far below where adding to them would wrap

_ERROR = p.ERROR.pack
_ENTRY = p.ENTRY.pack
_CREATED = p.CREATED.pack
_ATTRIBUTES = p.ATTRIBUTES.pack
_OPENED = p.OPENED.pack
_ENTRY_SIZE = p.ENTRY.size
_CREATED_SIZE = p.CREATED.size
_ATTRIBUTES_SIZE = p.ATTRIBUTES.size
_OPENED_SIZE = p.OPENED.size


# What revoking.py is answered: attributes of no file, as they are of no type; and any that a root might have.
NOTHING = Iatt(bytes(16), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None)
ROOT = Iatt(ROOT_GFID, 0o040755, 2, 0, 0, 0, DIRECTORY_SIZE, DIRECTORY_BLOCKS, 4096, 0, 0, 0, None)


class Validity(NamedTuple):
    """How long the kernel may believe an entry and attributes: seconds and nanoseconds of each."""

    entry_s: int
    attr_s: int
    entry_ns: int
    attr_ns: int


def _timeout(seconds: float) -> tuple[int, int]:
    if math.isinf(seconds) or seconds >= _FOREVER_S:
        return _FOREVER_S, 0
    whole = int(max(0.0, seconds))
    return whole, int((max(0.0, seconds) - whole) * _G)


def validity(entry_timeout: float, attr_timeout: float) -> Validity:
    entry_s, entry_ns = _timeout(entry_timeout)
    attr_s, attr_ns = _timeout(attr_timeout)
    return Validity(entry_s, attr_s, entry_ns, attr_ns)


def error(unique: int, errno: int) -> bytes:
    """A reply without a body: `errno` 0 for success."""
    return _ERROR(16, -errno, unique)


def with_payload(unique: int, payload: bytes | memoryview) -> tuple[bytes, bytes | memoryview]:
    return _ERROR(16 + len(payload), 0, unique), payload


def entry(unique: int, nodeid: int, iatt: Iatt, valid: Validity, generation: int = 0) -> bytes:
    """The answer of LOOKUP, MKNOD, MKDIR, SYMLINK, LINK."""
    _, mode, nlink, uid, gid, rdev, size, blocks, blksize, atime, mtime, ctime, _ = iatt
    return _ENTRY(
        _ENTRY_SIZE, 0, unique, nodeid, generation, *valid,
        nodeid, size, blocks, atime // _G, mtime // _G, ctime // _G, atime % _G, mtime % _G, ctime % _G,
        mode, nlink, uid, gid, rdev & 0xFFFFFFFF, blksize, 0,
    )  # fmt: skip


def negative(unique: int, valid: Validity) -> bytes:
    """The answer of LOOKUP for a name that does not exist, to be remembered by the kernel."""
    return _ENTRY(_ENTRY_SIZE, 0, unique, 0, 0, *valid, *[0] * 16)


def created(
    unique: int,
    nodeid: int,
    iatt: Iatt,
    valid: Validity,
    fh: int,
    open_flags: int,
    backing: int = 0,
    generation: int = 0,
) -> bytes:
    """The answer of CREATE and TMPFILE."""
    _, mode, nlink, uid, gid, rdev, size, blocks, blksize, atime, mtime, ctime, _ = iatt
    return _CREATED(
        _CREATED_SIZE, 0, unique, nodeid, generation, *valid,
        nodeid, size, blocks, atime // _G, mtime // _G, ctime // _G, atime % _G, mtime % _G, ctime % _G,
        mode, nlink, uid, gid, rdev & 0xFFFFFFFF, blksize, 0, fh, open_flags, backing,
    )  # fmt: skip


def attributes(unique: int, nodeid: int, iatt: Iatt, valid: Validity) -> bytes:
    """The answer of GETATTR and SETATTR."""
    _, mode, nlink, uid, gid, rdev, size, blocks, blksize, atime, mtime, ctime, _ = iatt
    return _ATTRIBUTES(
        _ATTRIBUTES_SIZE, 0, unique, valid[1], valid[3],
        nodeid, size, blocks, atime // _G, mtime // _G, ctime // _G, atime % _G, mtime % _G, ctime % _G,
        mode, nlink, uid, gid, rdev & 0xFFFFFFFF, blksize, 0,
    )  # fmt: skip


def statx(unique: int, nodeid: int, iatt: Iatt, valid: Validity) -> bytes:
    """The answer of STATX: what stat(2) knows; the mask says that no birth time is among it."""
    _, mode, nlink, uid, gid, rdev, size, blocks, blksize, atime, mtime, ctime, _ = iatt
    major = rdev >> 8 & 0xFFF
    minor = rdev & 0xFF | rdev >> 12 & 0xFFF00
    return p.STATX.pack(
        p.STATX.size, 0, unique, valid[1], valid[3], 0, p.STATX_BASIC_STATS,
        blksize, 0, nlink, uid, gid, mode, nodeid, size, blocks, 0,
        atime // _G, atime % _G, 0, 0, ctime // _G, ctime % _G, mtime // _G, mtime % _G, major, minor, 0, 0,
    )  # fmt: skip


def opened(unique: int, fh: int, open_flags: int, backing: int = 0) -> bytes:
    return _OPENED(_OPENED_SIZE, 0, unique, fh, open_flags, backing)


def statfs(unique: int, st: StatVfs) -> bytes:
    return p.STATFS.pack(
        p.STATFS.size, 0, unique, st.blocks, st.bfree, st.bavail, st.files, st.ffree, st.bsize, st.namemax, st.frsize
    )


def dirent(item: DirEntry) -> bytes:
    """One record of READDIR."""
    name = item.name
    return p.DIRENT.pack(item.ino, item.offset, len(name), item.type >> 12) + name + bytes(-len(name) % 8)


def dirent_size(name: bytes, plus: bool) -> int:
    return (p.DIRENT_PLUS.size if plus else p.DIRENT.size) + (len(name) + 7 & ~7)


def dirent_plus(item: DirEntry, nodeid: int, valid: Validity, generation: int = 0) -> bytes:
    """One record of READDIRPLUS; node id 0 where the kernel shall look the name up itself (`.`, `..`, unknown)."""
    name = item.name
    tail = (item.ino, item.offset, len(name), item.type >> 12)
    if nodeid and item.iatt is not None:
        _, mode, nlink, uid, gid, rdev, size, blocks, blksize, atime, mtime, ctime, _ = item.iatt
        record = p.DIRENT_PLUS.pack(
            nodeid, generation, *valid,
            nodeid, size, blocks, atime // _G, mtime // _G, ctime // _G, atime % _G, mtime % _G, ctime % _G,
            mode, nlink, uid, gid, rdev & 0xFFFFFFFF, blksize, 0, *tail,
        )  # fmt: skip
    else:
        record = p.DIRENT_PLUS.pack(0, 0, 0, 0, 0, 0, item.ino, *[0] * 8, item.type, *[0] * 6, *tail)
    return record + name + bytes(-len(name) % 8)


# Notifications --------------------------------------------------------------------------------------------------


def inval_inode(nodeid: int, offset: int = 0, length: int = 0) -> bytes:
    """Forget cached attributes and data from `offset` (length 0: to the end); a negative offset: attributes only."""
    message = p.NOTIFY_INVAL_INODE
    return message.pack(message.size, p.Notify.INVAL_INODE, 0, nodeid, offset, length)


def inval_entry(parent: int, name: bytes, *, expire_only: bool = False) -> bytes:
    size = p.NOTIFY_INVAL_ENTRY.size + len(name) + 1
    flags = p.EXPIRE_ONLY if expire_only else 0
    return p.NOTIFY_INVAL_ENTRY.pack(size, p.Notify.INVAL_ENTRY, 0, parent, len(name), flags) + name + b"\0"


def prune(nodeids: Sequence[int]) -> bytes:
    """Drop these nodes from the kernel's caches where nobody uses them (7.45)."""
    size = p.NOTIFY_PRUNE.size + 8 * len(nodeids)
    return p.NOTIFY_PRUNE.pack(size, p.Notify.PRUNE, 0, len(nodeids)) + b"".join(
        n.to_bytes(8, sys.byteorder) for n in nodeids
    )
