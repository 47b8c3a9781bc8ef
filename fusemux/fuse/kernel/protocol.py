"""The FUSE kernel protocol, 7.31 to 7.45, as tables: opcodes, flags, and the layout of every message.

A request is an `in` header, the fixed part of its opcode, then names (each ends with a NUL) or a payload.  A
reply is an `out` header, then a fixed part or a payload.  All numbers are in the machine's byte order; every fixed part is
padded by hand to 8 bytes, so no layout here needs alignment (`=`).  Layouts of replies include the `out` header:
one `pack` makes the whole message.

Source: linux/fuse.h of Linux 5.4 (7.31) to 6.18 (7.45).  Pure: no I/O here.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct

__all__ = [
    "ATTR", "BLOCK", "BODIES", "ERROR", "HEADER", "MAJOR", "MINOR", "MINOR_MIN", "ROOT_ID",
    "Backing", "InitFlag", "Notify", "Opcode", "OpenFlag", "SetAttrValid",
]  # fmt: skip

MAJOR = 7
MINOR = 45  # the newest these tables know; the kernel adapts to a lower one
MINOR_MIN = 31
ROOT_ID = 1
READ_BUFFER_MIN = 8192


class Opcode(IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


class InitFlag(IntFlag):
    """What INIT negotiates; bits 32 and up travel in `flags2`."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    FILE_OPS = 1 << 2
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    SPLICE_WRITE = 1 << 7
    SPLICE_MOVE = 1 << 8
    SPLICE_READ = 1 << 9
    FLOCK_LOCKS = 1 << 10
    HAS_IOCTL_DIR = 1 << 11
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    MAP_ALIGNMENT = 1 << 26
    SUBMOUNTS = 1 << 27
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    SECURITY_CTX = 1 << 32
    HAS_INODE_DAX = 1 << 33
    CREATE_SUPP_GROUP = 1 << 34
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    NO_EXPORT_SUPPORT = 1 << 38
    HAS_RESEND = 1 << 39
    ALLOW_IDMAP = 1 << 40
    OVER_IO_URING = 1 << 41
    REQUEST_TIMEOUT = 1 << 42


class OpenFlag(IntFlag):
    """How the kernel treats one open file or directory (FOPEN_*)."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NONSEEKABLE = 1 << 2
    CACHE_DIR = 1 << 3
    STREAM = 1 << 4
    NOFLUSH = 1 << 5
    PARALLEL_DIRECT_WRITES = 1 << 6
    PASSTHROUGH = 1 << 7


class SetAttrValid(IntFlag):
    """Which fields of a SETATTR request count (FATTR_*)."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    LOCKOWNER = 1 << 9
    CTIME = 1 << 10
    KILL_SUIDGID = 1 << 11


class Notify(IntEnum):
    """What we may tell the kernel without being asked; stands in the error field of an `out` header."""

    POLL = 1
    INVAL_INODE = 2
    INVAL_ENTRY = 3
    STORE = 4
    RETRIEVE = 5
    DELETE = 6
    RESEND = 7
    INC_EPOCH = 8  # 7.44
    PRUNE = 9  # 7.45


class Backing(IntEnum):
    """ioctl(2) requests on /dev/fuse for passthrough: _IOW(229, 1, fuse_backing_map), _IOW(229, 2, u32)."""

    OPEN = 0x4010E501
    CLOSE = 0x4004E502


GETATTR_FH = 1
SETXATTR_ACL_KILL_SGID = 1
WRITE_KILL_SUIDGID = 1 << 2
OPEN_KILL_SUIDGID = 1
FSYNC_DATASYNC = 1
LK_FLOCK = 1
EXPIRE_ONLY = 1
STATX_BASIC_STATS = 0x7FF

# Requests -----------------------------------------------------------------------------------------------------

