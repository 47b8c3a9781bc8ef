"""mount(2) for one FUSE session that shows its parts at several places.

The kernel lets a connection that is mounted be mounted again, under another source; a directory of that mount is then
bound to its place and keeps the source.  So each volume of a session has a line of its own in /proc/mounts.

These calls walk through the file system that this process serves: they belong in a thread.
Source: mount(2), umount2(2), syncfs(2); Linux fs/fuse/inode.c, fuse_get_tree.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from fusemux.graph.framework.errors import FusemuxError

__all__ = ["bind", "force", "mount_again", "sync"]

_MS_BIND, _MS_REMOUNT = 4096, 32
_MS_RELATIME = 1 << 21
_MNT_FORCE, _MNT_DETACH = 1, 2
# Words that belong to a mount, not to the file system behind it.
_FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "strictatime": 1 << 24}

_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None, what: str) -> None:
    texts = (os.fsencode(source), os.fsencode(target), kind.encode() if kind else None)
    if _libc.mount(*texts, ctypes.c_ulong(flags), data.encode() if data else None):
        raise FusemuxError(f"{what} failed: {os.strerror(ctypes.get_errno())}")


def mount_again(fd: int, folder: str, source: str, subtype: str) -> None:
    """Mount the connection `fd`, which is mounted already, at `folder` too, as `source`."""
    data = f"fd={fd},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"
    _mount(source, folder, f"fuse.{subtype}", 0, data, f"mounting {source} at {folder}")


def bind(folder: str, path: str, words: Sequence[str]) -> None:
    """Show `folder` at `path`, with the generic options `words`."""
    _mount(folder, path, None, _MS_BIND, None, f"mounting at {path}")
    flags = 0
    for word in words:
        flags |= _FLAGS.get(word, 0)
    if flags:
        if not flags & (_FLAGS["noatime"] | _FLAGS["strictatime"]):
            flags |= _MS_RELATIME
        try:
            _mount("none", path, None, _MS_BIND | _MS_REMOUNT | flags, None, f"setting options of {path}")
        except FusemuxError:
            _libc.umount2(os.fsencode(path), _MNT_DETACH)
            raise


def force(path: str) -> None:
    """End the connection mounted at `path`, whoever uses it, and take the mount away."""
    _libc.umount2(os.fsencode(path), _MNT_FORCE)
    _libc.umount2(os.fsencode(path), _MNT_DETACH)


def sync(path: str) -> None:
    """Write back what the kernel has gathered for the file system at `path`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _libc.syncfs(fd)
    finally:
        os.close(fd)
