"""Arithmetic on counters kept in xattrs: what replication and erasure coding account with.

    op 0  ADD_ARRAY                 32-bit big-endian integers, added one by one, wrapping
    op 1  ADD_ARRAY64               the same with 64 bits
    op 4  GET_AND_SET               answers the old value, stores the new one
    op 5  ADD_ARRAY_WITH_DEFAULT    as 0; the argument is followed by defaults, taken where the stored number is 0
    op 6  ADD_ARRAY64_WITH_DEFAULT  as 1, likewise

A stored value that is shorter than the argument counts as followed by zeros.  An addition of nothing but zeros stores
nothing: it only reads.  OR and AND (2, 3) exist in the protocol but not in GlusterFS's posix, nor here.

Pure.  Source: GlusterFS `posix-inode-fd-ops.c`; design facts, bricks section 4.
"""

from __future__ import annotations

import errno
import struct

from fusemux.graph.framework.errors import FopError

__all__ = ["ADD_ARRAY", "ADD_ARRAY64", "ADD_ARRAY64_WITH_DEFAULT", "ADD_ARRAY_WITH_DEFAULT", "GET_AND_SET", "combine"]

ADD_ARRAY, ADD_ARRAY64, GET_AND_SET, ADD_ARRAY_WITH_DEFAULT, ADD_ARRAY64_WITH_DEFAULT = 0, 1, 4, 5, 6
_THREE = struct.Struct(">3I")
_NOTHING = bytes(12)
_WIDTH = {ADD_ARRAY: 4, ADD_ARRAY64: 8, ADD_ARRAY_WITH_DEFAULT: 4, ADD_ARRAY64_WITH_DEFAULT: 8}


def combine(op: int, stored: bytes | None, argument: bytes) -> tuple[bytes, bytes | None]:
    """(the answer, what to store or None for nothing).  Raises EINVAL."""
    if op == ADD_ARRAY and len(argument) == 12:  # replicate's counters, twice for nearly every change
        if stored is None:
            return argument, None if argument == _NOTHING else argument
        if len(stored) == 12:
            a, b, c = _THREE.unpack(argument)
            if not (a or b or c):
                return stored, None
            x, y, z = _THREE.unpack(stored)
            new = _THREE.pack(a + x & 0xFFFFFFFF, b + y & 0xFFFFFFFF, c + z & 0xFFFFFFFF)
            return new, new
    if op == GET_AND_SET:
        return stored or b"", argument
    width = _WIDTH.get(op)
    if width is None:
        raise FopError(errno.EINVAL, f"xattrop {op} is not supported")
    if len(argument) % (width if op < 5 else 2 * width):
        raise FopError(errno.EINVAL, f"an argument of {len(argument)} bytes is no array of {8 * width} bit numbers")
    deltas, defaults = argument, b""
    if op >= 5:
        half = len(argument) // 2
        deltas, defaults = argument[:half], argument[half:]
    size = len(deltas)
    old = stored or b""
    if not any(deltas) and not defaults:
        return old if len(old) >= size else old.ljust(size, b"\0"), None
    new = _add(width, old.ljust(size, b"\0"), deltas, defaults)
    return new, new


def _add(width: int, old: bytes, deltas: bytes, defaults: bytes) -> bytes:
    code, mask = ("I", 0xFFFFFFFF) if width == 4 else ("Q", 0xFFFFFFFFFFFFFFFF)
    count = len(deltas) // width
    form = struct.Struct(f">{count}{code}")
    values = form.unpack(old[: len(deltas)])
    if defaults:
        values = tuple(value or default for value, default in zip(values, form.unpack(defaults), strict=True))
    total = form.pack(*((a + b) & mask for a, b in zip(values, form.unpack(deltas), strict=True)))
    return total + old[len(deltas) :]
