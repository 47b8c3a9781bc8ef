"""Finding names, and mending what a crash in the middle of a create has left behind.

A create makes the object, sets its gfid, records everything else, and links its handle.  A crash in between leaves
a name without a gfid, or without a handle; the next lookup completes it, the first only when the caller offers
a gfid (`gfid-req` in xdata).  Who only wants to know what is there (`glusterfs.gfid-less` in xdata) is told a gfid of zeros.

A crash over another or a changed name of a file leaves records (gfid2path) that are not what its names are.  Whoever
looks at names in order to heal them, which is he who asks for `glusterfs.gfid-less`, has them mended.  He also has the times
recorded of files that lack them where times are recorded late (late.py), so that those of all copies can be made equal.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from fusemux.bricks.storage.posix.base import stale
from fusemux.bricks.storage.posix.directories import DirHandle
from fusemux.bricks.storage.posix.handle import DOT_GLUSTERFS, folder_of, link_text, path_of, path_record
from fusemux.bricks.storage.posix.mdata import Times
from fusemux.bricks.storage.posix.stamps import Stamps
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import ROOT_GFID, Frame, Iatt, Xdata, gfid_text

__all__ = ["GFID_LESS", "GFID_REQ", "LookupFops"]

GFID_REQ = b"gfid-req"
GFID_LESS = b"glusterfs.gfid-less"
_NONE = bytes(16)
_OPEN_COUNT = b"glusterfs.open-fd-count"


class LookupFops(Stamps):
    def lookup(self, frame: Frame, inode: Inode, name: bytes, xdata: Xdata = None) -> Iatt:
        if not name:
            return self._lookup_gfid(inode, xdata)
        directory = self.dir(inode.gfid)
        if name[0] == 46 and name in (b".", b"..", DOT_GLUSTERFS):
            if name == b"." or (name == b".." and inode.gfid == ROOT_GFID):
                return self._lookup_gfid(inode, xdata)
            self.guard(directory, name, errno.ENOENT)
        return self.look(directory, name, xdata)

    def look(self, directory: DirHandle, name: bytes, xdata: Xdata = None) -> Iatt:
        """The attributes of `name`.  Raises FileNotFoundError, or ENODATA for a name without gfid."""
        st = self.stat_at(directory.fd, name)
        gfid = self.xattrs.get(directory.fd, name, self.GFID)
        if gfid is None:
            if xdata is not None and GFID_LESS in xdata:
                return self.iatt(_NONE, st, None)
            gfid = self.give_gfid(directory, name, st, xdata)
            st = self.stat_at(directory.fd, name)
        known = self.opened.get(gfid) or self.dirs.get(gfid)
        if known is not None:
            times = known.times
        else:
            times = self.times_at(directory.fd, name, gfid)
            if stat.S_ISDIR(st.st_mode):
                self.check_link(directory, name, gfid)
            elif st.st_nlink == 1:
                self.give_handle(directory, name, gfid)
                st = self.stat_at(directory.fd, name)
        if xdata is None:
            return self.iatt(gfid, st, times)
        if self.late:
            self.record_late(gfid)
        present = self.xattrs.list(directory.fd, name)
        if GFID_LESS in xdata and not stat.S_ISDIR(st.st_mode):
            self._check_records(directory, name, st, present)
            if times is None and self.recorder is not None and self.ctime:
                times = self._keep_times_of_store(directory, name, gfid, st)
        answers = self.answers(xdata, gfid, present, (directory.fd, name))
        return self.iatt(gfid, st, times, answers)

    def _lookup_gfid(self, inode: Inode, xdata: Xdata) -> Iatt:
        iatt = self.stat(Frame(), inode, xdata)
        if iatt.nlink == 0 and iatt.is_dir:
            raise stale(inode.gfid, "was removed")
        return iatt

    def stat(self, frame: Frame, target: Inode | Fd, xdata: Xdata = None) -> Iatt:
        gfid = target.gfid if isinstance(target, Inode) else target.inode.gfid
        where = self.where(target)
        st = self.stat_of(where)
        times = self.times_of(where, gfid)
        if xdata is None:
            return self.iatt(gfid, st, times)
        if self.late:
            self.record_late(gfid)
        names = os.listxattr(where) if isinstance(where, int) else os.listxattr(where, follow_symlinks=False)
        return self.iatt(gfid, st, times, self.answers(xdata, gfid, map(os.fsencode, names), where))

    def readlink(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> bytes:
        return os.readlink(os.fsencode(self.handle_path(inode.gfid)))

    # -- xattrs asked for along the way ----------------------------------------------------------------------

    def answers(
        self, xdata: Any, gfid: bytes, present: Iterable[bytes], where: int | str | tuple[int, bytes]
    ) -> dict[bytes, bytes]:
        """Those of the xattrs asked for in `xdata` (with None) that exist."""
        names = set(present)
        answers: dict[bytes, bytes] = {}
        for key, value in xdata.items():
            if value is not None:
                continue
            stored = self.stored(key)
            if stored in names:
                found = self.xattrs.get(*where, stored) if isinstance(where, tuple) else self.get_xattr(where, stored)
                if found is not None:
                    answers[key] = found
            elif key == _OPEN_COUNT:
                file = self.opened.get(gfid)
                answers[key] = b"%d" % (0 if file is None else file.refs)
        return answers

    # -- completing what a crash left ------------------------------------------------------------------------

    def give_gfid(self, directory: DirHandle, name: bytes, st: os.stat_result, xdata: Xdata) -> bytes:
        """`name` was seen without a gfid: give it that of the request."""
        found = self.xattrs.get(directory.fd, name, self.GFID)
        if found is not None:  # it was being made at that moment
            return found
        gfid = None if xdata is None else xdata.get(GFID_REQ)
        if not isinstance(gfid, bytes) or len(gfid) != 16:
            raise FopError(errno.ENODATA, f"{name!r} in {gfid_text(directory.gfid)} has no gfid")
        here = self.path_at(directory, name)
        folder = stat.S_ISDIR(st.st_mode)
        held = os.path.lexists(self.handle_path(gfid))
        if held and not (self.link_is(directory, name, gfid) if folder else self._handle_is(gfid, st)):
            raise stale(gfid, f"is in use, {name!r} cannot get it")
        self.set_xattr(here, self.GFID, gfid, os.XATTR_CREATE)
        if folder:
            self.check_link(directory, name, gfid)
            return gfid
        self.record_name(here, directory, name)
        if not held:
            self.link_handle(directory, name, gfid)
        return gfid

    def _handle_is(self, gfid: bytes, st: os.stat_result) -> bool:
        """Whether the handle of a file is this object."""
        return self.stat_at(self.gl, path_of(gfid).encode()).st_ino == st.st_ino

    def _check_records(self, directory: DirHandle, name: bytes, st: os.stat_result, present: Iterable[bytes]) -> None:
        """A file just seen at `name` must have recorded that, and no names that it does not have."""
        if not self.gfid2path:
            return
        key, _ = path_record(self.GFID2PATH, directory.slash, name)
        recorded = [known for known in present if known.startswith(self.GFID2PATH)]
        if key not in recorded or len(recorded) != st.st_nlink - 1:
            self.mend_records(directory, name, st, recorded)

    def _keep_times_of_store(self, directory: DirHandle, name: bytes, gfid: bytes, st: os.stat_result) -> Times:
        """A crash took the first times of a new file: those of the backing store stand in for them, and move no more."""
        return self.put_times(self.path_at(directory, name), gfid, (st.st_ctime_ns, st.st_mtime_ns, st.st_atime_ns))

    def mend_records(self, directory: DirHandle, name: bytes, st: os.stat_result, recorded: list[bytes]) -> None:
        here = self.path_at(directory, name)
        self.record_name(here, directory, name)
        for known in recorded:
            value = self.get_xattr(here, known)
            if value is not None and not self._leads(value, st):
                os.removexattr(here, known, follow_symlinks=False)

    def _leads(self, record: bytes, st: os.stat_result) -> bool:
        """Whether what was recorded as a name of a file is one."""
        parent, _, name = record.partition(b"/")
        with suppress(FopError, FileNotFoundError, ValueError):
            directory = self.dir(bytes.fromhex(parent.decode().replace("-", "")))
            return self.stat_at(directory.fd, name).st_ino == st.st_ino
        return False

    def path_at(self, directory: DirHandle, name: bytes) -> str:
        """A path that leads to `name` through the descriptor of its directory."""
        return os.fsdecode(b"/proc/self/fd/%d/%s" % (directory.fd, name))

    def give_handle(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        """The file `name` was seen with one link only: it lost its handle, or was being made."""
        self.record_name(self.path_at(directory, name), directory, name)
        try:
            self.link_handle(directory, name, gfid)
        except FileExistsError:
            if not self._handle_is(gfid, self.stat_at(directory.fd, name)):
                raise stale(gfid, f"is another file than {name!r}, which carries that gfid too") from None

    def link_handle(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        """Hard link the object `name` to its handle.  Raises EEXIST when another object has that gfid."""
        path = path_of(gfid)
        try:
            os.link(name, path, src_dir_fd=directory.fd, dst_dir_fd=self.gl, follow_symlinks=False)
        except FileNotFoundError:
            self.make_folder(gfid)
            os.link(name, path, src_dir_fd=directory.fd, dst_dir_fd=self.gl, follow_symlinks=False)

    def make_folder(self, gfid: bytes) -> None:
        """`.glusterfs/AB/CD`; AB exists since the brick was made."""
        folder = folder_of(gfid)
        for part in (folder[:2], folder):
            try:
                os.mkdir(part, 0o700, dir_fd=self.gl)
            except FileExistsError:
                pass

    def link_is(self, directory: DirHandle, name: bytes, gfid: bytes) -> bool:
        """Whether the handle of the directory `name` leads there."""
        try:
            return os.readlink(os.fsencode(path_of(gfid)), dir_fd=self.gl) == link_text(directory.gfid, name)
        except FileNotFoundError:
            return False

    def check_link(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        """The handle of a directory just seen at `name` must lead there: a crash in mkdir or rename may have left another."""
        if gfid != ROOT_GFID and not self.link_is(directory, name, gfid):
            self.mend_link(directory, name, gfid)

    def mend_link(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        with suppress(FileNotFoundError):
            os.unlink(path_of(gfid), dir_fd=self.gl)
        self.link_directory(directory, name, gfid)

    def link_directory(self, directory: DirHandle, name: bytes, gfid: bytes) -> None:
        """Make the handle of directory `name`."""
        text, path = link_text(directory.gfid, name), os.fsencode(path_of(gfid))
        try:
            os.symlink(text, path, dir_fd=self.gl)
        except FileNotFoundError:
            self.make_folder(gfid)
            os.symlink(text, path, dir_fd=self.gl)

    # -- what every entry fop asks ---------------------------------------------------------------------------

    def parent(self, inode: Inode, name: bytes) -> DirHandle:
        """The directory of an entry fop on `name`."""
        directory = self.dirs.get(inode.gfid)
        if directory is None:
            directory = self._open_dir(inode.gfid)
        directory.used = True
        if name == DOT_GLUSTERFS:
            self.guard(directory, name, errno.EPERM)
        return directory

    def guard(self, directory: DirHandle, name: bytes, error: int) -> None:
        if name == DOT_GLUSTERFS and directory.gfid == ROOT_GFID:
            raise FopError(error, ".glusterfs belongs to the brick")

    def record_name(self, where: int | str, directory: DirHandle, name: bytes) -> None:
        """Note in a file that it has this name."""
        raise NotImplementedError

    def stored(self, name: bytes) -> bytes:
        """The name under which the backing store keeps the xattr `name`."""
        return name

    def shown(self, stored: bytes) -> bytes | None:
        """The inverse of `stored`; None for what callers do not see."""
        return stored
