"""What must be there before a mount can be tried; each lack has a message with the next step in it.

The same checks serve `-f`, which mounts nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat

from fusemux.mount.errors import Exit, MountError
from fusemux.serve import mounttable, unmounting

__all__ = ["DEV_FUSE", "check_fuse", "check_target"]

DEV_FUSE = "/dev/fuse"
FUSE_CONF = "/etc/fuse.conf"


def check_target(path: str, *, replace_stale: bool = False) -> str:
    """The real path of the mount point `path`.  Raises MountError: missing, no directory, stale, ours already.

    With `replace_stale` a stale mount is cleared.
    """
    real = os.path.realpath(path)
    if replace_stale:
        _clear(real)
    elif mounttable.is_stale(real):
        raise MountError(unmounting.stale_message(real))
    try:
        mode = os.stat(real).st_mode
    except FileNotFoundError:
        raise MountError(f"mount point {path} does not exist; make it: mkdir -p {path}") from None
    except OSError as error:
        raise MountError(f"mount point {path}: {error.strerror}", _status(error)) from None
    if not stat.S_ISDIR(mode):
        raise MountError(f"mount point {path} is not a directory")
    entry = mounttable.mounted_at(real)
    if entry is not None and entry.is_ours:
        raise MountError(f"{path} is busy: {entry.source!r} is already mounted there; unmount it first: umount {path}")
    if os.geteuid() != 0 and not os.access(real, os.W_OK):
        raise MountError(
            f"mount point {path}: only its owner (or root) can mount there; you may not write to it", Exit.USAGE
        )
    return real


def _clear(path: str) -> None:
    try:
        unmounting.clear_stale(path)
    except unmounting.StaleMount as error:
        raise MountError(str(error)) from None


def _status(error: OSError) -> Exit:
    return Exit.USAGE if error.errno in (errno.EACCES, errno.EPERM) else Exit.FAILURE


def check_fuse(*, allow_other: bool | None, device: str = DEV_FUSE, conf: str = FUSE_CONF) -> None:
    """Raises MountError when FUSE cannot be used by this user."""
    try:
        mode = os.stat(device).st_mode
    except FileNotFoundError:
        raise MountError(
            f"there is no {device}; load the module (modprobe fuse), or hand the device to the container (--device {device})"
        ) from None
    except OSError as error:
        raise MountError(f"{device}: {error.strerror}", _status(error)) from None
    if not stat.S_ISCHR(mode):
        raise MountError(f"{device} is no character device; remove it and load the module (modprobe fuse)")
    if not os.access(device, os.R_OK | os.W_OK):  # fusermount3 too opens it with the rights of its caller
        raise MountError(
            f"{device} may not be opened by this user; become root, or let root allow it: chmod 666 {device}",
            Exit.USAGE,
        )
    if os.geteuid() != 0:
        _check_fusermount(bool(allow_other), conf)


def _check_fusermount(allow_other: bool, conf: str) -> None:
    if shutil.which("fusermount3") is None:
        raise MountError("fusermount3 is not installed, and only root can mount without it; install the package fuse3")
    if allow_other and not _conf_allows(conf):
        raise MountError(
            f"allow_other needs the line 'user_allow_other' in {conf}; add it as root, or leave it out", Exit.USAGE
        )


def _conf_allows(conf: str) -> bool:
    try:
        with open(conf, encoding="utf-8", errors="replace") as file:
            return any(line.strip() == "user_allow_other" for line in file)
    except OSError:
        return False
