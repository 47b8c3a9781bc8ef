"""The changelog: what the copies record about each other, and what a transaction must write there.  Pure.

On each copy of a file or directory, xattr `trusted.afr.VOL-client-N` counts the operations that child N has missed: three
big-endian signed 32-bit numbers for data, metadata and entries; absent and all-zero mean the same.  The copy *accuses* child N.
All copies together form a matrix; a copy that nobody accuses holds everything that was acknowledged.  `trusted.afr.dirty`
counts, in the same form, transactions that were begun there and not finished.  A directory's "data" are its entries (the third
number); its first number says that all of it must be healed, not only the names in the index.

A transaction on some children (`took_part`) runs in three steps:

1. pre-op: dirty +1 on each; and those that do not take part are accused at once (GlusterFS accuses them in the
   post-op, and in between a restart of all bricks could serve the stale copy; what is stored in the end is the same).
   Metadata and entry transactions in which everybody takes part skip the pre-op (*optimistic*).
2. the operation itself.
3. post-op, decided by `verdict`: dirty -1, and whoever failed where the trusted copies succeeded is accused on the good ones.

What the verdict rests on:

* Copies accused before (not in `sources`) cannot decide anything: if only they succeed, the operation has failed.
* When all trusted copies refuse alike, nothing has changed, and everything the pre-op wrote is taken back; so it is when a quorum
  of them does, and the others are accused of what they may have done.  ENOTCONN is no refusal (the brick may have done it), and a write or fsync that ran out of space or failed on the medium may have
  changed a part: then the mark stays, and healing compares the copies.
* Without quorum the outcome is unknown: the caller gets an error, nobody is accused by a minority, and the mark
  stays (or is made, where the pre-op was skipped): a directory then keeps the names of all copies.

The counters are only ever changed by adding (xattrop ADD_ARRAY), so concurrent healing commutes with all this.
"""

from __future__ import annotations

import errno
import stat
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fusemux.graph.cluster.replicate.errors import fold
from fusemux.graph.cluster.replicate.quorum import Quorum

__all__ = [
    "ADD_ARRAY",
    "DATA",
    "ENTRY",
    "METADATA",
    "ZERO",
    "Keys",
    "Verdict",
    "new_entry",
    "pack",
    "unpack",
    "verdict",
]

DATA, METADATA, ENTRY = 0, 1, 2  # what a transaction changes, and its place in the counters
ADD_ARRAY = 0  # xattrop's operation
ZERO = bytes(12)
PARTIAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})  # a data operation that may have done a part

_counters = struct.Struct(">3i")
Counters = tuple[int, int, int]


def pack(counters: Counters) -> bytes:
    return _counters.pack(*counters)


def unpack(raw: bytes | None) -> Counters:
    """The counters in an xattr; absent ones are zero, and so is what is missing at the end of a short one."""
    if raw is None:
        return (0, 0, 0)
    return _counters.unpack(bytes(raw[:12]).ljust(12, b"\0"))


class Keys:
    """The names of the xattrs of one replica set, and the arguments of its xattrops, made once and kept.

    There are few different ones (kinds x sets of accused x -1, 0, +1), so all of them are kept.
    """

    def __init__(self, children: Sequence[str], dirty: str = "trusted.afr.dirty") -> None:
        self.pending = tuple(f"trusted.afr.{name}".encode() for name in children)
        self.dirty = dirty.encode()
        self.ask: Mapping[bytes, None] = dict.fromkeys((*self.pending, self.dirty))
        self._made: dict[tuple[int, int, int, int], Mapping[bytes, bytes]] = {}

    def delta(self, kind: int, dirty: int, accused: int = 0, *, by: int = 1) -> Mapping[bytes, bytes]:
        """What xattrop adds: `dirty` to the mark, `by` to the rows of the `accused`."""
        key = (kind, dirty, accused, by)
        made = self._made.get(key)
        if made is None:
            rows = {name: _at(kind, by) for index, name in enumerate(self.pending) if accused >> index & 1}
            made = self._made[key] = {**rows, self.dirty: _at(kind, dirty)} if dirty else rows
        return made

    def accuse(self, counters: Counters, accused: int) -> Mapping[bytes, bytes]:
        """What xattrop adds to accuse several children of several things."""
        return {name: pack(counters) for index, name in enumerate(self.pending) if accused >> index & 1}

    def row(self, marks: Mapping[bytes, bytes] | None) -> list[Counters]:
        """What one copy says about each child: its row of the matrix."""
        if not marks:
            return [(0, 0, 0)] * len(self.pending)
        return [unpack(marks.get(name)) for name in self.pending]

    def accused_by(self, marks: Mapping[bytes, bytes] | None, kind: int) -> int:
        """The children that one copy accuses of `kind`."""
        accused = 0
        for index, name in enumerate(self.pending if marks else ()):
            raw = marks.get(name) if marks else None
            if raw is not None and raw != ZERO and unpack(raw)[kind]:
                accused |= 1 << index
        return accused


