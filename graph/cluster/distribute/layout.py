"""Who holds which hashes: the layout of a directory, in memory and on disk.

Theory.  The hashes 0 to 2**32 - 1 are a ring that each directory divides among the subvolumes.  Each subvolume keeps its own
share in an xattr of its copy of the directory (16 bytes: commit hash, type, first and last hash, big-endian); a lookup of the
directory gathers the shares, and together they are the layout.  Names are placed by bisection.

A layout can be damaged: shares overlap, or hashes belong to nobody (a hole), because a subvolume lost its copy, was
added, or a crash came between two writes.  `anomalies` says what is wrong; `fresh` makes a new division.  A share of
0 to 0 means "the directory is here but no hash is", which is what a subvolume gets that came later.

The commit hash says under which state of the volume the layout was written.  While it equals the volume's own (xattr
`...commithash` of the root; 0 when there is none), every name in the directory lies where its hash says or
has a linkto file there, so a name not found there exists nowhere.  1 stands for "not known".

Invariants: a Layout never changes, so equal ones are shared; `starts` and `places` describe the whole ring, holes
included, so that a placement is one bisection without conditions.

Source: GlusterFS `dht-layout.c`, `dht-selfheal.c` (design facts, sections 2 and 7).  Pure: no I/O, no trio.
"""

from __future__ import annotations

import errno
import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = [
    "COMMIT_UNKNOWN", "MISSING_XATTR", "TYPE_HASHED", "TYPE_USER", "Anomalies", "Extent", "Layout", "anomalies", "decode",
    "encode", "fresh", "keep_overlap", "overlap",
]  # fmt: skip

LAST = 0xFFFFFFFF
COMMIT_UNKNOWN = 1  # what a healed directory gets: names must be searched for everywhere
TYPE_HASHED = 0
TYPE_USER = 1  # divided by hand, never rewritten
MISSING_XATTR = -1  # the directory is there, its share is not

_DISK = struct.Struct(">4I")


class Extent(NamedTuple):
    """What one subvolume (`place`: its index) says of a directory; `error` is 0, MISSING_XATTR or an errno."""

    place: int
    start: int = 0
    stop: int = 0  # inclusive; start == stop == 0: no share
    commit: int = 0
    type: int = TYPE_HASHED
    error: int = 0

    @property
    def shares(self) -> bool:
        return self.error == 0 and self.start != self.stop


def encode(commit: int, start: int, stop: int, type: int = TYPE_HASHED) -> bytes:
    """The xattr of one share."""
    return _DISK.pack(commit, type, start, stop)


def decode(place: int, raw: bytes | None) -> Extent:
    """The share that `raw` describes; something that is no share is taken for a missing one."""
    if raw is None or len(raw) != _DISK.size:
        return Extent(place, error=MISSING_XATTR)
    commit, type_, start, stop = _DISK.unpack(raw)
    if start > stop or type_ not in (TYPE_HASHED, TYPE_USER):
        return Extent(place, error=MISSING_XATTR)
    return Extent(place, start, stop, commit, type_)


class Anomalies(NamedTuple):
    """What is wrong with a layout: counts of hashes' gaps and doubles, and of subvolumes by their trouble."""

    holes: int = 0
    overlaps: int = 0
    missing: int = 0  # subvolumes without the directory, or without its xattr
    down: int = 0
    no_space: int = 0
    misc: int = 0

    @property
    def damaged(self) -> bool:
        """The ring is not divided as it should be."""
        return bool(self.holes or self.overlaps)


def anomalies(extents: Iterable[Extent]) -> Anomalies:
    """Judge the extents of all subvolumes."""
    missing = down = no_space = misc = holes = overlaps = 0
    shares: list[Extent] = []
    for extent in extents:
        if extent.error == 0:
            shares += [extent] if extent.shares else []
        elif extent.error in (MISSING_XATTR, errno.ENOENT, errno.ESTALE):
            missing += 1
        elif extent.error == errno.ENOTCONN:
            down += 1
        elif extent.error == errno.ENOSPC:
            no_space += 1
        else:
            misc += 1
    following = 0
    for extent in sorted(shares, key=lambda e: (e.start, e.stop)):
        holes += extent.start > following
        overlaps += extent.start < following
        following = max(following, extent.stop + 1)
    holes += following <= LAST
    return Anomalies(holes, overlaps, missing, down, no_space, misc)


