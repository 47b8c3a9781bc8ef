"""What distribute knows of a directory, and what it makes of the subvolumes' answers about one.

Theory.  A directory exists on every subvolume; each keeps its own share of the layout (layout.py) and a copy of the
attributes and user xattrs.  One of them, the subvolume that its name hashed to when it was made, is its metadata server (MDS,
xattr `...mds`): it is changed first and believed in case of doubt.  The MDS's xattr is a signed number, 0 at rest; it is
lowered before user xattrs are changed and raised when all have the change, so that a negative one says: copy from me.
The root has no MDS.

A `Survey` puts the answers of all subvolumes side by side; `Survey.healing` says what must be done so that they agree.  Pure.

Source: GlusterFS `dht-selfheal.c`, `dht-common.c` (design facts, sections 5 and 8).
"""

from __future__ import annotations

import errno
import stat
import struct
from collections.abc import Sequence
from typing import NamedTuple

from fusemux.graph.cluster.distribute.layout import TYPE_USER, Extent, Layout, anomalies, decode
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import DIRECTORY_BLOCKS, DIRECTORY_SIZE, ROOT_GFID, Iatt, gfid_text

__all__ = ["MDS_AT_REST", "MDS_STEP", "Directory", "Healing", "Survey", "XattrNames", "merge", "unchanged"]

_MDS = struct.Struct(">i")
MDS_AT_REST = _MDS.pack(0)
MDS_STEP = (_MDS.pack(-1), _MDS.pack(1))  # before and after a change of user xattrs

_new = tuple.__new__  # as types.py says: a third of the cost of the class
_GONE = (errno.ENOENT, errno.ESTALE)


class XattrNames(NamedTuple):
    """The xattrs of distribute, all named after option `xattr-name`."""

    layout: bytes
    linkto: bytes
    mds: bytes
    commit: bytes

    @classmethod
    def of(cls, name: str) -> XattrNames:
        base = name.encode()
        return cls(base, base + b".linkto", base + b".mds", base + b".commithash")


class Directory:
    """The slot of a directory's inode.  `generation` is that of the volume when it was learnt; older: ask again.

    `parent` and `name` say where it is in the tree, as far as it was reached by name: the path decides on which subvolume
    its layout begins, and a missing copy can only be made below a parent.  They are kept true by renames made here.
    `vouched` says whether no name in it is misplaced, None while nobody has looked (vouching.py).
    """

    __slots__ = ("generation", "gfid", "layout", "mds", "name", "parent", "vouched")

    def __init__(
        self, gfid: bytes, layout: Layout, generation: int, mds: int | None, parent: Directory | None, name: bytes
    ) -> None:
        self.gfid = gfid
        self.layout = layout
        self.generation = generation
        self.mds = mds
        self.parent = parent
        self.name = name
        self.vouched: bool | None = None

    def path(self) -> bytes:
        """The path from the root; for one that was not reached by name, as GlusterFS writes it."""
        parts: list[bytes] = []
        at: Directory = self
        while at.parent is not None:
            parts.append(at.name)
            at = at.parent
        top = b"" if at.gfid == ROOT_GFID else b"<gfid:%s>" % gfid_text(at.gfid).encode()
        return b"/".join([top, *reversed(parts)]) or b"/"

    @property
    def named(self) -> bool:
        return self.parent is not None


class Healing(NamedTuple):
    """What must be done so that all subvolumes agree on a directory; places are indexes of subvolumes."""

    make: tuple[int, ...] = ()  # missing: make it there
    relayout: bool = False  # divide the ring anew
    shares: tuple[int, ...] = ()  # the layout is sound, but these do not say that they have no share
    attributes: tuple[int, ...] = ()  # mode or owner differ from the source's
    mark: int | None = None  # becomes the MDS: there is none
    copy_xattrs: bool = False  # the MDS says that others missed a change

    def __bool__(self) -> bool:
        return self != _NOTHING


_NOTHING = Healing()


