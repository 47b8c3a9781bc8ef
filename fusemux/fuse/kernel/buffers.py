"""Request buffers: one is read into again and again; a request that waits with its payload keeps its own."""

from __future__ import annotations

from mmap import mmap

from fusemux.fuse.kernel.protocol import READ_BUFFER_MIN

__all__ = ["BufferPool"]

_HEADERS = 4096  # header and fixed part of the largest request, rounded up to a page
_IDLE_MAX = 2


class BufferPool:
    """Buffers of one size.  They are mmaps: page-aligned, given back to the system when dropped, and their
    slices are `bytes`."""

    def __init__(self, max_write: int) -> None:
        self.size = max(READ_BUFFER_MIN, max_write + _HEADERS)
        self.lent = 0
        self._idle: list[mmap] = []

    def take(self) -> mmap:
        self.lent += 1
        return self._idle.pop() if self._idle else mmap(-1, self.size)

    def give(self, buffer: mmap) -> None:
        """Nobody refers to the buffer's payload any more."""
        self.lent -= 1
        if len(self._idle) < _IDLE_MAX:
            self._idle.append(buffer)
