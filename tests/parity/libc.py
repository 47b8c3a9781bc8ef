"""System calls that Python's os module does not offer, or not with all of their flags."""

from __future__ import annotations

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)

Handle = ctypes.Array[ctypes.c_char]

AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

FALLOC_KEEP_SIZE = 0x01
FALLOC_PUNCH_HOLE = 0x02
FALLOC_COLLAPSE_RANGE = 0x08

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(old: bytes, new: bytes, flags: int) -> None:
    _checked(_libc.renameat2(AT_FDCWD, old, AT_FDCWD, new, ctypes.c_uint(flags)))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    _checked(_libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def utimensat(path: bytes, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0) -> None:
    """Times as (seconds, nanoseconds), where the nanoseconds may be UTIME_NOW or UTIME_OMIT."""
    times = (_Timespec * 2)(_Timespec(*atime), _Timespec(*mtime))
    _checked(_libc.utimensat(AT_FDCWD, path, ctypes.byref(times), flags))


def linkat(fd: int, new: bytes) -> None:
    """Give the open file `fd` the name `new`, as one does with O_TMPFILE."""
    path = f"/proc/self/fd/{fd}".encode()
    _checked(_libc.linkat(AT_FDCWD, path, AT_FDCWD, new, AT_SYMLINK_FOLLOW))


def file_handle(path: bytes) -> Handle:
    """What `open_by_handle` takes instead of the path, as long as the file is there."""
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0) + bytes(128))
    _checked(_libc.name_to_handle_at(AT_FDCWD, path, handle, ctypes.byref(ctypes.c_int()), 0))
    return handle


def open_by_handle(mount: int, handle: Handle, flags: int = os.O_RDONLY) -> int:
    """`mount` is any open file of the file system."""
    return _checked(_libc.open_by_handle_at(mount, handle, flags))


def syncfs(fd: int) -> None:
    _checked(_libc.syncfs(fd))


class _Dirent(ctypes.Structure):
    _fields_ = (
        ("ino", ctypes.c_ulong),
        ("off", ctypes.c_long),
        ("reclen", ctypes.c_ushort),
        ("type", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


_libc.opendir.restype = ctypes.c_void_p
_libc.readdir.restype = ctypes.POINTER(_Dirent)
_libc.readdir.argtypes = (ctypes.c_void_p,)
_libc.telldir.restype = ctypes.c_long
_libc.telldir.argtypes = (ctypes.c_void_p,)
_libc.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)
_libc.rewinddir.argtypes = (ctypes.c_void_p,)
_libc.closedir.argtypes = (ctypes.c_void_p,)


class Directory:
    """A DIR* of its own: readdir one entry at a time, telldir, seekdir, rewinddir."""

    def __init__(self, path: bytes) -> None:
        self._dir = _libc.opendir(path)
        if not self._dir:
            _checked(-1)

    def read(self) -> bytes | None:
        """The next name, or None at the end."""
        entry = _libc.readdir(self._dir)
        return bytes(entry.contents.name) if entry else None

    def rest(self) -> list[bytes]:
        """All names from here to the end, without `.` and `..`, in the directory's order."""
        names = iter(self.read, None)
        return [name for name in names if name not in (b".", b"..")]

    def tell(self) -> int:
        return int(_libc.telldir(self._dir))

    def seek(self, place: int) -> None:
        _libc.seekdir(self._dir, place)

    def rewind(self) -> None:
        _libc.rewinddir(self._dir)

    def close(self) -> None:
        _libc.closedir(self._dir)
