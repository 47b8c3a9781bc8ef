"""Direct I/O beside the page cache."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mounting import Place

pytestmark = pytest.mark.mount

SIZE = 160 * 4096
_IOCB = struct.Struct("=QIIHhIQQqQII")  # data, key, rw flags, opcode, priority, fd, buffer, bytes, offset, ...
_PWRITE = 1
_SETUP, _DESTROY, _GETEVENTS, _SUBMIT = range(206, 210)  # x86-64; elsewhere the numbers are others
_libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *args: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Aio:
    """One asynchronous write at a time: io_submit(2), io_getevents(2)."""

    def __init__(self) -> None:
        self._context = ctypes.c_ulong(0)
        call(_SETUP, ctypes.c_ulong(8), ctypes.byref(self._context))

    def write(self, fd: int, data: mmap.mmap) -> None:
        address = ctypes.addressof(ctypes.c_char.from_buffer(data))
        iocb = ctypes.create_string_buffer(_IOCB.pack(0, 0, 0, _PWRITE, 0, fd, address, len(data), 0, 0, 0, 0))
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(iocb))
        assert call(_SUBMIT, self._context, ctypes.c_long(1), pointers) == 1
        event = (ctypes.c_int64 * 4)()
        assert call(_GETEVENTS, self._context, ctypes.c_long(1), ctypes.c_long(1), event, None) == 1
        assert event[2] == len(data)

    def close(self) -> None:
        call(_DESTROY, self._context)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Somebody reads the file through the page cache all the time."""
    done = threading.Event()

    def read() -> None:
        with open(path, "rb", buffering=0) as file:
            while not done.is_set():
                os.pread(file.fileno(), SIZE, 0)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the system calls are those of x86-64")
@pytest.mark.parametrize("spec", ["1", "2x2"])
def test_what_was_written_directly_is_read_also_when_somebody_reads_meanwhile(volume_place: Place, spec: str) -> None:
    path = volume_place.mount(spec, "passthrough=no") / "file"
    path.write_bytes(bytes(SIZE))
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    buffered = os.open(path, os.O_RDONLY)
    aio = Aio()
    try:
        with reading(path), mmap.mmap(-1, SIZE) as data:
            for turn in range(300):
                value = bytes([turn % 255 + 1])
                data[:] = value * SIZE
                aio.write(fd, data)
                assert os.pread(buffered, SIZE, 0) == value * SIZE
    finally:
        aio.close()
        os.close(fd)
        os.close(buffered)
