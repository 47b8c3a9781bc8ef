"""Which copies of a file may be read, and which one is.  Pure.

A copy is *accused* of data (a directory: of entries) or of metadata when any copy that answered counts operations that it has
missed.  In addition, of the copies of a file nobody accuses of data, those smaller than the largest are taken
as accused too ("small files": a crash between the copies of an append leaves no other trace), unless a transaction is
running.  An arbiter has no data and is never read, but its accusations count.

What may be read is what answered, is not accused and is no arbiter.  Among these one is chosen, by the options:

    read-subvolume, read-subvolume-index    that child
    choose-local                            the first child that lies in this process and needs no waiting
    read-hash-mode  0  the first
                    1  by gfid: SuperFastHash(gfid) mod n
                    2  by gfid and process, directories by gfid alone
                    3  with the fewest reads under way
                    4  with the least latency
                    5  with the least product of both

and, when that one cannot be read, the first that can.  Modes 3 to 5 decide at every read.

Source: GlusterFS cluster/afr (afr_replies_interpret, afr_accuse_smallfiles, afr_read_subvol_select_by_policy).
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import NamedTuple

from fusemux.graph.cluster.replicate.changelog import DATA, ENTRY, METADATA, Keys
from fusemux.graph.framework.types import Iatt

__all__ = ["ANY", "NOBODY", "Copies", "Policy", "accusations", "superfasthash"]

ANY = -1  # chosen anew at every read
NOBODY = -2  # nothing may be read

_MASK = 0xFFFFFFFF


def superfasthash(data: bytes) -> int:
    """Paul Hsieh's 32-bit hash, of data whose length is a multiple of four (a gfid has 16 bytes)."""
    value = len(data)
    for at in range(0, len(data), 4):
        value = value + (data[at] | data[at + 1] << 8) & _MASK
        mixed = (data[at + 2] | data[at + 3] << 8) << 11 ^ value
        value = (value << 16 ^ mixed) & _MASK
        value = value + (value >> 11) & _MASK
    value ^= value << 3 & _MASK
    value = value + (value >> 5) & _MASK
    value ^= value << 4 & _MASK
    value = value + (value >> 17) & _MASK
    value ^= value << 25 & _MASK
    return value + (value >> 6) & _MASK


class Copies:
    """What is known of the copies of one inode.  Never changed, and shared by all inodes of which the same is known.

    `data` and `metadata` are the accused, `seen` those that answered.  `read_data` and `read_metadata` are the children
    chosen for reading, ANY or NOBODY.  It holds for one `generation`: while no child comes or goes.  `token` is the generation's
    own object when all copies are there and nobody is accused, else None: one identity check tells the common case.
    `empty`: the file was made a moment ago and nothing was written since.
    """

    __slots__ = ("data", "empty", "generation", "metadata", "read_data", "read_metadata", "seen", "token")

    def __init__(
        self,
        generation: int,
        seen: int,
        data: int = 0,
        metadata: int = 0,
        *,
        read_data: int = ANY,
        read_metadata: int = ANY,
        token: object | None = None,
        empty: bool = False,
    ) -> None:
        self.generation = generation
        self.seen = seen
        self.data = data
        self.metadata = metadata
        self.read_data = read_data
        self.read_metadata = read_metadata
        self.token = token
        self.empty = empty

    def sources(self, kind: int) -> int:
        """Those that nobody accuses of `kind`; a directory's entries are its data."""
        return self.seen & ~(self.metadata if kind == METADATA else self.data)

    def readable(self, kind: int, arbiters: int) -> int:
        """Those that may be read for `kind`: preferably those that nobody accuses of anything."""
        found = self.seen & ~self.data & ~self.metadata & ~arbiters
        return found or self.sources(kind) & ~arbiters

    def __repr__(self) -> str:
        return f"<Copies seen={self.seen:b} data={self.data:b} metadata={self.metadata:b} generation={self.generation}>"


def accusations(
    replies: Sequence[Iatt | None], keys: Keys, arbiters: int, *, busy: bool, suspects: int = 0
) -> tuple[int, int, int]:
    """`(seen, data, metadata)` from the answers to a lookup that asked for `keys.ask`; None: no answer.

    `busy`: a transaction runs on this inode, so sizes may differ for the moment.  `suspects` (trust.py) count as accused
    where that leaves somebody to read from: who is not suspect may be accused by them, and rightly.
    """
    seen = data = metadata = 0
    mode = 0
    for index, reply in enumerate(replies):
        if reply is None:
            continue
        seen |= 1 << index
        mode = mode or reply.mode
        marks = reply.xdata
        if marks:
            data |= keys.accused_by(marks, ENTRY if stat.S_ISDIR(reply.mode) else DATA)
            metadata |= keys.accused_by(marks, METADATA)
    suspects &= seen
    if suspects:
        data |= suspects if seen & ~(data | suspects | arbiters) else 0
        metadata |= suspects if seen & ~(metadata | suspects) else 0
    if stat.S_ISREG(mode) and not busy:
        data |= _small(replies, seen & ~data & ~arbiters)
    return seen, data, metadata


def _small(replies: Sequence[Iatt | None], candidates: int) -> int:
    sizes = {i: reply.size for i, reply in enumerate(replies) if reply is not None and candidates >> i & 1}
    largest = max(sizes.values(), default=0)
    return sum(1 << i for i, size in sizes.items() if size < largest)


class Policy(NamedTuple):
    """How the child to read is chosen."""

    children: int
    mode: int = 1
    fixed: int = -1  # read-subvolume(-index), or the first local child
    pid: int = 0

    @property
    def dynamic(self) -> bool:
        return self.fixed < 0 and self.mode >= 3

    @property
    def by_gfid(self) -> bool:
        """Whether the choice depends on the inode."""
        return self.fixed < 0 and self.mode in (1, 2)

    def choose(self, readable: int, gfid: bytes, *, directory: bool = False) -> int:
        """The child to read, of those in the set `readable`; ANY when it is to be chosen at each read."""
        if not readable:
            return NOBODY
        if self.dynamic:
            return ANY
        wanted = self.fixed if self.fixed >= 0 else self._hashed(gfid, directory) if self.mode else 0
        return wanted if readable >> wanted & 1 else _first(readable)

    def _hashed(self, gfid: bytes, directory: bool) -> int:
        if self.mode == 2 and not directory:
            gfid = self.pid.to_bytes(4, "little") + gfid[4:]
        return superfasthash(gfid) % self.children

    def choose_now(self, readable: int, reading: Sequence[int], latency: Sequence[float]) -> int:
        """The child for one read in the dynamic modes, by reads under way and seconds that a read took lately."""
        if not readable:
            return NOBODY
        candidates = [i for i in range(self.children) if readable >> i & 1]
        if self.mode == 3:
            return min(candidates, key=lambda i: reading[i])
        if self.mode == 4:
            return min(candidates, key=lambda i: latency[i])
        return min(candidates, key=lambda i: latency[i] * (reading[i] + 1))


def _first(children: int) -> int:
    return (children & -children).bit_length() - 1
