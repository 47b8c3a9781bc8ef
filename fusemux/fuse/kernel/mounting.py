"""Mounting and unmounting: mount(2) where this process may, otherwise through fusermount3.

mount(2) takes the descriptor of /dev/fuse in its data string.  fusermount3 is setuid root: it opens /dev/fuse, mounts, and
passes the descriptor back through a socket named in `_FUSE_COMMFD`.

These calls can wait for the file systems on the way to the mount point, and unmounting waits for dirty pages: when one
of those is served by this very process they must run in a thread.
Source: mount(2), umount2(2), fuse(4), libfuse's description of the fusermount protocol.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from fusemux.graph.framework.errors import FusemuxError

__all__ = ["MountBusy", "Mounted", "is_stale", "mount", "mounts_at", "open_device", "unmount", "write_back"]

DEVICE = "/dev/fuse"
_FUSERMOUNT_TIMEOUT_S = 30

_FLAGS = {  # words of mount(8) that mount(2) takes as bits
    "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "dirsync": 128, "noatime": 1024,
    "nodiratime": 2048, "strictatime": 1 << 24,
}  # fmt: skip
_POSITIVE = frozenset({"rw", "suid", "dev", "exec", "async", "atime"})  # clear a bit that is clear anyway
_MNT_FORCE = 1
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_libc = ctypes.CDLL(None, use_errno=True)


class MountBusy(FusemuxError):
    """Something still uses the mount."""


class Mounted(NamedTuple):
    """One line of /proc/self/mountinfo."""

    device: str  # MAJOR:MINOR
    path: str
    type: str
    source: str

    @property
    def minor(self) -> int:
        return int(self.device.partition(":")[2])


def mount(
    path: str,
    *,
    source: str,
    subtype: str = "fusemux",
    words: Sequence[str] = (),
    allow_other: bool = False,
    default_permissions: bool = True,
    max_read: int = 0,
) -> int:
    """Mount at `path` and return the descriptor of the new connection.  Raises FusemuxError.

    `words` are generic options (ro, nosuid, noatime, ...).
    """
    _check_target(path)
    own = [
        word for word, wanted in (("allow_other", allow_other), ("default_permissions", default_permissions)) if wanted
    ]
    if max_read:
        own.append(f"max_read={max_read}")
    if os.geteuid() == 0:
        fd = open_device()
        try:
            _mount_directly(fd, path, source, subtype, words, own)
        except PermissionError:
            os.close(fd)  # root without CAP_SYS_ADMIN: fusermount3 may have more
        except BaseException:
            os.close(fd)
            raise
        else:
            return fd
    return _mount_by_fusermount(path, source, subtype, words, own)


def open_device() -> int:
    """A new descriptor of /dev/fuse."""
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise FusemuxError(
            f"{DEVICE} does not exist; load the module (modprobe fuse) or give the container the device"
        ) from None
    except PermissionError:
        raise FusemuxError(f"{DEVICE} may not be opened; it must be readable and writable for this user") from None
    except OSError as error:
        raise FusemuxError(f"{DEVICE} cannot be opened: {error.strerror}; is the fuse module loaded?") from None


def _check_target(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FusemuxError(f"mount point {path} does not exist; create the directory first") from None
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            raise FusemuxError(
                f"{path} is a stale mount, its server is gone; unmount it (umount -l {path}) or use --replace-stale"
            ) from None
        raise FusemuxError(f"mount point {path}: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise FusemuxError(f"mount point {path} is no directory")


def _mount_directly(fd: int, path: str, source: str, subtype: str, words: Sequence[str], own: Sequence[str]) -> None:
    bits = 0
    for word in words:
        if word in _FLAGS:
            bits |= _FLAGS[word]
        elif word not in _POSITIVE:
            raise FusemuxError(f"mount option {word!r} is not known; see mount(8)")
    data = [f"fd={fd}", "rootmode=40000", f"user_id={os.geteuid()}", f"group_id={os.getegid()}", *own]
    texts = (os.fsencode(source), os.fsencode(path), f"fuse.{subtype}".encode())
    if _libc.mount(*texts, ctypes.c_ulong(bits), ",".join(data).encode()) == 0:
        return
    error = ctypes.get_errno()
    if error == errno.EPERM:
        raise PermissionError(error, os.strerror(error))
    if error == errno.ENODEV:
        raise FusemuxError("the kernel has no FUSE; load the module (modprobe fuse)")
    raise FusemuxError(f"mounting at {path} failed: {os.strerror(error)}")


def _mount_by_fusermount(path: str, source: str, subtype: str, words: Sequence[str], own: Sequence[str]) -> int:
    program = _fusermount()
    name = source.replace("\\", "\\\\").replace(",", "\\,")
    options = ",".join([*words, *own, f"fsname={name}", f"subtype={subtype}"])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [program, "-o", options, "--", path],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}, pass_fds=(theirs.fileno(),),
        )  # fmt: skip
        theirs.close()
        ours.settimeout(_FUSERMOUNT_TIMEOUT_S)
        try:
            fds = _received(ours)
        except TimeoutError:
            process.kill()
            fds = []
        _, complaint = process.communicate()
    if process.returncode != 0 or not fds:
        said = complaint.decode(errors="replace").strip() or f"exit status {process.returncode}"
        raise FusemuxError(f"mounting at {path} failed: {said}")
    os.set_inheritable(fds[0], False)
    return fds[0]


def _received(ours: socket.socket) -> list[int]:
    fds = array.array("i")
    _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(fds.itemsize))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def _fusermount() -> str:
    for name in ("fusermount3", "fusermount"):
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/bin:/usr/sbin:/sbin")
        if found:
            return found
    raise FusemuxError("mounting needs root or fusermount3; install the package fuse3")


def unmount(path: str, *, lazy: bool = False, force: bool = False) -> None:
    """Unmount what is at `path`; not an error when nothing is.

    Raises MountBusy, FusemuxError.  `lazy` takes it out of the tree now and ends it when nobody uses it any more;
    `force` ends its connection at once (root only): every call that waits for it fails.
    """
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0) | (_MNT_FORCE if force else 0)
    if _libc.umount2(os.fsencode(path), flags) == 0:
        return
    error = ctypes.get_errno()
    if error in (errno.EINVAL, errno.ENOENT):  # nothing is mounted there
        return
    if error == errno.EPERM and os.geteuid() != 0:
        done = subprocess.run([_fusermount(), "-u", *(["-z"] if lazy else []), "--", path], capture_output=True)
        if done.returncode == 0:
            return
        said = done.stderr.decode(errors="replace").strip()
        error, text = (errno.EBUSY if "busy" in said else errno.EPERM), said
    else:
        text = os.strerror(error)
    if error == errno.EBUSY:
        raise MountBusy(f"{path} is in use; close what is open there (fuser -vm {path}) or unmount with --lazy")
    raise FusemuxError(f"unmounting {path} failed: {text}")


def write_back(path: str) -> None:
    """Have the kernel hand over what it holds of the file system at `path` (syncfs(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    finally:
        os.close(fd)


def mounts_at(path: str) -> list[Mounted]:
    """What is mounted at `path`, the topmost last.  Does not touch `path` itself, which may be stale."""
    wanted = os.path.abspath(path)
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.split()
            tail = fields.index("-")
            if _unescaped(fields[4]) == wanted:
                found.append(Mounted(fields[2], wanted, fields[tail + 1], _unescaped(fields[tail + 2])))
    return found


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def is_stale(path: str) -> bool:
    """Whether `path` is a FUSE mount whose server is gone."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False
