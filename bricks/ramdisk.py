"""Ramdisk bricks: file systems in memory, made for a brick and removed with it.

As root each is a tmpfs of its own, mounted at the given path, so that a brick is full when its own size is used.
Other users cannot mount: their brick is a directory below /dev/shm, and the given path a symbolic link to it; its
size is then not enforced.

Everything is found again from the path alone, so what a killed process has left can be removed by the next one.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil

from fusemux.graph.framework.errors import FusemuxError

__all__ = ["DEFAULT_BYTES", "can_mount", "exists", "has_huge_pages", "provision", "remove", "use_huge_pages"]

DEFAULT_BYTES = 1 << 30  # of address space, not of memory: pages are taken as they are filled
_SOURCE = "fusemux-brick"  # how /proc/mounts shows a ramdisk
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_NOATIME, _MNT_DETACH = 2, 4, 8, 32, 1024, 2
# Devices and set-user-ID programs stored in a brick are the volume's business, never this machine's.  Access times that anybody
# wants are recorded in xattrs; those of the ramdisk itself show with features.ctime off alone, and cost a twentieth of a small read.
_FLAGS = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME

_libc = ctypes.CDLL(None, use_errno=True)


def can_mount() -> bool:
    """Whether ramdisks can be file systems of their own here."""
    return os.geteuid() == 0


def exists(path: str) -> bool:
    """Whether a ramdisk is there at `path`."""
    if os.path.islink(path):
        return os.readlink(path) == _folder(path) and os.path.isdir(path)
    return _options_of(path) is not None


def provision(path: str, size_bytes: int = 0) -> None:
    """Make an empty ramdisk of `size_bytes` (0: the default) at `path`, its parents if need be.

    Raises FusemuxError, also when something is at `path` already.
    """
    if exists(path):
        raise FusemuxError(f"there is a ramdisk at {path} already; remove it first")
    try:
        _make_folders(os.path.dirname(os.path.abspath(path)))
        if can_mount():
            _make_folders(path)
            _mount(path, size_bytes or DEFAULT_BYTES)
        else:
            os.makedirs(_folder(path), mode=0o700)
            os.symlink(_folder(path), path)
    except OSError as error:
        raise FusemuxError(f"ramdisk {path}: {error.strerror}") from None


def remove(path: str) -> None:
    """Remove the ramdisk at `path` with all it holds, and the directory it was mounted on.  What is not there is no error."""
    if os.path.islink(path):
        if os.readlink(path) == _folder(path):
            shutil.rmtree(_folder(path), ignore_errors=True)
            os.unlink(path)
        return
    while exists(path):
        if _libc.umount2(os.fsencode(path), _MNT_DETACH):
            number = ctypes.get_errno()
            raise FusemuxError(f"ramdisk {path} cannot be unmounted: {os.strerror(number)}")
    try:
        os.rmdir(path)
    except OSError:
        pass  # not empty, or not ours: then it stays


def has_huge_pages(path: str) -> bool:
    """Whether the ramdisk mounted at `path` stores large files in large pages."""
    return ",huge=" in (_options_of(path) or "")


def use_huge_pages(path: str, on: bool) -> None:
    """Have the ramdisk mounted at `path` store what is written from now on in large pages where it fits (tmpfs(5), huge=).

    Where there is no ramdisk of its own nothing is done.  Raises FusemuxError when the kernel cannot do it.
    """
    if _options_of(path) is None or has_huge_pages(path) is on:
        return
    options = b"huge=within_size" if on else b"huge=never"
    if _libc.mount(None, os.fsencode(os.path.realpath(path)), None, _FLAGS | _MS_REMOUNT, options):
        number = ctypes.get_errno()
        raise FusemuxError(f"ramdisk {path}: no huge pages: {os.strerror(number)}; leave storage.huge-pages off here")


def _make_folders(path: str) -> None:
    """`path` and what is missing above it, writable for nobody else whatever the umask."""
    if not os.path.isdir(path):
        _make_folders(os.path.dirname(path))
        os.mkdir(path, 0o755)


def _mount(path: str, size_bytes: int) -> None:
    options = f"size={size_bytes},mode=0755".encode()
    if _libc.mount(_SOURCE.encode(), os.fsencode(path), b"tmpfs", _FLAGS, options):
        number = ctypes.get_errno()
        raise FusemuxError(f"a ramdisk cannot be mounted at {path}: {os.strerror(number)}")


def _folder(path: str) -> str:
    """Where an unprivileged user's ramdisk lies."""
    digest = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:16]
    return f"/dev/shm/fusemux-{os.geteuid()}-{digest}"


def _options_of(path: str) -> str | None:
    """The mount options of the ramdisk mounted at `path`, None where none is; of several the last one."""
    wanted, found = os.path.realpath(path), None
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            source, mountpoint, _, options, _ = line.split(" ", 4)
            if source == _SOURCE and _unescape(mountpoint) == wanted:
                found = options
    return found


def _unescape(field: str) -> str:
    """Blanks, tabs, newlines and backslashes stand as three octal digits in /proc/mounts."""
    for escaped, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escaped, character)
    return field
