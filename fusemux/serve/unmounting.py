"""Unmounting, and clearing what a dead server left behind.

root uses umount2(2); everybody else fusermount3(1), which may unmount what its caller has mounted.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
import subprocess

from fusemux.bricks import ramdisk
from fusemux.graph.framework.errors import FusemuxError
from fusemux.serve import mounttable
from fusemux.serve.record import Record, all_records, remove_empty

__all__ = ["StaleMount", "clear_dead", "clear_stale", "stale_message", "unmount", "write_back"]

_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
log = logging.getLogger("fusemux.serve")


class StaleMount(FusemuxError):
    """A mount whose server is gone stands where a new one should."""


def unmount(path: str, *, lazy: bool = False) -> None:
    """Unmount the topmost mount at `path`.  Raises OSError (EBUSY: somebody uses it) or FusemuxError."""
    if os.geteuid() != 0:
        _fusermount(path, lazy)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    if libc.umount2(os.fsencode(path), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def write_back(path: str) -> None:
    """Have the kernel write what it has gathered for the file system mounted at `path`: syncfs(2).  Never raises."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        ctypes.CDLL(None).syncfs(fd)
    finally:
        os.close(fd)


def _fusermount(path: str, lazy: bool) -> None:
    program = shutil.which("fusermount3") or shutil.which("fusermount")
    if program is None:
        raise FusemuxError("fusermount3 is not installed; install the package fuse3")
    done = subprocess.run(
        [program, "-u", *(["-z"] if lazy else []), "--", path], capture_output=True, text=True, check=False
    )
    if done.returncode:
        busy = "busy" in done.stderr
        raise OSError(errno.EBUSY if busy else errno.EINVAL, done.stderr.strip() or "fusermount3 failed", path)


def stale_message(path: str) -> str:
    """What to say about the stale mount at `path`."""
    entry = mounttable.mounted_at(path)
    what = f"of {entry.source!r} ({entry.fstype})" if entry else ""
    return (
        f"{path} holds a stale mount {what}: its server is gone; "
        f"clear it with -o replace-stale (or --replace-stale), or with: umount -l {path}"
    )


def clear_stale(path: str) -> bool:
    """Remove the stale mount at `path`, if there is one, and everything else that its server left behind.

    Returns whether there was anything.  Raises StaleMount when what is mounted there is not ours or cannot be unmounted.
    """
    found = False
    while mounttable.is_stale(path):
        found = True
        entry = mounttable.mounted_at(path)
        if entry is not None and not entry.fstype.startswith("fuse"):
            raise StaleMount(f"{path}: the stale mount is of type {entry.fstype}, not one of ours; unmount it yourself")
        try:
            unmount(path, lazy=True)
        except OSError as error:
            raise StaleMount(f"{path}: the stale mount cannot be cleared: {error.strerror}") from None
        log.info("cleared the stale mount at %s", path)
    for record in all_records():
        if not record.alive and path in record.mounts:
            clear_dead(record)
            found = True
    return found


def clear_dead(record: Record) -> None:
    """Remove the mounts, throw-away ramdisks and folders of a server that died, and its record."""
    for path in record.mounts:
        if mounttable.is_stale(path):
            _quietly(path)
    for path in record.ramdisks:
        ramdisk.remove(path)
        log.info("removed the ramdisk %s of dead server %d", path, record.pid)
    remove_empty(record.folders)
    record.discard()


def _quietly(path: str) -> None:
    try:
        unmount(path, lazy=True)
    except (OSError, FusemuxError) as error:
        log.warning("the stale mount %s cannot be cleared: %s", path, error)
