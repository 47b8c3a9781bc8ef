"""rename, with replacing, without, and exchanging.

The kernel's rename is atomic; what the brick notes about names follows it: a directory's handle holds its place,
a file's records hold its names.  A crash in between leaves a handle that leads to the old place, which the next
lookup of the directory mends, or records of the old name, which healing mends.  The last name of a file that is replaced goes after
its handle, as in unlink.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import NamedTuple

from fusemux.bricks.storage.posix.base import OpenFile, stale
from fusemux.bricks.storage.posix.directories import DirHandle
from fusemux.bricks.storage.posix.handle import path_of
from fusemux.bricks.storage.posix.mdata import Times
from fusemux.bricks.storage.posix.remove import RemoveFops
from fusemux.bricks.storage.posix.syscalls import renameat2
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["RENAME_EXCHANGE", "RENAME_NOREPLACE", "RenameFops"]

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


class _Entry(NamedTuple):
    """What lies at a name."""

    st: os.stat_result
    gfid: bytes | None
    file: OpenFile | None

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.st.st_mode)

    @property
    def last(self) -> bool:
        """Whether this is the only name of a file (its other link is the handle)."""
        return not self.is_dir and self.st.st_nlink <= 2


class RenameFops(RemoveFops):
    def rename(
        self,
        frame: Frame,
        parent: Inode,
        name: bytes,
        newparent: Inode,
        newname: bytes,
        inode: Inode,
        replaced: Inode | None,
        flags: int,
        xdata: Xdata = None,
    ) -> Iatt:
        old, new = self.parent(parent, name), self.parent(newparent, newname)
        moved, there, gfid = self._entry(old, name), self._entry_or_none(new, newname), inode.gfid
        self.made.pop(gfid, None)
        if there is not None and there.gfid is not None:
            self.made.pop(there.gfid, None)
        if moved.gfid is not None and moved.gfid != gfid:
            raise stale(gfid, f"is no longer at {name!r}")
        if there is not None and there.st.st_ino == moved.st.st_ino:
            renameat2(old.fd, name, new.fd, newname, flags)  # names of one file: nothing happens, but flags are checked
            return self.look(new, newname)
        if flags & RENAME_EXCHANGE and there is not None and there.gfid is not None:
            renameat2(old.fd, name, new.fd, newname, flags)
            self._renamed(frame, there, there.gfid, (new, newname), (old, name))
        elif flags:
            renameat2(old.fd, name, new.fd, newname, flags)
        else:
            self._replace(frame, old, name, new, newname, there)
        times = self._renamed(frame, moved, gfid, (old, name), (new, newname))
        self.stamp_dir(old, frame.time_ns)
        if new is not old:
            self.stamp_dir(new, frame.time_ns)
        return self.iatt(gfid, self.stat_at(new.fd, newname), times)

    def _entry(self, directory: DirHandle, name: bytes) -> _Entry:
        st = self.stat_at(directory.fd, name)
        gfid = self.xattrs.get(directory.fd, name, self.GFID)
        return _Entry(st, gfid, None if gfid is None else self.opened.get(gfid))

    def _entry_or_none(self, directory: DirHandle, name: bytes) -> _Entry | None:
        try:
            return self._entry(directory, name)
        except FileNotFoundError:
            return None

    def _replace(
        self, frame: Frame, old: DirHandle, name: bytes, new: DirHandle, newname: bytes, there: _Entry | None
    ) -> None:
        """Rename, and settle what lay at the new name."""
        kept = there.file if there is not None and there.last else None
        lost = there.gfid if there is not None and there.last and kept is None else None
        if kept is not None:
            self.keep_nameless(kept)
        elif lost is not None:
            with suppress(FileNotFoundError):
                os.unlink(path_of(lost), dir_fd=self.gl)
        try:
            os.rename(name, newname, src_dir_fd=old.fd, dst_dir_fd=new.fd)
        except OSError as error:
            if kept is not None:
                self.unkeep(kept)
            elif lost is not None:
                with suppress(OSError):
                    self.link_handle(new, newname, lost)
            if error.errno == errno.EEXIST:  # POSIX lets either stand; all bricks shall say the same
                raise FopError(errno.ENOTEMPTY) from None
            raise
        if there is None or there.gfid is None:
            return
        if there.is_dir:
            self.forget_dir(there.gfid)
        elif not there.last:
            self.unnamed(frame, there.gfid, new, newname)
        elif kept is not None:
            self.stamp_file(kept, frame.time_ns, modified=False)

    def _renamed(
        self, frame: Frame, entry: _Entry, gfid: bytes, old: tuple[DirHandle, bytes], new: tuple[DirHandle, bytes]
    ) -> Times | None:
        """Note the new place of an object, and that its attributes changed."""
        if entry.is_dir:
            with suppress(FileNotFoundError):
                os.unlink(path_of(gfid), dir_fd=self.gl)
            self.link_directory(*new, gfid)
            return self.stamp(self.dir(gfid).fd, gfid, frame.time_ns)
        where: int | str = entry.file.fd if entry.file is not None else self.handle_path(gfid)
        self.erase_name(where, *old)
        self.record_name(where, *new)
        return self.stamp(where, gfid, frame.time_ns)