def _at(kind: int, value: int) -> bytes:
    counters = [0, 0, 0]
    counters[kind] = value
    return _counters.pack(*counters)


def new_entry(mode: int, *, granular: bool) -> Counters:
    """What the good copies record of a new file or directory that the others have missed.

    They will get it by entry healing, empty; so its contents and attributes are pending from the start.  With a
    granular index a directory says in its first number that all names are, since no names were recorded for it.
    """
    if stat.S_ISDIR(mode):
        return (1 if granular else 0, 1, 1)
    return (1 if stat.S_ISREG(mode) else 0, 1, 0)


class Verdict(NamedTuple):
    """How a transaction ended."""

    errno: int  # 0: it succeeded
    good: int  # the children whose replies count, and which the post-op writes to
    accused: int  # ... where it accuses these
    dirty: int  # ... and adds this to the mark
    absolved: int = 0  # accused in the pre-op for nothing: take that back
    unknown: bool = False  # the copies may differ now: ask them before anybody reads


def verdict(
    kind: int, took_part: int, errnos: Sequence[int], sources: int, quorum: Quorum, *, dirtied: bool, absent: int = 0
) -> Verdict:
    """How a transaction ended, by the errnos (0: success) of the children that took part.

    `sources`: those not accused before.  `dirtied`: the pre-op was sent, and accused `absent`.
    """
    succeeded = sum(1 << i for i, e in enumerate(errnos) if took_part >> i & 1 and not e)
    trusted = took_part & sources or took_part
    undo = -1 if dirtied else 0
    if succeeded & trusted and quorum(succeeded):
        return Verdict(0, succeeded, took_part & ~succeeded, undo)
    refused = _refused(kind, took_part, trusted, errnos, quorum)
    if refused is not None:
        error, refusing, accused = refused
        return Verdict(error, refusing, accused, undo, absolved=0 if accused else absent)
    if not succeeded & trusted:
        # A mark on a directory would bring back on healing what was removed while a stale copy was away.
        mark = 0 if undo or trusted != took_part else 1
        return Verdict(fold(errnos[i] for i in _members(trusted)), took_part, 0, mark, unknown=True)
    error = fold(errnos[i] for i in _members(took_part & ~succeeded))
    return Verdict(error, took_part, 0, 0 if dirtied else 1, unknown=True)


def _refused(
    kind: int, took_part: int, trusted: int, errnos: Sequence[int], quorum: Quorum
) -> tuple[int, int, int] | None:
    """`(errno, refusing, accused)` when all trusted copies refuse alike, or a quorum of them does; else None.

    Another copy may have done it: one that died over it, or one that lacks what the others have (rmdir succeeds where entries
    are missing).  Then those that refused accuse it of what it did.
    """
    alike: dict[int, int] = {}
    for i in _members(trusted):
        alike[errnos[i]] = alike.get(errnos[i], 0) | 1 << i
    found = [error for error, children in alike.items()
             if _definite(kind, error) and (children == trusted or quorum(children))]  # fmt: skip
    if len(found) != 1:
        return None
    error = found[0]
    others = [i for i in _members(took_part) if errnos[i] != error]
    accused = sum(1 << i for i in others if trusted >> i & 1 or not _definite(kind, errnos[i]))
    return error, took_part & ~sum(1 << i for i in others), accused


def _definite(kind: int, error: int) -> bool:
    """Whether a copy that answers this has certainly changed nothing."""
    return bool(error) and error != errno.ENOTCONN and not (kind == DATA and error in PARTIAL)


def _members(children: int) -> list[int]:
    return [i for i in range(children.bit_length()) if children >> i & 1]
