"""Gfids: how new ones are made, so that one can be found again by the inode number it shows.

An inode number is the second half of a gfid (GlusterFS).  File handles (open_by_handle_at(2), NFS servers) name a file by
that number only, also after everybody has forgotten it; so the first half follows from the second here:

    first half     folder (16), 44 bits of the second half with the version (4 bits) among them
    second half    2 bits variant   62 bits: folder (16), run (34), place in the run (12), scrambled

The folder is what the first two bytes of a gfid are to a brick: its handle lies in `.glusterfs/AB/CD/`, which must be
made the first time it is used.  A run of `RUN` gfids has one folder, so a create makes no other; 50 random bits are a run's own,
and within it no number comes twice.  Gfids that GlusterFS made are random throughout and cannot be found by their number.
"""

from __future__ import annotations

from random import Random

__all__ = ["RUN", "Gfids", "gfid_of"]

RUN = 4096
_MASK = (1 << 62) - 1
_FACTOR = 0x2545F4914F6CDD1D
_INVERSE = pow(_FACTOR, -1, 1 << 62)
_MARKS = 4 << 76 | 2 << 62  # version and variant


def _gfid(folder: int, scrambled: int) -> bytes:
    first = folder << 48 | scrambled & 0xFFFF_FFFF_0FFF
    return (first << 64 | _MARKS | scrambled).to_bytes(16, "big")


def gfid_of(ino: int) -> bytes | None:
    """The gfid that was made with inode number `ino`; None when none can have been."""
    if ino >> 62 != 2:
        return None
    scrambled = ino & _MASK
    return _gfid((scrambled * _INVERSE & _MASK) >> 46, scrambled)


class Gfids:
    """Makes them; two of these with equal `bits` make the same."""

    def __init__(self, bits: Random) -> None:
        self._bits = bits
        self._folder = self._run = 0
        self._left = 0

    def new(self) -> bytes:
        """A UUID of version 4."""
        left = self._left
        if not left:
            left = RUN
            self._folder = self._bits.getrandbits(16)
            self._run = self._folder << 46 | self._bits.getrandbits(34) << 12
        self._left = left = left - 1
        return _gfid(self._folder, (self._run | left) * _FACTOR & _MASK)
