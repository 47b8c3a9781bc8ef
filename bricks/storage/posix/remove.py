"""Taking names away: unlink and rmdir.

A file's last name goes after its handle: a crash in between leaves a name without a handle, which the next lookup
mends, and never a handle without a name, which would hold the space for ever.  A file that is open keeps its handle,
moved to `.glusterfs/unlink`, until the last descriptor goes.

Whether a name is a file's last one, and that file's at all, the disk tells; of the files that this store has made lately
it knows (`made`): what else happens to their names, happens here.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from fusemux.bricks.storage.posix.base import OpenFile, stale
from fusemux.bricks.storage.posix.directories import DirHandle
from fusemux.bricks.storage.posix.entry import EntryFops
from fusemux.bricks.storage.posix.handle import path_of, unlink_path
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Frame, Xdata, gfid_text

__all__ = ["RECURSIVE", "RemoveFops"]

RECURSIVE = b"glusterfs.rmdir-recursive"  # xdata of rmdir: move the whole tree away (heal)


class RemoveFops(EntryFops):
    def unlink(self, frame: Frame, parent: Inode, name: bytes, inode: Inode, xdata: Xdata = None) -> None:
        directory = self.parent(parent, name)
        gfid = inode.gfid
        last = self.made.pop(gfid, None) == (directory.gfid, name) or self._is_last(directory, name, gfid)
        file = self.opened.get(gfid)
        if not last:
            os.unlink(name, dir_fd=directory.fd)
            self.unnamed(frame, gfid, directory, name)
        elif file is None:
            self._remove_last(directory, name, gfid)
        else:
            self.keep_nameless(file)
            try:
                os.unlink(name, dir_fd=directory.fd)
            except OSError:
                self.unkeep(file)
                raise
            self.stamp_file(file, frame.time_ns, modified=False)
        self.stamp_dir(directory, frame.time_ns)

    def _is_last(self, directory: DirHandle, name: bytes, gfid: bytes) -> bool:
        """Whether a file has no other name; it must be `gfid`."""
        st = self.stat_at(directory.fd, name)
        if stat.S_ISDIR(st.st_mode):
            raise FopError(errno.EISDIR)
        self.expect(directory, name, gfid)
        return st.st_nlink <= 2

    def expect(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        """The caller means the object `gfid`; never touch another one that took the name."""
        found = self.xattrs.get(directory.fd, name, self.GFID)
        if found is not None and found != gfid:
            raise stale(gfid, f"is no longer at {name!r}, {gfid_text(found)} is")

    def _remove_last(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        try:
            os.unlink(path_of(gfid), dir_fd=self.gl)
        except FileNotFoundError:
            pass
        try:
            os.unlink(name, dir_fd=directory.fd)
        except OSError:
            with suppress(OSError):
                self.link_handle(directory, name, gfid)
            raise

    def keep_nameless(self, file: OpenFile) -> None:
        """The last name of an open file goes."""
        with suppress(FileNotFoundError):
            os.rename(path_of(file.gfid), unlink_path(file.gfid), src_dir_fd=self.gl, dst_dir_fd=self.gl)
        file.nameless = True

    def unkeep(self, file: OpenFile) -> None:
        with suppress(FileNotFoundError):
            os.rename(unlink_path(file.gfid), path_of(file.gfid), src_dir_fd=self.gl, dst_dir_fd=self.gl)
        file.nameless = False

    def unnamed(self, frame: Frame, gfid: bytes, directory: DirHandle, name: bytes) -> None:
        """A file with more names has lost this one."""
        file = self.opened.get(gfid)
        where: int | str = file.fd if file is not None else self.handle_path(gfid)
        with suppress(FileNotFoundError):
            self.erase_name(where, directory, name)
            self.stamp(where, gfid, frame.time_ns)

    def rmdir(self, frame: Frame, parent: Inode, name: bytes, inode: Inode, xdata: Xdata = None) -> None:
        directory = self.parent(parent, name)
        gfid = inode.gfid
        self.expect(directory, name, gfid)
        if xdata is not None and RECURSIVE in xdata:
            self._to_landfill(directory, name, gfid)
        else:
            os.rmdir(name, dir_fd=directory.fd)
        self.forget_dir(gfid)
        self.stamp_dir(directory, frame.time_ns)

    def forget_dir(self, gfid: bytes) -> None:
        """A directory is gone; its open handle still answers a stat for whoever sits in it."""
        with suppress(FileNotFoundError):
            os.unlink(path_of(gfid), dir_fd=self.gl)

    def _to_landfill(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode):
            raise FopError(errno.ENOTDIR)
        with suppress(FileExistsError):
            os.mkdir("landfill", 0o700, dir_fd=self.gl)
        place = b"landfill/" + gfid_text(gfid).encode()
        os.rename(name, place, src_dir_fd=directory.fd, dst_dir_fd=self.gl)
        self.made.clear()  # whatever it holds has lost its name
        self.drop_dir(gfid)