class Layout:
    """One division of the ring.  `places[bisect_right(starts, hash) - 1]` is the subvolume, -1 in a hole."""

    __slots__ = ("_raw", "commit", "extents", "places", "spans_all", "starts", "type")

    def __init__(self, extents: Iterable[Extent], commit: int | None = None) -> None:
        """`extents` in any order; `commit` is taken from the first share when it is not given."""
        self.extents = tuple(sorted(extents, key=lambda e: e.place))
        shares = [e for e in self.extents if e.shares]
        self.commit = commit if commit is not None else min((e.commit for e in shares), default=COMMIT_UNKNOWN)
        if any(e.commit != self.commit for e in shares):
            self.commit = COMMIT_UNKNOWN  # a rewriting that was interrupted
        self.type = max((e.type for e in shares), default=TYPE_HASHED)
        self.spans_all = len(shares) == len(self.extents)
        self.starts, self.places = self._ring(shares)
        self._raw: tuple[bytes, ...] = ()

    @staticmethod
    def _ring(shares: list[Extent]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        starts: list[int] = []
        places: list[int] = []
        following = 0
        for extent in sorted(shares, key=lambda e: (e.start, e.stop)):
            if extent.stop < following:
                continue  # wholly inside another: the first one wins
            if extent.start > following:
                starts.append(following)
                places.append(-1)
            starts.append(max(extent.start, following))
            places.append(extent.place)
            following = extent.stop + 1
        if following <= LAST:
            starts.append(following)
            places.append(-1)
        return tuple(starts), tuple(places)

    def find(self, hash_: int) -> int:
        """The subvolume that `hash_` belongs to, -1 when it belongs to none."""
        return self.places[bisect_right(self.starts, hash_) - 1]

    def disk(self, place: int) -> bytes:
        """The xattr of the share of subvolume `place`."""
        extent = self.extents[place]  # there is one for each subvolume
        return encode(self.commit, extent.start, extent.stop, self.type)

    @property
    def raw(self) -> tuple[bytes, ...]:
        """The xattrs of all shares, in the order of the subvolumes."""
        if not self._raw:
            self._raw = tuple(self.disk(extent.place) for extent in self.extents)
        return self._raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and (self.extents, self.commit) == (other.extents, other.commit)

    def __hash__(self) -> int:
        return hash((self.extents, self.commit))

    def __repr__(self) -> str:
        shares = ", ".join(f"{e.place}:{e.start:08x}-{e.stop:08x}" for e in self.extents if e.shares)
        return f"<Layout {shares} commit={self.commit:08x}>"


def fresh(
    names: Sequence[str], places: Iterable[int], start_hash: int, *, commit: int,
    weights: Sequence[int] | None = None, spread: int | None = None,
) -> Layout:  # fmt: skip
    """Divide the ring anew among the subvolumes `places` of those called `names`; the others get no share.

    Subvolumes stand in the order of their names as C compares them; `start_hash` (of the directory's path) says who
    of all is first, so that small directories do not all begin on the same one.  `weights[place]` is a
    subvolume's size, None or any 0 among those used: equal shares.  At most `spread` subvolumes get a share.
    """
    order = sorted(range(len(names)), key=lambda place: names[place].encode())
    first = start_hash % len(order)
    usable = set(places)
    walk = [place for place in order[first:] + order[:first] if place in usable]
    if spread is not None and 0 < spread <= len(walk):
        walk = walk[:spread]
    sizes = [weights[place] for place in walk] if weights is not None else []
    if not sizes or min(sizes) <= 0:
        sizes = [1] * len(walk)
    unit = LAST / sum(sizes) if walk else 0.0
    extents = {place: Extent(place, commit=commit) for place in range(len(names))}
    start = 0
    for place, size in zip(walk, sizes, strict=True):
        share = int(unit * size)
        extents[place] = Extent(place, start, start + share - 1, commit)
        start += share
    if walk:
        extents[walk[-1]] = extents[walk[-1]]._replace(stop=LAST)
    return Layout(extents.values(), commit)


def overlap(a: Extent, b: Extent) -> int:
    """How many hashes two shares have in common."""
    if not (a.shares and b.shares):
        return 0
    return max(0, min(a.stop, b.stop) - max(a.start, b.start) + 1)


def keep_overlap(names: Sequence[str], old: Layout, new: Layout) -> Layout:
    """`new` with shares swapped pairwise so that as many hashes as possible stay where `old` had them.

    Greedy, as GlusterFS does it: for each subvolume in the order of names the best swap with a later one.
    """
    order = sorted(range(len(names)), key=lambda place: names[place].encode())
    before = {e.place: e for e in old.extents}
    ours = {e.place: e for e in new.extents}
    was = [before.get(place, Extent(place)) for place in order]
    now = [ours[place] for place in order]
    for i in range(len(order)):
        best, partner = 0, None
        for j in range(i + 1, len(order)):
            stays = overlap(was[i], now[i]) + overlap(was[j], now[j])
            swapped = overlap(was[i], now[j]) + overlap(was[j], now[i])
            if swapped - stays > best:
                best, partner = swapped - stays, j
        if partner is not None:
            now[i], now[partner] = now[partner], now[i]
    return Layout((e._replace(place=place) for place, e in zip(order, now, strict=True)), new.commit)
