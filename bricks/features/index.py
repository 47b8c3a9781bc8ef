"""features/index: which files of a brick need healing, so that the healer never walks the whole brick.

Every gfid whose pending (or dirty) counters are not zero has a name in `.glusterfs/indices/xattrop` (or `dirty`): a hard
link to one empty base file, so that an entry costs a name and no inode.  It is added on the way down, before the
counter is set, and removed on the way back when all counters that the answer shows are zero: a crash between leaves
an entry too many, never one too few.  `entry-changes/<gfid of a directory>/<name>` says which names of a directory changed
while a copy was away (granular entry heal); replicate asks for these with xdata keys.

What is listed is mirrored in memory (16 bytes an entry), so a counter that was and stays zero costs no system call.

The healer reads an index by xattrs of the root: `glusterfs.index.xattrop`, `glusterfs.index.dirty` and
`glusterfs.index.entry-changes` answer gfids of 16 bytes, one after the other; `glusterfs.index.names` of a directory
answers its changed names, each ended by a NUL.  Whether the index tells everything is noted beside it (run.py); removing
`glusterfs.index.past` says that all copies were compared.

Source: GlusterFS features/index; design facts, bricks section 8.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from fusemux.bricks.features.run import Run
from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.options import Option
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import ROOT_GFID, Frame, Xdata, gfid_text

__all__ = ["ENTRY_CREATE", "ENTRY_DELETE", "Index"]

ENTRY_CREATE = b"glusterfs.xattrop-entry-create"  # xdata of xattrop: this name of the directory changed
ENTRY_DELETE = b"glusterfs.xattrop-entry-delete"  # ... and is healed
_ASK = b"glusterfs.index."
_PAST = _ASK + b"past"
_GFID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


log = logging.getLogger("fusemux.index")


class Index(Translator):
    type = "features/index"
    options = (
        Option("index-base", "path", None, "Where the index lies: BRICK/.glusterfs/indices.", live=False),
        Option("xattrop64-watchlist", "list", "", "Counters of 64 bits to watch (disperse).", live=False),
        Option("xattrop-dirty-watchlist", "list", "", "Counters whose files are listed in `dirty`.", live=False),
        Option("xattrop-pending-watchlist", "list", "", "Prefixes of counters whose files are listed in `xattrop`.", live=False),
    )  # fmt: skip

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._listing_of = _Kinds(self._kind)  # of the counters seen so far; as many as there are bricks
        self._below: Any = None
        self._listings: list[_Listing] = []
        self._pooled = True
        self.run: Run | None = None

    async def init(self) -> None:
        if not self.opt.index_base:
            raise FusemuxError(f"{self.name}: option index-base is missing; it is BRICK/.glusterfs/indices")
        self._pooled = _waits(self)
        await self._blocking(self._open)

    async def fini(self) -> None:
        for listing in self._listings:
            listing.close()

    def linked(self) -> None:
        self._pooled = self.suspends
        self._below = self.child.now.get("xattrop")

    def _open(self) -> None:
        self._uuid = str(uuid.uuid4())
        for kind in ("xattrop", "dirty", "entry-changes"):
            self._listings.append(_Listing(os.path.join(self.opt.index_base, kind), kind))
        self._xattrop, self._dirtied, self._changes = self._listings
        self.run = Run(self.opt.index_base, durable=self._pooled)

    async def ended_well(self) -> None:
        """The brick has stopped as it should."""
        if self.run is not None:
            try:
                await self._blocking(self.run.end)
            except OSError as error:
                log.warning(
                    "%s: %s cannot be noted to have ended well: %s", self.name, self.opt.index_base, error.strerror
                )

    def lose_power(self) -> None:
        """The brick has just lost what was not synced."""
        if self.run is not None:
            self.run.lose()

    async def _blocking(self, work: Callable[..., Any], *args: Any) -> Any:
        return await self.process.pool.run(self.opt.index_base, work, *args) if self._pooled else work(*args)

    def _kind(self, key: bytes) -> _Listing | None:
        if key in _encoded(self.opt.xattrop_dirty_watchlist):
            return self._dirtied
        pending = _encoded((*self.opt.xattrop_pending_watchlist, *self.opt.xattrop64_watchlist))
        return self._xattrop if key.startswith(pending) else None

    # -- fops ------------------------------------------------------------------------------------------------

    async def xattrop(
        self, frame: Frame, target: Inode | Fd, op: int, xattrs: Mapping[bytes, bytes], xdata: Xdata = None
    ) -> Mapping[bytes, bytes]:
        gfid = (target if isinstance(target, Inode) else target.inode).gfid
        try:
            if self._is_unlisted(gfid, xattrs, xdata):
                await self._blocking(self._list, gfid, xattrs, xdata)
            values: Mapping[bytes, bytes] = await self.child.xattrop(frame, target, op, xattrs, xdata)
            if self._is_listed(gfid, xdata):
                await self._blocking(self._settle, gfid, values, xdata)
        except OSError as error:
            raise FopError.of(error, by_name=True) from None
        return values

    def now(self, fop: str) -> Callable[..., Any] | None:
        return self._xattrop_now if fop == "xattrop" and not self.suspends and fop in self.child.now else None

    def _xattrop_now(
        self, frame: Frame, target: Inode | Fd, op: int, xattrs: Mapping[bytes, bytes], xdata: Xdata = None
    ) -> Mapping[bytes, bytes]:
        gfid = (target if isinstance(target, Inode) else target.inode).gfid
        self._list(gfid, xattrs, xdata)
        values: Mapping[bytes, bytes] = self._below(frame, target, op, xattrs, xdata)
        if gfid in self._dirtied.gfids or gfid in self._xattrop.gfids or xdata is not None:
            self._settle(gfid, values, xdata)
        return values

    # -- listing: the first of each pair says whether there may be anything to do on the disk --------------------

    def _is_unlisted(self, gfid: bytes, xattrs: Mapping[bytes, bytes], xdata: Xdata) -> bool:
        for key in xattrs:
            listing = self._listing_of[key]
            if listing is not None and gfid not in listing.gfids:
                return True
        return xdata is not None and ENTRY_CREATE in xdata

    def _list(self, gfid: bytes, xattrs: Mapping[bytes, bytes], xdata: Xdata) -> None:
        for key, delta in xattrs.items():
            listing = self._listing_of[key]
            if listing is not None and gfid not in listing.gfids and any(delta):
                listing.add(gfid, self._uuid)
        if xdata is not None and ENTRY_CREATE in xdata:
            self._changes.add_name(gfid, xdata[ENTRY_CREATE], self._uuid)

    def _is_listed(self, gfid: bytes, xdata: Xdata) -> bool:
        return (
            gfid in self._dirtied.gfids
            or gfid in self._xattrop.gfids
            or (xdata is not None and ENTRY_DELETE in xdata)
        )  # fmt: skip

    def _settle(self, gfid: bytes, values: Mapping[bytes, bytes], xdata: Xdata) -> None:
        for listing in (self._dirtied, self._xattrop):
            if gfid in listing.gfids and not self._counts(listing, values):
                listing.remove(gfid)
        if xdata is not None and ENTRY_DELETE in xdata:
            self._changes.remove_name(gfid, xdata[ENTRY_DELETE])

    def _counts(self, listing: _Listing, values: Mapping[bytes, bytes]) -> bool:
        """Whether the file stays in `listing`: one of its counters is not zero, or the answer shows none of them."""
        shown = False
        for key, value in values.items():
            if self._listing_of[key] is listing:
                if any(value):
                    return True
                shown = True
        return not shown

    async def getxattr(
        self, frame: Frame, target: Inode | Fd, name: bytes | None, xdata: Xdata = None
    ) -> Mapping[bytes, bytes]:
        if name is None or not name.startswith(_ASK):
            answer: Mapping[bytes, bytes] = await self.child.getxattr(frame, target, name, xdata)
            return answer
        gfid = (target if isinstance(target, Inode) else target.inode).gfid
        return {name: await self._blocking(self._asked, gfid, name.removeprefix(_ASK).decode())}

    async def removexattr(self, frame: Frame, target: Inode | Fd, name: bytes, xdata: Xdata = None) -> None:
        """`glusterfs.index.KIND.GFID` (32 hex digits) of the root takes a file that no copy has any more off the list.

        `glusterfs.index.past` says that the copies are alike, whatever happened before.
        """
        if not name.startswith(_ASK):
            await self.child.removexattr(frame, target, name, xdata)
            return
        if name == _PAST:
            if self.run is not None:
                await self._blocking(self.run.vouch)
            return
        kind, _, gfid = name.removeprefix(_ASK).decode().partition(".")
        listing = {"xattrop": self._xattrop, "dirty": self._dirtied, "entry-changes": self._changes}.get(kind)
        if listing is None or bytes.fromhex(gfid) not in listing.gfids:
            raise FopError(errno.ENODATA, f"{gfid} is not in the index {kind!r}")
        remove = listing.remove_names if listing is self._changes else listing.remove
        await self._blocking(remove, bytes.fromhex(gfid))

    def _asked(self, gfid: bytes, kind: str) -> bytes:
        if kind == "names":
            return b"".join(name + b"\0" for name in self._changes.names(gfid))
        listing = {"xattrop": self._xattrop, "dirty": self._dirtied, "entry-changes": self._changes}.get(kind)
        if listing is None or gfid != ROOT_GFID:
            raise FopError(errno.ENODATA, f"there is no index {kind!r} here")
        return b"".join(sorted(listing.gfids))

    def statedump(self) -> dict[str, Any]:
        return {"xattrop": len(self._xattrop.gfids), "dirty": len(self._dirtied.gfids)}


class _Kinds(dict[bytes, "_Listing | None"]):
    """For each counter where the files are listed in which it is not zero."""

    def __init__(self, find: Callable[[bytes], _Listing | None]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, key: bytes) -> _Listing | None:
        found = self[key] = self._find(key)
        return found


class _Listing:
    """One directory of the index.  Plain synchronous code: the translator decides where it runs."""

    def __init__(self, path: str, kind: str) -> None:
        os.makedirs(path, mode=0o700, exist_ok=True)
        self.path = path
        self.kind = kind
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # no path is walked for an entry
        self.gfids = {uuid.UUID(name).bytes for name in os.listdir(path) if _GFID.fullmatch(name)}

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def _link(self, place: str, base: str) -> None:
        source = f"{self.kind}-{base}"
        try:
            if not self._linked(source, place):
                self._make(source)
                self._linked(source, place)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            self._make(place)

    def _linked(self, source: str, place: str) -> bool:
        """Whether the entry is there now; False when the base file is missing."""
        try:
            os.link(source, place, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except FileExistsError:
            pass  # listed in an earlier run of the brick
        except FileNotFoundError:
            return False
        return True

    def _make(self, name: str) -> None:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0, dir_fd=self.fd))

    def add(self, gfid: bytes, base: str) -> None:
        self._link(gfid_text(gfid), base)
        self.gfids.add(gfid)

    def remove(self, gfid: bytes) -> None:
        try:
            os.unlink(gfid_text(gfid), dir_fd=self.fd)
        except FileNotFoundError:
            pass
        self.gfids.discard(gfid)

    # The entry-changes index holds a directory per gfid and links in it.

    def add_name(self, gfid: bytes, name: bytes, base: str) -> None:
        folder = gfid_text(gfid)
        if gfid not in self.gfids:
            os.makedirs(f"{self.path}/{folder}", mode=0o700, exist_ok=True)
            self.gfids.add(gfid)
        self._link(f"{folder}/{os.fsdecode(name)}", base)

    def remove_name(self, gfid: bytes, name: bytes) -> None:
        folder = f"{self.path}/{gfid_text(gfid)}"
        try:
            os.unlink(f"{folder}/{os.fsdecode(name)}")
            os.rmdir(folder)
            self.gfids.discard(gfid)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise

    def remove_names(self, gfid: bytes) -> None:
        for name in self.names(gfid):
            self.remove_name(gfid, name)

    def names(self, gfid: bytes) -> list[bytes]:
        try:
            return sorted(os.fsencode(name) for name in os.listdir(f"{self.path}/{gfid_text(gfid)}"))
        except FileNotFoundError:
            return []


def _waits(translator: Translator) -> bool:
    """Whether what is below may wait, before the edges are bound: the leaf knows it."""
    if not translator.children:
        return translator.suspends
    return any(_waits(edge.translator) for edge in translator.children)


def _encoded(words: Any) -> tuple[bytes, ...]:
    return tuple(word.encode() for word in words or ())
