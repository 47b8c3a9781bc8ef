"""The fops: every file operation of the graph, declared once.

A fop is an `async def` method of a translator, named like the fop, called as

    await child.writev(frame, fd, data, offset, xdata)

`frame` always comes first and `xdata` always last (None unless somebody asks for something).  From this one
table come linking, the contract checks of strict mode, tracing, fault injection, statistics and the docs.

Where GlusterFS has a path form and an fd form of the same operation (stat/fstat, truncate/ftruncate, ...) one
fop takes either target; discard and zerofill are modes of `fallocate`, as they are in fallocate(2); fsyncdir is
`fsync` of a directory; readdirp is `readdir` with `plus`.  Parents' attributes are not part of the
replies: nothing here needs them, and they cost two stats a call on each brick.

Source of names and meaning: POSIX, and GlusterFS's fop list (design facts, section 6).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

__all__ = ["FOPS", "FOP_NAMES", "Arg", "Class", "Fop", "Kind", "Reply", "fops_named"]


class Kind(Enum):
    """What an argument is."""

    INODE = "inode"  # an Inode (never None)
    INODE_OR_NONE = "inode?"  # a hint: the Inode of a name, when the caller knows it
    FD = "fd"
    TARGET = "target"  # an Inode or an Fd
    NAME = "name"  # bytes, one path component, at most 255, no '/' and no NUL
    GFID = "gfid"  # 16 bytes, chosen by the client
    INT = "int"
    BOOL = "bool"
    BYTES = "bytes"  # any bytes-like object; the callee must not keep it beyond the call
    XATTR_NAME = "xattr name"  # bytes
    XATTR_NAME_OR_NONE = "xattr name?"  # None: all of them
    XATTRS = "xattrs"  # a mapping of bytes to bytes
    SETATTR = "setattr"
    FLOCK = "flock"
    TEXT = "text"


class Reply(Enum):
    """What a fop returns when it succeeds.  When it does not, it raises FopError."""

    IATT = "Iatt"
    NONE = "None"
    COUNT = "int"
    DATA = "bytes-like"
    ENTRIES = "list[DirEntry]"
    STATVFS = "StatVfs"
    XATTRS = "Mapping[bytes, bytes]"
    FLOCK = "Flock"
    CHECKSUM = "tuple[int, bytes]"


class Class(Enum):
    """What a fop does to the volume; decides dispatch in cluster translators and queueing priority."""

    READ = "read"
    WRITE = "write"  # a file's data
    ENTRY = "entry"  # a directory's names
    METADATA = "metadata"
    LOCK = "lock"
    HANDLE = "handle"  # opens, flushes and closes


class Arg(NamedTuple):
    name: str
    kind: Kind


class Fop(NamedTuple):
    name: str
    args: tuple[Arg, ...]  # between frame and xdata
    reply: Reply
    kind: Class
    idempotent: bool  # repeating it after a lost answer changes nothing
    doc: str

    @property
    def changes(self) -> bool:
        """Whether it changes what is stored."""
        return self.kind in (Class.WRITE, Class.ENTRY, Class.METADATA)

    @property
    def by_name(self) -> bool:
        """Whether it is about a name in a directory, so that "no such file" means that name."""
        return any(arg.kind is Kind.NAME for arg in self.args)


def _fop(name: str, args: str, reply: Reply, kind: Class, doc: str, *, idempotent: bool = True) -> Fop:
    parsed = tuple(
        Arg(*(left, Kind(right))) for left, _, right in (word.partition(":") for word in args.split(", ") if word)
    )
    return Fop(name, parsed, reply, kind, idempotent, doc)


_R, _C = Reply, Class
_TABLE = (
    _fop("lookup", "inode:inode, name:name", _R.IATT, _C.READ,
         "Attributes of `name` in directory `inode`; with name b'' those of `inode` itself."),
    _fop("stat", "target:target", _R.IATT, _C.READ, "Attributes."),
    _fop("readlink", "inode:inode", _R.DATA, _C.READ, "The text of a symbolic link."),
    _fop("readv", "fd:fd, size:int, offset:int", _R.DATA, _C.READ, "Up to `size` bytes; shorter only at end of file."),
    _fop("readdir", "fd:fd, count:int, offset:int, plus:bool", _R.ENTRIES, _C.READ,
         "At most `count` entries after `offset` (0: from the start), without `.` and `..`; empty at the end. "
         "With `plus` every entry carries its Iatt where it is known."),
    _fop("statfs", "inode:inode", _R.STATVFS, _C.READ, "Space and inodes."),
    _fop("getxattr", "target:target, name:xattr name?", _R.XATTRS, _C.READ,
         "One xattr (ENODATA when absent), or all of them with None."),
    _fop("seek", "fd:fd, offset:int, whence:int", _R.COUNT, _C.READ, "SEEK_DATA or SEEK_HOLE; ENXIO past the end."),
    _fop("rchecksum", "fd:fd, offset:int, length:int", _R.CHECKSUM, _C.READ,
         "Weak (Adler-like) and strong (SHA-256) checksum of a block, computed where the data lies."),

    _fop("open", "inode:inode, flags:int, fd:fd", _R.NONE, _C.HANDLE, "Bind `fd` on the bricks that hold the file."),
    _fop("opendir", "inode:inode, fd:fd", _R.NONE, _C.HANDLE, "Bind a directory's `fd`."),
    _fop("flush", "fd:fd", _R.NONE, _C.HANDLE, "Every close(2): report what can still go wrong."),
    _fop("release", "fd:fd", _R.NONE, _C.HANDLE, "The last reference to `fd` is gone.  Never fails."),
    _fop("fsync", "fd:fd, datasync:bool", _R.NONE, _C.HANDLE, "Files and directories alike."),
    _fop("syncfs", "inode:inode", _R.NONE, _C.HANDLE, "Everything acknowledged so far is on stable storage."),

    _fop("create", "parent:inode, name:name, flags:int, mode:int, gfid:gfid, fd:fd", _R.IATT, _C.ENTRY,
         "A new regular file, opened as `fd`; EEXIST when the name is taken (O_EXCL or not).", idempotent=False),
    _fop("tmpfile", "parent:inode, flags:int, mode:int, gfid:gfid, fd:fd", _R.IATT, _C.ENTRY,
         "O_TMPFILE: a file without a name, opened as `fd`.", idempotent=False),
    _fop("mknod", "parent:inode, name:name, mode:int, rdev:int, gfid:gfid", _R.IATT, _C.ENTRY,
         "A file of any type but directory and symbolic link.", idempotent=False),
    _fop("mkdir", "parent:inode, name:name, mode:int, gfid:gfid", _R.IATT, _C.ENTRY, "A directory.", idempotent=False),
    _fop("symlink", "parent:inode, name:name, text:bytes, gfid:gfid", _R.IATT, _C.ENTRY, "A symbolic link.",
         idempotent=False),
    _fop("link", "inode:inode, parent:inode, name:name", _R.IATT, _C.ENTRY, "Another name for `inode`.", idempotent=False),
    _fop("unlink", "parent:inode, name:name, inode:inode", _R.NONE, _C.ENTRY,
         "Remove a name; `inode` is what it refers to.", idempotent=False),
    _fop("rmdir", "parent:inode, name:name, inode:inode", _R.NONE, _C.ENTRY, "Remove an empty directory.", idempotent=False),
    _fop("rename", "parent:inode, name:name, newparent:inode, newname:name, inode:inode, replaced:inode?, flags:int",
         _R.IATT, _C.ENTRY, "renameat2(2); `inode` is what moves, `replaced` what lies at the new name.  "
         "Flags: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2.", idempotent=False),

    _fop("writev", "fd:fd, data:bytes, offset:int", _R.COUNT, _C.WRITE, "Bytes written: all of them, or an error."),
    _fop("truncate", "target:target, size:int", _R.IATT, _C.WRITE, "Set the size."),
    _fop("fallocate", "fd:fd, mode:int, offset:int, length:int", _R.IATT, _C.WRITE,
         "fallocate(2); modes a brick cannot do answer EOPNOTSUPP."),
    _fop("copy_file_range", "fd:fd, offset:int, fd_out:fd, offset_out:int, length:int, flags:int", _R.COUNT, _C.WRITE,
         "Copy inside the volume; EXDEV when the two files do not lie together."),

    _fop("setattr", "target:target, attrs:setattr", _R.IATT, _C.METADATA, "Mode, owner, times."),
    _fop("setxattr", "target:target, xattrs:xattrs, flags:int", _R.NONE, _C.METADATA, "XATTR_CREATE 1, XATTR_REPLACE 2."),
    _fop("removexattr", "target:target, name:xattr name", _R.NONE, _C.METADATA, "ENODATA when absent."),
    _fop("xattrop", "target:target, op:int, xattrs:xattrs", _R.XATTRS, _C.METADATA,
         "Atomic arithmetic on counters kept in xattrs; answers the resulting values.", idempotent=False),

    _fop("lk", "fd:fd, cmd:int, flock:flock", _R.FLOCK, _C.LOCK, "fcntl(2) record locks: F_GETLK, F_SETLK, F_SETLKW."),
    _fop("inodelk", "domain:text, target:target, cmd:int, flock:flock", _R.NONE, _C.LOCK,
         "An internal range lock in `domain`."),
    _fop("entrylk", "domain:text, inode:inode, name:name, cmd:int, type:int", _R.NONE, _C.LOCK,
         "An internal lock on a name (b'': on all names) of a directory in `domain`."),
)  # fmt: skip

FOPS: dict[str, Fop] = {fop.name: fop for fop in _TABLE}
FOP_NAMES: tuple[str, ...] = tuple(FOPS)

# GlusterFS's names for the forms that are one fop here, as they stand in the options of volfiles.
_GLUSTERFS_NAMES = {
    **{f"f{name}": name for name in ("stat", "truncate", "setxattr", "getxattr", "removexattr", "setattr", "xattrop")},
    **{f"f{name}": name for name in ("inodelk", "entrylk")},
    "fsyncdir": "fsync", "readdirp": "readdir", "discard": "fallocate", "zerofill": "fallocate",
    "read": "readv", "write": "writev",
}  # fmt: skip


def fops_named(words: Iterable[str]) -> frozenset[str]:
    """The fops that `words` mean, by our names or GlusterFS's, in any case.  Raises ValueError for an unknown one."""
    found = set()
    for word in words:
        name = word.strip().lower()
        name = _GLUSTERFS_NAMES.get(name, name)
        if name not in FOPS:
            raise ValueError(f"there is no fop {word!r}")
        found.add(name)
    return frozenset(found)
