"""Linkto files: what stands where a name hashes when its data is elsewhere.

An empty regular file of mode 01000 with the gfid of the data and an xattr that names the subvolume (its translator, with a NUL).
Mode and xattr together make it one; a user's own file of mode 01000 is a file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

import trio

from fusemux.graph.cluster.distribute.base import GONE, DistributeBase, internal
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import DirEntry, Frame, Iatt

__all__ = ["LINKTO_MODE", "Linktos", "may_be_linkto"]

LINKTO_MODE = stat.S_IFREG | 0o1000
_MASK = 0o177777
_BATCH = 64  # entries asked for at a time where a directory is looked through
# Tells a brick of GlusterFS that other clients use to remove the file only if it still is a linkto file.
_ONLY_LINKTO = {b"unlink-only-if-dht-linkto-file": b"\0\0\0\1"}


def may_be_linkto(iatt: Iatt) -> bool:
    """Whether its mode is that of a linkto file."""
    return iatt.mode & _MASK == LINKTO_MODE


class Linktos(DistributeBase):
    """Reading, making and removing them."""

    def target_of(self, iatt: Iatt) -> int | None:
        """Where a linkto file points to; None when `iatt` (asked with its xattr) is none, -1 when to nobody here."""
        if iatt.mode & _MASK != LINKTO_MODE:
            return None
        text = (iatt.xdata or {}).get(self.xattr.linkto)
        if text is None:
            return None
        return self.place_of_name.get(bytes(text).rstrip(b"\0"), -1)

    async def see(self, frame: Frame, place: int, parent: Inode, name: bytes) -> Iatt | None:
        """What is called `name` on one subvolume, linkto or not; None when nothing is."""
        request = {self.xattr.linkto: None}
        try:
            iatt: Iatt = await self.children[place].lookup(internal(frame), parent, name, request)
        except FopError as error:
            if error.errno in GONE:
                return None
            raise
        return iatt

    async def make_linkto(
        self, frame: Frame, place: int, parent: Inode, name: bytes, gfid: bytes, target: int, owner: Iatt | None = None
    ) -> None:
        """Make `name` on subvolume `place` point to `target`; a stale linkto file in the way is replaced.

        `owner` is the file's, for its user and group.  Raises EEXIST when something else has the name there.
        """
        own = internal(frame, owner)
        xattrs = {self.xattr.linkto: self.names[target].encode() + b"\0"}
        for attempt in range(2):
            try:
                await self.children[place].mknod(own, parent, name, LINKTO_MODE, 0, gfid, xattrs)
                return
            except FopError as error:
                if error.errno != errno.EEXIST or attempt:
                    raise
            there = await self.see(frame, place, parent, name)
            if there is None:
                continue
            points_to = self.target_of(there)
            if points_to is None:
                raise FopError(errno.EEXIST, f"{name!r} on {self.names[place]} is no linkto file")
            if there.gfid == gfid and points_to == target:
                return
            await self.remove_linkto(frame, place, parent, name, there.gfid)

    async def remove_linkto(self, frame: Frame, place: int, parent: Inode, name: bytes, gfid: bytes) -> None:
        """Remove what was just seen to be a linkto file; that it is gone is as good."""
        inode = self.table.learn(gfid, stat.S_IFREG)
        try:
            await self.children[place].unlink(internal(frame), parent, name, inode, _ONLY_LINKTO)
        except FopError as error:
            if error.errno not in GONE:
                raise

    async def visit(self, frame: Frame, place: int, inode: Inode, look: Callable[[DirEntry], bool]) -> None:
        """Show `look` what one subvolume has in a directory, linkto files included, until it answers False or raises."""
        edge = self.children[place]
        fd = self.table.fd(inode, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with trio.CancelScope(shield=True):
                await edge.opendir(frame, inode, fd)
            try:
                offset = 0
                while batch := await edge.readdir(frame, fd, _BATCH, offset, True, {self.xattr.linkto: None}):
                    for entry in batch:
                        if not look(entry):
                            return
                    offset = batch[-1].offset
            finally:
                with trio.CancelScope(shield=True):
                    await edge.release(frame, fd)
        finally:
            self.table.closed(fd)
