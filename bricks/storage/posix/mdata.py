"""The times of an object as GlusterFS keeps them, so that all copies of a file answer the same.

`trusted.glusterfs.mdata` is 57 bytes: version 1 (u8), flags 0 (u64), then change, modification and access time, each as
seconds and nanoseconds (u64, big-endian).  In memory times are a tuple of nanoseconds in that order.

A change moves a time forward only, because operations may arrive out of order; but a time that lies further
ahead than `WINDOW_NS` was set by hand or by a clock since corrected, and yields.  The rule needs no clock, so all copies decide alike.

Pure.  Source: GlusterFS `posix-metadata.c`; design facts, bricks section 3.
"""

from __future__ import annotations

import struct
from functools import lru_cache

__all__ = ["SIZE", "Times", "WINDOW_NS", "newer", "pack", "unpack"]

Times = tuple[int, int, int]  # change, modification, access

SIZE = 57
WINDOW_NS = 2_000_000_000
_HEAD = b"\x01" + bytes(8)
_TIME = struct.Struct(">qQ")
_FORMAT = struct.Struct(">BQqQqQqQ")
_S = 1_000_000_000


@lru_cache(256)
def _packed(time_ns: int) -> bytes:
    """One stamp goes to a file, its directory, and all copies of both: packed once."""
    return _TIME.pack(time_ns // _S, time_ns % _S)


def pack(ctime: int, mtime: int, atime: int) -> bytes:
    change = _packed(ctime)
    return _HEAD + change + (change if mtime == ctime else _packed(mtime)) + _packed(atime)


def unpack(value: bytes | memoryview) -> Times | None:
    """None when the value is of another version or size: the caller then takes the backing store's times."""
    if len(value) != SIZE or value[0] != 1:
        return None
    _, _, cs, cn, ms, mn, as_, an = _FORMAT.unpack(value)
    return cs * _S + cn, ms * _S + mn, as_ * _S + an


def newer(old: int, new: int) -> int:
    """The time to keep when an operation stamped `new` finds `old`."""
    return new if new > old or old - new > WINDOW_NS else old
