"""Taking a request apart: header, names, payload, without I/O and without copying payloads.

A request lies in a buffer whose slices are `bytes` (an mmap, or bytes in tests) and ends at `end`; what lies beyond is
left over from earlier requests, so every function here checks against `end` and raises ProtocolError rather
than read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

from fusemux.fuse.kernel import protocol as p

__all__ = [
    "Buffer",
    "Header",
    "InitRequest",
    "ProtocolError",
    "batch_forget",
    "header",
    "init",
    "name",
    "payload",
    "two_names",
]

Buffer = mmap | bytes


class ProtocolError(Exception):
    """The request is shorter than its opcode says, or a name in it does not end."""


class Header(NamedTuple):
    length: int
    opcode: int
    unique: int
    nodeid: int
    uid: int
    gid: int
    pid: int
    extension: int  # in units of 8 bytes, at the end of the request
    padding: int


class InitRequest(NamedTuple):
    major: int
    minor: int
    max_readahead: int
    flags: int  # both words


def header(buffer: Buffer, received: int) -> Header:
    """The header of a request of which `received` bytes were read."""
    if received < p.BODY:
        raise ProtocolError(f"{received} bytes are no request, a header alone has {p.BODY}")
    head = Header._make(p.HEADER.unpack_from(buffer))
    if head.length != received:
        raise ProtocolError(f"a request that says {head.length} bytes came with {received}")
    return head


def name(buffer: Buffer, start: int, end: int) -> bytes:
    """The one name that fills the request from `start` to `end`."""
    if end <= start or buffer[end - 1] != 0:
        raise ProtocolError("a name does not end with NUL")
    return buffer[start : end - 1]


def two_names(buffer: Buffer, start: int, end: int) -> tuple[bytes, bytes]:
    """The two names that fill the request from `start` to `end`."""
    first, nul, second = name(buffer, start, end).partition(b"\0")
    if not nul or not first:
        raise ProtocolError("a second name is missing")
    return first, second


def name_and_value(buffer: Buffer, start: int, end: int, size: int) -> tuple[bytes, bytes]:
    """A name and a value of `size` bytes (SETXATTR)."""
    first, nul, value = buffer[start:end].partition(b"\0")
    if not nul or len(value) < size:
        raise ProtocolError(f"the value of {first[:64]!r} has {len(value)} bytes, not {size}")
    return first, value[:size]


def payload(buffer: Buffer, start: int, end: int, size: int) -> memoryview:
    """`size` bytes from `start`, in place: valid as long as nobody reads into the buffer again."""
    if end - start < size:
        raise ProtocolError(f"{end - start} bytes of payload where {size} were announced")
    return memoryview(buffer)[start : start + size]


def batch_forget(buffer: Buffer, end: int) -> Iterator[tuple[int, int]]:
    """(nodeid, nlookup) for each node of a BATCH_FORGET."""
    (count,) = p.BODIES[p.Opcode.BATCH_FORGET].unpack_from(buffer, p.BODY)
    start = p.BODY + p.BODIES[p.Opcode.BATCH_FORGET].size
    return p.FORGET_ONE.iter_unpack(payload(buffer, start, end, count * p.FORGET_ONE.size))


def init(buffer: Buffer, end: int) -> InitRequest:
    """An INIT; kernels before 7.36, and those that speak another major version, send a shorter one."""
    body = p.BODIES[p.Opcode.INIT]
    if end < p.BODY + body.size:
        raise ProtocolError(f"INIT has {end} bytes")
    major, minor, max_readahead, flags = body.unpack_from(buffer, p.BODY)
    if flags & p.InitFlag.INIT_EXT and end >= p.BODY + p.INIT_EXT_SIZE:
        flags |= p.INIT_FLAGS2.unpack_from(buffer, p.BODY + body.size)[0] << 32
    return InitRequest(major, minor, max_readahead, flags)
