"""System calls that Python's `os` does not offer, or offers only on paths.

* xattrs of a name in a directory: getxattrat(2) and listxattrat(2) where the kernel has them (6.13), else through
  /proc/self/fd, which costs twice as much.  Absence is None here, not an exception: it is the common case.
* renameat2(2), fallocate(2) with modes, syncfs(2), getdents64(2) with offsets.

The fast forms use one static buffer and hold the interpreter lock during the call, so threads cannot interfere;
callers that may block on a disk therefore take the /proc form (`XattrsByPath`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

__all__ = ["Dirent", "XattrsAt", "XattrsByPath", "fallocate", "getdents", "renameat2", "syncfs", "xattrs_at"]

_libc = ctypes.CDLL(None, use_errno=True)
_held = ctypes.PyDLL(None).syscall  # no argtypes: twice as fast, so pass bytes, small ints and buffers only;
# and the seventh argument as a whole word: it lies on the stack, where an int sets but half of its place

_GETXATTRAT, _LISTXATTRAT = 464, 465  # the same on every architecture
_AT_SYMLINK_NOFOLLOW = 0x100
_SIZE = 4096


def _failed(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


class XattrsByPath:
    """xattrs of a name in a directory, from any thread."""

    def get(self, dirfd: int, name: bytes, xattr: bytes) -> bytes | None:
        try:
            return os.getxattr(b"/proc/self/fd/%d/%s" % (dirfd, name), xattr, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENODATA:
                return None
            raise

    def list(self, dirfd: int, name: bytes) -> list[bytes]:
        names = os.listxattr(b"/proc/self/fd/%d/%s" % (dirfd, name), follow_symlinks=False)
        return [os.fsencode(xattr) for xattr in names]


class XattrsAt(XattrsByPath):
    """The same by getxattrat(2)."""

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(_SIZE)
        self._view = memoryview(self._buffer).cast("B")
        self._args = ctypes.create_string_buffer(struct.pack("QII", ctypes.addressof(self._buffer), _SIZE, 0), 16)
        self._args_size = ctypes.c_size_t(16)

    def get(self, dirfd: int, name: bytes, xattr: bytes) -> bytes | None:
        n: int = _held(_GETXATTRAT, dirfd, name, _AT_SYMLINK_NOFOLLOW, xattr, self._args, self._args_size)
        if n >= 0:
            return self._view[:n].tobytes()
        return super().get(dirfd, name, xattr)  # says why, and has room for large values

    def list(self, dirfd: int, name: bytes) -> list[bytes]:
        n: int = _held(_LISTXATTRAT, dirfd, name, _AT_SYMLINK_NOFOLLOW, self._buffer, _SIZE)
        if n >= 0:
            return self._view[:n].tobytes().split(b"\0")[:-1]
        return super().list(dirfd, name)


def xattrs_at() -> XattrsByPath:
    """The fast form where the kernel has it."""
    at = XattrsAt()
    n: int = _held(_LISTXATTRAT, -1, b"/", _AT_SYMLINK_NOFOLLOW, at._buffer, _SIZE)
    return at if n >= 0 else XattrsByPath()


def renameat2(olddir: int, oldname: bytes, newdir: int, newname: bytes, flags: int) -> None:
    if _libc.renameat2(olddir, oldname, newdir, newname, flags):
        raise _failed("renameat2")


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if _libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)):
        raise _failed("fallocate")


def syncfs(fd: int) -> None:
    if _libc.syncfs(fd):
        raise _failed("syncfs")


class Dirent(NamedTuple):
    """One entry as the backing store gives it; `offset` is where the next one begins."""

    name: bytes
    offset: int
    type: int  # DT_*


_DENTS_SIZE = 32768
_HEADER = struct.Struct("=QqHB")


def getdents(fd: int) -> list[Dirent]:
    """The next entries of a directory without `.` and `..`; empty at the end.

    A batch that holds nothing but these two is skipped.
    """
    buffer = ctypes.create_string_buffer(_DENTS_SIZE)
    while True:
        n = _libc.getdents64(fd, buffer, _DENTS_SIZE)
        if n < 0:
            error = _failed("getdents64")
            if error.errno == errno.ENOENT:  # the directory was removed
                return []
            raise error
        if n == 0:
            return []
        entries = _parse(ctypes.string_at(buffer, n))
        if entries:
            return entries


def _parse(data: bytes) -> list[Dirent]:
    entries: list[Dirent] = []
    at, end = 0, len(data)
    unpack = _HEADER.unpack_from
    while at < end:
        _, offset, length, type_ = unpack(data, at)
        name = data[at + 19 : data.index(b"\0", at + 19)]
        at += length
        if name != b"." and name != b"..":
            entries.append(Dirent(name, offset, type_))
    return entries
