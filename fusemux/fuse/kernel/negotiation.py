"""INIT: what the kernel offers, what this mount wants, and what both then keep to.

The kernel names its version and its flags; we answer with the lower version and those of its flags that we use.  What
each flag is for stands in `_WANTED`, with the reason; what is left out on purpose in `_LEFT_OUT`.  Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel.protocol import InitFlag
from fusemux.fuse.kernel.requests import InitRequest
from fusemux.graph.framework.errors import FusemuxError

__all__ = ["Agreement", "Wishes", "negotiate", "reply", "reply_other_major"]

PAGE = 4096
_MAX_BACKGROUND = 64  # requests of read-ahead under way at once; the kernel's default is 12
_CONGESTION = 48

_WANTED = (
    InitFlag.ASYNC_READ  # several read-ahead requests of one file at a time
    | InitFlag.BIG_WRITES
    | InitFlag.MAX_PAGES  # requests of more than 32 pages
    | InitFlag.ATOMIC_O_TRUNC  # open with O_TRUNC is one request instead of two
    | InitFlag.EXPORT_SUPPORT  # file handles: lookups of `.` and `..` by node id
    | InitFlag.PARALLEL_DIROPS  # lookups and readdirs of one directory side by side
    | InitFlag.DO_READDIRPLUS
    | InitFlag.READDIRPLUS_AUTO  # attributes with names only while somebody asks for them
    | InitFlag.HANDLE_KILLPRIV_V2  # or each write(2) would first ask for security.capability
    | InitFlag.ABORT_ERROR  # an abort by fusectl is told from an unmount
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.EXPLICIT_INVAL_DATA  # a changed mtime alone does not empty the page cache: we say when it is stale
    | InitFlag.SETXATTR_EXT
    | InitFlag.INIT_EXT
    | InitFlag.NO_OPEN_SUPPORT  # offered by the kernel, taken only by answering ENOSYS
    | InitFlag.NO_OPENDIR_SUPPORT
    | InitFlag.HAS_EXPIRE_ONLY
    | InitFlag.DIRECT_IO_ALLOW_MMAP
)
# Only for volumes that are mounted several times: POSIX_LOCKS and FLOCK_LOCKS (otherwise the kernel keeps locks, which costs
# no request), AUTO_INVAL_DATA.  Not taken: ASYNC_DIO (pages that are read while such a write is under way stay in the page
# cache as they were before it), SPLICE_* (Python has no vmsplice), SECURITY_CTX
# and CREATE_SUPP_GROUP (bytes in every create that nobody reads), SUBMOUNTS, HAS_INODE_DAX, MAP_ALIGNMENT (virtiofs),
# HAS_RESEND (a server that dies takes its volume with it), ALLOW_IDMAP, OVER_IO_URING, REQUEST_TIMEOUT.


@dataclass(frozen=True)
class Wishes:
    """What one mount asks for."""

    max_write: int = 1 << 20
    writeback_cache: bool = False
    posix_acl: bool = False  # the bridge applies default ACLs and the umask itself
    passthrough: bool = False  # unless the kernel gathers writes
    shared: bool = False  # others change the volume, too: what has changed is looked at again
    locks: bool = False  # POSIX and flock locks come to us: the bricks are shared with others
    readdirplus: str = "auto"  # auto, always, never


@dataclass(frozen=True)
class Agreement:
    """What was agreed."""

    minor: int
    flags: InitFlag
    max_write: int
    max_readahead: int

    @property
    def max_pages(self) -> int:
        return self.max_write // PAGE

    def has(self, flag: InitFlag) -> bool:
        return bool(self.flags & flag)


def negotiate(request: InitRequest, wishes: Wishes) -> Agreement:
    """Decide.  Raises FusemuxError when the kernel's protocol is too old."""
    if request.major != p.MAJOR or request.minor < p.MINOR_MIN:
        raise FusemuxError(
            f"the kernel speaks FUSE {request.major}.{request.minor}, this needs {p.MAJOR}.{p.MINOR_MIN} (Linux 5.4); "
            "use a newer kernel or binding=pyfuse3"
        )
    wanted = _WANTED
    if wishes.posix_acl:
        wanted |= InitFlag.POSIX_ACL | InitFlag.DONT_MASK
    if wishes.writeback_cache:
        wanted |= InitFlag.WRITEBACK_CACHE
    elif wishes.passthrough:  # the kernel does not combine the two
        wanted |= InitFlag.PASSTHROUGH
    if wishes.shared:
        wanted ^= InitFlag.EXPLICIT_INVAL_DATA | InitFlag.AUTO_INVAL_DATA
    if wishes.locks:
        wanted |= InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS
    if wishes.readdirplus == "never":
        wanted &= ~(InitFlag.DO_READDIRPLUS | InitFlag.READDIRPLUS_AUTO)
    elif wishes.readdirplus == "always":
        wanted &= ~InitFlag.READDIRPLUS_AUTO
    flags = wanted & InitFlag(request.flags)
    max_write = max(PAGE, wishes.max_write // PAGE * PAGE)
    if not flags & InitFlag.MAX_PAGES:
        max_write = min(max_write, 32 * PAGE)
    return Agreement(min(request.minor, p.MINOR), flags, max_write, max(request.max_readahead, max_write))


def reply(unique: int, agreement: Agreement) -> bytes:
    """The answer that seals the agreement."""
    flags = int(agreement.flags)
    return p.INIT.pack(
        p.INIT.size, 0, unique, p.MAJOR, agreement.minor, agreement.max_readahead, flags & 0xFFFFFFFF,
        _MAX_BACKGROUND, _CONGESTION, agreement.max_write, 1, agreement.max_pages, 0, flags >> 32,
        1 if agreement.has(InitFlag.PASSTHROUGH) else 0, 0,
    )  # fmt: skip


def reply_other_major(unique: int) -> bytes:
    """To a newer major version: name ours; the kernel then sends a second INIT that speaks it."""
    return p.INIT.pack(p.INIT.size, 0, unique, p.MAJOR, p.MINOR, *[0] * 11)
