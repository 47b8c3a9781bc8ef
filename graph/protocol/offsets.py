"""Directory offsets that tell which leaf they came from.

A merged directory is read from several bricks, and the caller resumes with nothing but a number.  So every leaf
folds its own index into the offsets it hands out, as GlusterFS does.  With `leaves` leaves in the graph:

    x small enough   y = x * leaves + leaf
    x large (ext4)   y = 2^62 | (x >> 1, its low `bits` bits cleared) | leaf      bits = ceil(log2(leaves))

0 (the start) and -1 stay what they are, and so does everything in a graph with one leaf.  The large form loses the
lowest bits + 1 bits of the brick's offset.

Pure.  Source: GlusterFS `libglusterfs/src/gf-dirent.c`; design facts, dht section 9.
"""

from __future__ import annotations

__all__ = ["decode", "encode", "room_for"]

_LARGE = 1 << 62


def _bits(leaves: int) -> int:
    return (leaves - 1).bit_length()


def room_for(leaves: int) -> int:
    """How many leaves a graph of so many leaves reckons with, so that more can be added while directories are being read."""
    return 1 << _bits(2 * leaves)


def encode(offset: int, leaf: int, leaves: int) -> int:
    """The offset that the graph sees."""
    if leaves == 1 or offset in (0, -1):
        return offset
    bits = _bits(leaves)
    if offset < 1 << (62 - bits):
        return offset * leaves + leaf
    return _LARGE | ((offset >> 1) & ~((1 << bits) - 1) & (_LARGE - 1)) | leaf


def decode(value: int, leaves: int) -> tuple[int, int]:
    """(leaf, the brick's offset)."""
    if leaves == 1 or value in (0, -1):
        return 0, value
    if not value & _LARGE:
        offset, leaf = divmod(value, leaves)
        return leaf, offset
    low = (1 << _bits(leaves)) - 1
    return value & low, (value & (_LARGE - 1) & ~low) << 1
