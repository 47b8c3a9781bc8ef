"""Xattrs that are computed when asked for: where an object lies, who has it open.

glusterfs.open-fd-count          how many have the file open
glusterfs.gfidtopath             all paths of a file below the brick, from its gfid2path records
glusterfs.ancestry.path          the same, one for a directory
glusterfs.gfid2path              the records themselves, "<parent's gfid>/<name>"
trusted.glusterfs.pathinfo       <POSIX(BRICK):HOST:PATH>
"""

from __future__ import annotations

import errno
import os
import stat

from fusemux.bricks.storage.posix.handle import parse_link, path_of
from fusemux.bricks.storage.posix.listing import ListingFops
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import ROOT_GFID

__all__ = ["VirtualXattrs"]


class VirtualXattrs(ListingFops):
    def virtual(self, target: Inode | Fd, where: int | str, name: bytes) -> bytes:
        """The value of `name`, which is not stored.  Raises ENODATA."""
        gfid = target.gfid if isinstance(target, Inode) else target.inode.gfid
        separator = self.separator.encode()
        match name:
            case b"glusterfs.open-fd-count":
                file = self.opened.get(gfid)
                return b"%d" % (0 if file is None else file.refs)
            case b"glusterfs.gfid2path":
                return separator.join(self._records(where))
            case b"glusterfs.gfidtopath" | b"glusterfs.ancestry.path":
                return separator.join(self.paths(gfid, where))
            case b"trusted.glusterfs.pathinfo":
                path = next(iter(self.paths(gfid, where)), b"")
                brick = os.fsencode(self.path)
                return b"<POSIX(%s):%s:%s%s>" % (brick, os.uname().nodename.encode(), brick, path)
        raise FopError(errno.ENODATA)

    def _records(self, where: int | str) -> list[bytes]:
        names = map(os.fsencode, os.listxattr(where, follow_symlinks=isinstance(where, int)))
        values = [self.get_xattr(where, name) for name in sorted(names) if name.startswith(self.GFID2PATH)]
        return [value for value in values if value is not None]

    def paths(self, gfid: bytes, where: int | str) -> list[bytes]:
        """All paths of an object that the brick knows, from its root, each beginning with a slash."""
        if stat.S_ISDIR(self.stat_of(where).st_mode):
            return [self._path_of_dir(gfid)]
        found = []
        for record in self._records(where):
            parent, _, name = record.partition(b"/")
            above = self._path_of_dir(bytes.fromhex(parent.decode().replace("-", "")))
            found.append(above.rstrip(b"/") + b"/" + name)
        return found

    def _path_of_dir(self, gfid: bytes) -> bytes:
        names: list[bytes] = []
        while gfid != ROOT_GFID:
            parsed = parse_link(os.readlink(os.fsencode(path_of(gfid)), dir_fd=self.gl))
            if parsed is None or len(names) > 100_000:
                raise FopError(errno.ENODATA, "its path is not recorded")
            gfid, name = parsed
            names.append(name)
        return b"/" + b"/".join(reversed(names))
