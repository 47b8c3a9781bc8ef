"""The brick's directory itself: checked before it is served, laid out when it is new.

Messages say what is wrong with which directory and how to go on, because this is where mixed-up bricks are found.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid

from fusemux.bricks.storage.posix.handle import DOT_GLUSTERFS, path_of
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.types import ROOT_GFID

__all__ = ["GFID", "VOLUME_ID", "check", "lay_out", "volume_of"]

GFID = b"trusted.gfid"
VOLUME_ID = b"trusted.glusterfs.volume-id"


def volume_of(path: str, name: bytes = VOLUME_ID) -> uuid.UUID | None:
    """The volume that the directory `path` is a brick of, None when of none.  Raises OSError."""
    try:
        value = os.getxattr(path, name)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise
    return uuid.UUID(bytes=value) if len(value) == 16 else uuid.UUID(int=0)


def check(path: str, volume_id: str | None, name: bytes = VOLUME_ID) -> None:
    """Whether `path` is the brick that the volfile means.  Raises FusemuxError."""
    try:
        st = os.stat(path)
    except OSError as error:
        raise FusemuxError(f"brick {path}: {error.strerror}; is its file system mounted?") from None
    if not stat.S_ISDIR(st.st_mode):
        raise FusemuxError(f"brick {path} is not a directory")
    try:
        found = volume_of(path, name)
    except OSError as error:
        raise FusemuxError(f"brick {path}: its file system keeps no extended attributes ({error.strerror})") from None
    if volume_id is None:
        return
    wanted = uuid.UUID(volume_id)
    if found is None:
        raise FusemuxError(
            f"brick {path} carries no volume-id, so it may be an empty mount point or another disk; "
            f"mount the right one, or make it a brick of volume {wanted} anew"
        )
    if found != wanted:
        raise FusemuxError(
            f"brick {path} belongs to volume {found}, not to {wanted}; give this volume another directory"
        )


def lay_out(path: str, gfid_name: bytes = GFID) -> None:
    """`.glusterfs` with all it needs, and the root's gfid; what exists stays."""
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _set_root_gfid(path, root, gfid_name)
        private = 0o600 if os.geteuid() == 0 else 0o700
        _mkdir(DOT_GLUSTERFS, private, root)
        gl = os.open(DOT_GLUSTERFS, os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
        try:
            _fill(gl, private)
        finally:
            os.close(gl)
    finally:
        os.close(root)


def _set_root_gfid(path: str, root: int, name: bytes) -> None:
    try:
        found = os.getxattr(root, name)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        os.setxattr(root, name, ROOT_GFID, os.XATTR_CREATE)
        return
    if found != ROOT_GFID:
        raise FusemuxError(f"{path} is a directory inside a brick (gfid {found.hex()}), not a brick's root")


def _fill(gl: int, private: int) -> None:
    if not os.path.exists(f"/proc/self/fd/{gl}/ff"):
        for byte in range(256):
            _mkdir(f"{byte:02x}", 0o700, gl)
    _mkdir("00/00", 0o700, gl)
    try:
        os.symlink("../../..", path_of(ROOT_GFID), dir_fd=gl)
    except FileExistsError:
        pass
    _mkdir("unlink", private, gl)
    _mkdir("landfill", 0o755, gl)


def _mkdir(name: str | bytes, mode: int, dirfd: int) -> None:
    try:
        os.mkdir(name, mode, dir_fd=dirfd)
    except FileExistsError:
        pass
