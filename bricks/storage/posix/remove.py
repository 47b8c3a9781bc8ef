"""Taking names away and moving them: unlink, rmdir, rename.

A file's last name goes after its handle: a crash in between leaves a name without a handle, which the next lookup
mends, and never a handle without a name, which would hold the space for ever.  A file that is open keeps its handle,
moved to `.glusterfs/unlink`, until the last descriptor goes.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import NamedTuple

from fusemux.bricks.storage.posix.base import OpenFile, stale
from fusemux.bricks.storage.posix.directories import DirHandle
from fusemux.bricks.storage.posix.entry import EntryFops
from fusemux.bricks.storage.posix.handle import path_of, unlink_path
from fusemux.bricks.storage.posix.syscalls import renameat2
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Frame, Iatt, Xdata, gfid_text

__all__ = ["RECURSIVE", "RENAME_EXCHANGE", "RENAME_NOREPLACE", "RemoveFops"]

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
RECURSIVE = b"glusterfs.rmdir-recursive"  # xdata of rmdir: move the whole tree away (heal)


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


class RemoveFops(EntryFops):
    def unlink(self, frame: Frame, parent: Inode, name: bytes, inode: Inode, xdata: Xdata = None) -> None:
        directory = self.parent(parent, name)
        st = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        if stat.S_ISDIR(st.st_mode):
            raise FopError(errno.EISDIR)
        gfid = inode.gfid
        file = self.opened.get(gfid)
        if file is None or file.ino != st.st_ino:
            self.expect(directory, name, gfid)
        if st.st_nlink > 2:
            os.unlink(name, dir_fd=directory.fd)
            self._unnamed(frame, gfid, directory, name)
        elif file is None:
            self._remove_last(directory, name, gfid)
        else:
            self._keep_nameless(file)
            try:
                os.unlink(name, dir_fd=directory.fd)
            except OSError:
                self._unkeep(file)
                raise
            self.stamp_file(file, frame.time_ns, modified=False)
        self.stamp_dir(directory, frame.time_ns)

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

    def _keep_nameless(self, file: OpenFile) -> None:
        """The last name of an open file goes."""
        with suppress(FileNotFoundError):
            os.rename(path_of(file.gfid), unlink_path(file.gfid), src_dir_fd=self.gl, dst_dir_fd=self.gl)
        file.nameless = True

    def _unkeep(self, file: OpenFile) -> None:
        with suppress(FileNotFoundError):
            os.rename(unlink_path(file.gfid), path_of(file.gfid), src_dir_fd=self.gl, dst_dir_fd=self.gl)
        file.nameless = False

    def _unnamed(self, frame: Frame, gfid: bytes, directory: DirHandle, name: bytes) -> None:
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
        self._forget_dir(gfid)
        self.stamp_dir(directory, frame.time_ns)

    def _forget_dir(self, gfid: bytes) -> None:
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
        self.drop_dir(gfid)

    # -- rename ----------------------------------------------------------------------------------------------

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
        moved = self._entry(old, name)
        if moved.gfid is not None and moved.gfid != inode.gfid:
            raise stale(inode.gfid, f"is no longer at {name!r}")
        gfid = inode.gfid
        there = self._entry_or_none(new, newname)
        if there is not None and there.st.st_ino == moved.st.st_ino:
            return self._same(old, name, new, newname, flags, gfid)
        if flags & RENAME_EXCHANGE and there is not None and there.gfid is not None:
            renameat2(old.fd, name, new.fd, newname, flags)
            self._relabel(there, there.gfid, new, newname, old, name)
            self._touch(frame, there.gfid)
        elif flags:
            renameat2(old.fd, name, new.fd, newname, flags)
        else:
            self._replace(frame, old, name, new, newname, there)
        self._relabel(moved, gfid, old, name, new, newname)
        times = self._touch(frame, gfid)
        self.stamp_dir(old, frame.time_ns)
        if new is not old:
            self.stamp_dir(new, frame.time_ns)
        return self.iatt(gfid, os.stat(newname, dir_fd=new.fd, follow_symlinks=False), times)

    def _entry(self, directory: DirHandle, name: bytes) -> _Entry:
        st = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        gfid = self.xattrs.get(directory.fd, name, self.GFID)
        return _Entry(st, gfid, None if gfid is None else self.opened.get(gfid))

    def _entry_or_none(self, directory: DirHandle, name: bytes) -> _Entry | None:
        try:
            return self._entry(directory, name)
        except FileNotFoundError:
            return None

    def _same(self, old: DirHandle, name: bytes, new: DirHandle, newname: bytes, flags: int, gfid: bytes) -> Iatt:
        """Two names of one file: POSIX wants nothing done, but the flags are checked."""
        renameat2(old.fd, name, new.fd, newname, flags)
        return self.look(new, newname)

    def _replace(
        self, frame: Frame, old: DirHandle, name: bytes, new: DirHandle, newname: bytes, there: _Entry | None
    ) -> None:
        """Rename, and settle what lay at the new name."""
        if there is None or there.gfid is None:
            os.rename(name, newname, src_dir_fd=old.fd, dst_dir_fd=new.fd)
            return
        if there.last and there.file is not None:
            self._keep_nameless(there.file)
        try:
            os.rename(name, newname, src_dir_fd=old.fd, dst_dir_fd=new.fd)
        except OSError:
            if there.last and there.file is not None:
                self._unkeep(there.file)
            raise
        if there.is_dir:
            self._forget_dir(there.gfid)
        elif not there.last:
            self._unnamed(frame, there.gfid, new, newname)
        elif there.file is None:
            with suppress(FileNotFoundError):
                os.unlink(path_of(there.gfid), dir_fd=self.gl)
        else:
            self.stamp_file(there.file, frame.time_ns, modified=False)

    def _relabel(self, entry: _Entry, gfid: bytes, old: DirHandle, name: bytes, new: DirHandle, newname: bytes) -> None:
        """What a moved object keeps of its name: a directory's handle, a file's record."""
        if entry.is_dir:
            with suppress(FileNotFoundError):
                os.unlink(path_of(gfid), dir_fd=self.gl)
            self.link_directory(new, newname, gfid)
            return
        where: int | str = entry.file.fd if entry.file is not None else self.handle_path(gfid)
        self.erase_name(where, old, name)
        self.record_name(where, new, newname)

    def _touch(self, frame: Frame, gfid: bytes) -> tuple[int, int, int] | None:
        """The object's change time moves with its name."""
        file, directory = self.opened.get(gfid), self.dirs.get(gfid)
        if file is not None:
            self.stamp_file(file, frame.time_ns, modified=False)
            return file.times
        if directory is None and os.path.islink(self.handle_path(gfid)):
            path = self.handle_path(gfid)
            if self.get_xattr(path, self.GFID) is not None:
                return self.stamp(path, gfid, frame.time_ns)
            directory = self.dir(gfid)
        if directory is not None:
            return self.stamp(directory.fd, gfid, frame.time_ns)
        return self.stamp(self.handle_path(gfid), gfid, frame.time_ns)

    # -- what is left over -----------------------------------------------------------------------------------

    def purge(self) -> None:
        """At start: nothing is open yet, so what `unlink` holds was left by a crash; and empty the landfill."""
        for name in _listed(self.gl, "unlink"):
            with suppress(IsADirectoryError):
                os.unlink(f"unlink/{name}", dir_fd=self.gl)
        self.purge_landfill()

    def purge_landfill(self) -> None:
        """Delete the directories that heal moved away, with the handles of all they hold."""
        for name in _listed(self.gl, "landfill"):
            fd = os.open(
                f"landfill/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.gl
            )
            try:
                self._raze(fd)
            finally:
                os.close(fd)
            os.rmdir(f"landfill/{name}", dir_fd=self.gl)

    def _raze(self, fd: int) -> None:
        for name in map(os.fsencode, os.listdir(fd)):
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            gfid = self.xattrs.get(fd, name, self.GFID)
            if stat.S_ISDIR(st.st_mode):
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                try:
                    self._raze(inner)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)
            if gfid is not None and (stat.S_ISDIR(st.st_mode) or st.st_nlink <= 2):
                self.drop_dir(gfid)
                with suppress(FileNotFoundError):
                    os.unlink(path_of(gfid), dir_fd=self.gl)


def _listed(gl: int, folder: str) -> list[str]:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=gl)
    except FileNotFoundError:
        return []
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)