HEADER = Struct("=IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, extension (8 bytes each), padding
BODY = HEADER.size  # where the fixed part begins

# The fixed part of each request; what is not here has none.  `x` is padding, values nobody reads included.
BODIES: dict[Opcode, Struct] = {
    opcode: Struct("=" + layout)
    for opcode, layout in {
        Opcode.FORGET: "Q",  # nlookup
        Opcode.GETATTR: "I4xQ",  # flags, fh
        Opcode.SETATTR: "I4xQQQqqqIIII4xII4x",
        # valid, fh, size, lock_owner, atime, mtime, ctime, their ns, mode, uid, gid
        Opcode.MKNOD: "III4x",  # mode, rdev, umask
        Opcode.MKDIR: "II",  # mode, umask
        Opcode.RENAME: "Q",  # newdir
        Opcode.RENAME2: "QI4x",  # newdir, flags
        Opcode.LINK: "Q",  # oldnodeid
        Opcode.OPEN: "II",  # flags, open_flags
        Opcode.OPENDIR: "II",
        Opcode.CREATE: "IIII",  # flags, mode, umask, open_flags
        Opcode.TMPFILE: "IIII",
        Opcode.READ: "QQIIQI4x",  # fh, offset, size, read_flags, lock_owner, flags
        Opcode.READDIR: "QQIIQI4x",
        Opcode.READDIRPLUS: "QQIIQI4x",
        Opcode.WRITE: "QQIIQI4x",  # fh, offset, size, write_flags, lock_owner, flags
        Opcode.RELEASE: "QIIQ",  # fh, flags, release_flags, lock_owner
        Opcode.RELEASEDIR: "QIIQ",
        Opcode.FLUSH: "Q8xQ",  # fh, lock_owner
        Opcode.FSYNC: "QI4x",  # fh, fsync_flags
        Opcode.FSYNCDIR: "QI4x",
        Opcode.SETXATTR: "IIII",  # size, flags, setxattr_flags, padding (SETXATTR_EXT)
        Opcode.GETXATTR: "I4x",  # size
        Opcode.LISTXATTR: "I4x",
        Opcode.GETLK: "QQQQIII4x",  # fh, owner, start, end, type, pid, lk_flags
        Opcode.SETLK: "QQQQIII4x",
        Opcode.SETLKW: "QQQQIII4x",
        Opcode.ACCESS: "I4x",  # mask
        Opcode.INIT: "IIII",  # major, minor, max_readahead, flags (then flags2 when INIT_EXT)
        Opcode.INTERRUPT: "Q",  # unique
        Opcode.BMAP: "QI4x",  # block, blocksize
        Opcode.IOCTL: "QIIQII",  # fh, flags, cmd, arg, in_size, out_size
        Opcode.POLL: "QQII",  # fh, kh, flags, events
        Opcode.BATCH_FORGET: "I4x",  # count
        Opcode.FALLOCATE: "QQQI4x",  # fh, offset, length, mode
        Opcode.LSEEK: "QqI4x",  # fh, offset (negative ones are not caught by the kernel), whence
        Opcode.COPY_FILE_RANGE: "QQQQQQQ",  # fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
        Opcode.COPY_FILE_RANGE_64: "QQQQQQQ",
        Opcode.SYNCFS: "8x",
        Opcode.STATX: "I4xQII",  # getattr_flags, fh, sx_flags, sx_mask
    }.items()
}
FORGET_ONE = Struct("=QQ")  # nodeid, nlookup; repeated in BATCH_FORGET
INIT_FLAGS2 = Struct("=I")  # after the fixed part of INIT
INIT_EXT_SIZE = 64

# Replies and notifications ------------------------------------------------------------------------------------

# ino, size, blocks, atime, mtime, ctime, their ns, mode, nlink, uid, gid, rdev, blksize, flags
ATTR = "QQQqqqIIIIIIIIII"
_OUT = "=IiQ"  # len, error (negative) or notification, unique

ERROR = Struct(_OUT)
ENTRY = Struct(_OUT + "QQQQII" + ATTR)  # nodeid, generation, entry_valid, attr_valid, their ns, attr
CREATED = Struct(_OUT + "QQQQII" + ATTR + "QIi")  # an ENTRY, then an OPENED
ATTRIBUTES = Struct(_OUT + "QI4x" + ATTR)  # attr_valid, its ns, attr
OPENED = Struct(_OUT + "QIi")  # fh, open_flags, backing_id
WRITTEN = Struct(_OUT + "I4x")  # size
XATTR_SIZE = Struct(_OUT + "I4x")
STATFS = Struct(_OUT + "QQQQQIII28x")  # blocks, bfree, bavail, files, ffree, bsize, namelen, frsize
LOCK = Struct(_OUT + "QQII")  # start, end, type, pid
OFFSET = Struct(_OUT + "Q")  # LSEEK, COPY_FILE_RANGE_64
BLOCK = Struct(_OUT + "Q")  # BMAP
INIT = Struct(_OUT + "IIIIHHIIHHIIH22x")
# major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran, max_pages,
# map_alignment, flags2, max_stack_depth, request_timeout
_TIME = "qI4x"
STATX = Struct(_OUT + "QII16x" + "IIQIIIH2xQQQQ" + 4 * _TIME + "IIII112x")
# attr_valid, its ns, flags; mask, blksize, attributes, nlink, uid, gid, mode, ino, size, blocks, attributes_mask,
# atime, btime, ctime, mtime, rdev, dev

DIRENT = Struct("=QQII")  # ino, off, namelen, type; then the name, padded to 8 bytes
DIRENT_PLUS = Struct("=QQQQII" + ATTR + "QQII")  # an entry without header, then a DIRENT

NOTIFY_INVAL_INODE = Struct(_OUT + "Qqq")  # nodeid, offset, length
NOTIFY_INVAL_ENTRY = Struct(_OUT + "QII")  # parent, namelen, flags; then the name and a NUL
NOTIFY_PRUNE = Struct(_OUT + "I12x")  # count; then nodeids
BACKING_MAP = Struct("=iI8x")  # fd, flags