class Survey:
    """The answers of all subvolumes about one directory, in their order: an Iatt or a FopError each."""

    def __init__(self, answers: Sequence[Iatt | FopError], names: XattrNames, known: Directory | None = None) -> None:
        """`known` is what was known before: subvolumes that are down keep the share they had."""
        self.iatts: dict[int, Iatt] = {}
        self.others: dict[int, Iatt] = {}  # what is no directory
        self.errors: dict[int, int] = {}
        extents: list[Extent] = []
        marked: dict[int, int] = {}
        for place, answer in enumerate(answers):
            if isinstance(answer, FopError):
                self.errors[place] = answer.errno
                extents.append(self._absent(place, answer.errno, known))
            elif answer.mode & 0o170000 != stat.S_IFDIR:
                self.others[place] = answer
                extents.append(Extent(place, error=errno.ENOTDIR))
            else:
                self.iatts[place] = answer
                found = answer.xdata or {}
                extents.append(decode(place, found.get(names.layout)))
                mds = found.get(names.mds)
                if mds is not None and len(mds) == _MDS.size:
                    (marked[place],) = _MDS.unpack(mds)
        self.extents = extents
        self.found = anomalies(extents)
        self.mds = min(marked, default=None)
        if self.mds is None and known is not None and self.errors.get(known.mds or 0) == errno.ENOTCONN:
            self.mds = known.mds  # it is down, not deposed
        self.behind = any(value < 0 for value in marked.values())
        self.missing = tuple(place for place, error in self.errors.items() if error in _GONE)

    @staticmethod
    def _absent(place: int, error: int, known: Directory | None) -> Extent:
        if error in _GONE:
            return Extent(place, error=errno.ENOENT)
        if known is not None and known.layout.extents[place].error == 0 and error == errno.ENOTCONN:
            return known.layout.extents[place]
        return Extent(place, error=error)

    @property
    def conflict(self) -> str:
        """Why this name cannot be served: a file and a directory, or two directories; empty when it can."""
        if self.iatts and self.others:
            return "is a directory on one subvolume and a file on another"
        if len({iatt.gfid for iatt in self.iatts.values()}) > 1:
            return "is another directory (gfid) on each of several subvolumes"
        return ""

    @property
    def whole(self) -> bool:
        """Every subvolume has said that it has the directory, or that it has not."""
        return all(error in _GONE for error in self.errors.values())

    def layout(self) -> Layout:
        return Layout(self.extents)

    def source(self, hashed: int = -1) -> int:
        """Whose attributes count: the MDS's; without one the hashed subvolume's, else the one changed last."""
        for place in (self.mds, hashed):
            if place in self.iatts:
                assert place is not None
                return place
        return max(self.iatts, key=lambda place: (self.iatts[place].ctime_ns, -place))

    def merged(self, hashed: int = -1) -> Iatt:
        """The attributes of the directory as a whole."""
        return merge(list(self.iatts.values()), self.iatts[self.source(hashed)])

    def healing(self, hashed: int, gfid: bytes, *, by_name: bool) -> Healing:
        """What to do; nothing while a subvolume cannot be asked.  Copies can be made only where the name is known."""
        if not self.whole or self.found.misc or self.found.no_space or self.conflict or not self.iatts:
            return _NOTHING
        source = self.iatts[self.source(hashed)]
        wanted = (source.mode & 0o7777, source.uid, source.gid)
        make = self.missing if by_name else ()
        if not by_name and self.missing:
            return _NOTHING  # a layout over some of the subvolumes would be wrong as soon as the others are back
        differing = tuple(p for p, i in self.iatts.items() if (i.mode & 0o7777, i.uid, i.gid) != wanted)
        user = any(e.type == TYPE_USER for e in self.extents)
        relayout = self.found.damaged and not user
        shares = tuple(e.place for e in self.extents if e.error) if not relayout and not self.found.damaged else ()
        mark = hashed if gfid != ROOT_GFID and self.mds is None and hashed >= 0 else None
        return Healing(make, relayout, shares, differing, mark, self.behind)


def merge(iatts: Sequence[Iatt], source: Iatt) -> Iatt:
    """One directory's attributes out of several copies': times and links are the largest, the rest is the source's."""
    nlink, atime, mtime, ctime = source.nlink, source.atime_ns, source.mtime_ns, source.ctime_ns
    for iatt in iatts:
        nlink = max(nlink, iatt.nlink)
        atime = max(atime, iatt.atime_ns)
        mtime = max(mtime, iatt.mtime_ns)
        ctime = max(ctime, iatt.ctime_ns)
    gfid, mode, _, uid, gid, rdev, _, _, blksize, _, _, _, xdata = source
    return _new(
        Iatt, (gfid, mode, nlink, uid, gid, rdev, DIRECTORY_SIZE, DIRECTORY_BLOCKS, blksize, atime, mtime, ctime, xdata)
    )


def unchanged(known: Directory, answers: Sequence[Iatt | FopError], names: XattrNames) -> Iatt | None:
    """The merged attributes when all answers say of `known` what is known of it and agree; None: survey them."""
    source = answers[known.mds or 0]
    if source.__class__ is not Iatt:
        return None
    gfid, mode, _, uid, gid = source[:5]
    if gfid != known.gfid:
        return None
    for place, (answer, share) in enumerate(zip(answers, known.layout.raw, strict=True)):
        if answer.__class__ is not Iatt:
            return None
        found = answer.xdata
        if found is None or found.get(names.layout) != share:
            return None
        if found.get(names.mds) != (MDS_AT_REST if place == known.mds else None):
            return None
        if answer.gfid != gfid or answer.mode != mode or answer.uid != uid or answer.gid != gid:
            return None
    return merge(answers, source)  # type: ignore[arg-type]
