"""The brick's directory itself: checked before it is served, laid out when it is new.

Messages say what is wrong with which directory and how to go on, because this is where mixed-up bricks are found.
`mapped` says that `trusted.*` is kept under other names (mapped.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import uuid

from fusemux.bricks.storage.posix.handle import DOT_GLUSTERFS, path_of
from fusemux.bricks.storage.posix.mapped import PREFIX
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.types import ROOT_GFID

__all__ = ["check", "file_system_of", "is_mapped", "lay_out", "mark", "strip", "volume_of"]

_GFID = b"trusted.gfid"
_VOLUME_ID = b"trusted.glusterfs.volume-id"
_PROBE = b"trusted.fusemux.probe"
_BOOKKEEPING = (_GFID, b"trusted.glusterfs.", b"trusted.afr.", b"trusted.ec.", b"trusted.pgfid.")


def _stored(name: bytes, mapped: bool) -> bytes:
    return PREFIX + name if mapped else name


def _value(path: str | int, name: bytes) -> bytes | None:
    try:
        return os.getxattr(path, name)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise


def is_mapped(path: str) -> bool:
    """Whether the brick at `path` keeps `trusted.*` under `user.*` names, or has to.  Raises FusemuxError."""
    _check_directory(path)
    try:
        if _value(path, PREFIX + _VOLUME_ID) is not None:
            return True
        os.setxattr(path, _PROBE, b"")
        os.removexattr(path, _PROBE)
        return False
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return True
        if error.errno == errno.EROFS:
            return False
        raise FusemuxError(
            f"brick {path}: its file system keeps no extended attributes ({error.strerror}); "
            "use ext4, xfs, btrfs, or tmpfs (user.* there since Linux 6.6)"
        ) from None


def volume_of(path: str, *, mapped: bool = False) -> uuid.UUID | None:
    """The volume that the directory `path` is a brick of, None when of none.  Raises OSError."""
    value = _value(path, _stored(_VOLUME_ID, mapped))
    return None if value is None else uuid.UUID(bytes=value.ljust(16, b"\0")[:16])


def mark(path: str, volume: uuid.UUID, *, mapped: bool) -> None:
    """Make `path` belong to `volume`.  Raises OSError."""
    os.setxattr(path, _stored(_VOLUME_ID, mapped), volume.bytes)


def _check_directory(path: str) -> None:
    try:
        st = os.stat(path)
    except OSError as error:
        raise FusemuxError(f"brick {path}: {error.strerror}; is its file system mounted?") from None
    if not stat.S_ISDIR(st.st_mode):
        raise FusemuxError(f"brick {path} is not a directory")


def check(path: str, volume_id: str | None, *, mapped: bool) -> None:
    """Whether `path` is the brick that the volfile means.  Raises FusemuxError."""
    try:
        wanted = None if volume_id is None else uuid.UUID(volume_id)
    except ValueError:
        raise FusemuxError(f"brick {path}: option volume-id {volume_id!r} is no uuid") from None
    found = volume_of(path, mapped=mapped)
    if wanted is None or found == wanted:
        return
    if found is None:
        raise FusemuxError(
            f"brick {path} carries no volume-id, so it may be an empty mount point or another disk; "
            f"mount the right one, or make it a brick of volume {wanted} anew"
        )
    raise FusemuxError(f"brick {path} belongs to volume {found}, not to {wanted}; give this volume another directory")


def lay_out(path: str, *, mapped: bool) -> None:
    """`.glusterfs` with all it needs, and the root's gfid; what exists stays.  Raises FusemuxError."""
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _set_root_gfid(path, root, _stored(_GFID, mapped))
            _make_dot_glusterfs(root)
        finally:
            os.close(root)
    except OSError as error:
        raise FusemuxError(f"brick {path} cannot be laid out: {error.strerror}") from None


def strip(path: str, *, mapped: bool) -> None:
    """Take everything from `path` that made it a brick: `.glusterfs` and the xattrs of the root.  Raises FusemuxError."""
    try:
        shutil.rmtree(os.path.join(path, DOT_GLUSTERFS.decode()), ignore_errors=True)
        for name in os.listxattr(path):
            if os.fsencode(name).startswith(tuple(_stored(kind, mapped) for kind in _BOOKKEEPING)):
                os.removexattr(path, name)
    except OSError as error:
        raise FusemuxError(f"brick {path} cannot be made anew: {error.strerror}") from None


def _set_root_gfid(path: str, root: int, name: bytes) -> None:
    found = _value(root, name)
    if found is None:
        os.setxattr(root, name, ROOT_GFID, os.XATTR_CREATE)
    elif found != ROOT_GFID:
        raise FusemuxError(f"{path} is a directory inside a brick (gfid {found.hex()}), not a brick's root")


def _make_dot_glusterfs(root: int) -> None:
    private = 0o600 if os.geteuid() == 0 else 0o700  # GlusterFS's; only root needs no search permission
    _mkdir(DOT_GLUSTERFS.decode(), private, root)
    gl = os.open(DOT_GLUSTERFS, os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
    try:
        missing = {f"{byte:02x}" for byte in range(256)}.difference(os.listdir(gl))
        for folder in sorted(missing):
            _mkdir(folder, 0o700, gl)
        _mkdir("00/00", 0o700, gl)
        with contextlib.suppress(FileExistsError):
            os.symlink("../../..", path_of(ROOT_GFID), dir_fd=gl)
        _mkdir("unlink", private, gl)
        _mkdir("landfill", 0o755, gl)
    finally:
        os.close(gl)


def _mkdir(name: str, mode: int, dirfd: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=dirfd)
        os.chmod(name, mode, dir_fd=dirfd)  # whatever the umask


def file_system_of(path: str) -> str:
    """The type of the file system that holds `path`, as /proc/self/mountinfo names it; empty when unknown."""
    st = os.stat(path)
    device = f"{os.major(st.st_dev)}:{os.minor(st.st_dev)}"
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            left, _, right = line.partition(" - ")
            if left.split()[2] == device:
                return right.split()[0]
    return ""
