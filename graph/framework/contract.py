"""Strict mode: every edge checks that both sides keep the fop table's contract.

The caller must pass what the table says; the callee must return the reply type of the table or raise a `FopError`
with an errno.  A violation is a bug in a translator, so it raises AssertionError, which names the edge.
Cancellation must pass through: a callee that returns a reply after its scope was cancelled has swallowed it
only if it never reached a checkpoint again, which cannot be seen from here; what can be seen, a translator that turns
`trio.Cancelled` into a `FopError`, is.
"""

from __future__ import annotations

import errno as errno_names
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import trio

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fops import Fop, Kind, Reply
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import DirEntry, Flock, Frame, Iatt, SetAttr, StatVfs

if TYPE_CHECKING:
    from fusemux.graph.framework.linking import Edge

__all__ = ["checked"]


def _buffer(value: Any) -> bool:
    return isinstance(value, bytes | bytearray | memoryview)


def _name(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) <= 255 and b"/" not in value and b"\0" not in value


def _xattrs(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, bytes) and _buffer(v) for k, v in value.items())


_ARGUMENT: dict[Kind, Callable[[Any], bool]] = {
    Kind.INODE: lambda v: isinstance(v, Inode),
    Kind.INODE_OR_NONE: lambda v: v is None or isinstance(v, Inode),
    Kind.FD: lambda v: isinstance(v, Fd) or hasattr(v, "is_brick_fd"),
    Kind.TARGET: lambda v: isinstance(v, Inode | Fd) or hasattr(v, "is_brick_fd"),
    Kind.NAME: _name,
    Kind.GFID: lambda v: isinstance(v, bytes) and len(v) == 16,
    Kind.INT: lambda v: isinstance(v, int),
    Kind.BOOL: lambda v: isinstance(v, bool),
    Kind.BYTES: _buffer,
    Kind.XATTR_NAME: lambda v: isinstance(v, bytes),
    Kind.XATTR_NAME_OR_NONE: lambda v: v is None or isinstance(v, bytes),
    Kind.XATTRS: _xattrs,
    Kind.SETATTR: lambda v: isinstance(v, SetAttr),
    Kind.FLOCK: lambda v: isinstance(v, Flock),
    Kind.TEXT: lambda v: isinstance(v, str),
}

_REPLY: dict[Reply, Callable[[Any], bool]] = {
    Reply.IATT: lambda v: isinstance(v, Iatt) and len(v.gfid) == 16,
    Reply.NONE: lambda v: v is None,
    Reply.COUNT: lambda v: isinstance(v, int) and v >= 0,
    Reply.DATA: _buffer,
    Reply.ENTRIES: lambda v: isinstance(v, list) and all(isinstance(e, DirEntry) for e in v),
    Reply.STATVFS: lambda v: isinstance(v, StatVfs),
    Reply.XATTRS: _xattrs,
    Reply.FLOCK: lambda v: isinstance(v, Flock),
    Reply.CHECKSUM: lambda v: isinstance(v, tuple) and len(v) == 2,
}

# Flags that the fop table knows; others must be refused by the bridge before they enter the graph.
_FLAGS: dict[tuple[str, str], Callable[[Any], bool]] = {
    ("rename", "flags"): lambda v: v in (0, 1, 2),
    ("setxattr", "flags"): lambda v: not v & ~(os.XATTR_CREATE | os.XATTR_REPLACE),
    ("seek", "whence"): lambda v: v in (os.SEEK_DATA, os.SEEK_HOLE),
    ("copy_file_range", "flags"): lambda v: v == 0,
}


def _fits(fop: str, args: tuple[Any, ...], reply: Any) -> bool:
    """Whether a reply keeps the bounds that the call set."""
    match fop:
        case "readv":
            return bool(len(reply) <= args[2])
        case "writev":
            return bool(reply <= len(args[2]))  # fewer is a fault that was injected on purpose
        case "readdir":
            return len(reply) <= args[2] and not any(entry.name in (b".", b"..") for entry in reply)
        case _:
            return True


def checked(fop: Fop, method: Callable[..., Awaitable[Any]], edge: Edge) -> Callable[..., Awaitable[Any]]:
    """`method` with the contract of `fop` checked on both sides of `edge`."""
    expected = len(fop.args) + 1

    async def check(*args: Any) -> Any:
        where = f"{edge.parent!r} -> {edge.translator!r}: {fop.name}"
        assert expected <= len(args) <= expected + 1, (
            f"{where} takes frame, {expected - 1} arguments, xdata; got {len(args)}"
        )
        assert isinstance(args[0], Frame), f"{where}: no Frame but {args[0]!r}"
        for arg, value in zip(fop.args, args[1:], strict=False):
            assert _ARGUMENT[arg.kind](value), f"{where}: {arg.name}={value!r} is no {arg.kind.value}"
            known = _FLAGS.get((fop.name, arg.name))
            assert known is None or known(value), f"{where}: {arg.name}={value!r} has unknown flags"
        xdata = args[expected] if len(args) > expected else None
        assert xdata is None or isinstance(xdata, Mapping), f"{where}: xdata is {type(xdata).__name__}"
        before = None if xdata is None else dict(xdata)
        try:
            reply = await method(*args)
        except FopError as error:
            assert error.errno in errno_names.errorcode, f"{where}: unknown errno {error.errno!r}"
            assert not isinstance(error.__context__, trio.Cancelled), f"{where}: turned a cancellation into {error!r}"
            raise
        finally:
            assert xdata is None or dict(xdata) == before, f"{where}: xdata was changed below"
        assert _REPLY[fop.reply](reply), f"{where}: replied {reply!r}, not {fop.reply.value}"
        assert _fits(fop.name, args, reply), f"{where}: replied {reply!r}, more or less than was asked for"
        return reply

    return check
