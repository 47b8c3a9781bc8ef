"""Whether a brick's last run ended as it should: a note beside the index, for whoever relies on the index.

The changelog tells what the copies of a file have missed as long as somebody was there to record it.  A serving process that
is killed between two copies records nothing, and a machine that loses power takes back what was recorded.  So while a
brick is served, the file `fusemux-run` beside its indices holds the id of the kernel's boot; a run that ends as it
should replaces it by `clean`.  What the next run finds there:

    nothing       NEW          never served with a note: it says nothing about the past
    clean         CLEAN        nothing was lost
    this boot     CRASHED      the process died; what it had written is there
    another boot  ROLLED_BACK  the machine went down, and what was not synced may be gone

CRASHED and ROLLED_BACK stay until all copies were compared (`vouch`), however many runs that takes.  Nothing is done per fop.
On a disk the note is synced before the brick serves, and all of the brick before it says `clean`.
"""

from __future__ import annotations

import os
from contextlib import suppress

from fusemux.bricks.storage.posix.syscalls import syncfs
from fusemux.graph.framework.process import Past

__all__ = ["Run"]

_NOTE = "fusemux-run"
_CLEAN = b"clean"
_POWER_CUT = b"power cut"  # debug/volatile


class Run:
    """The note in `folder`.  Plain synchronous code; every method may raise OSError."""

    def __init__(self, folder: str, *, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        self.past = _past(self._read())
        if self.past in (Past.NEW, Past.CLEAN):
            self._write(_boot())

    def vouch(self) -> None:
        """All copies were compared: nothing that happened before matters any more."""
        self.past = Past.CLEAN
        self._write(_boot())

    def end(self) -> None:
        """The brick stops as it should, all it was told is done."""
        if self._durable:
            fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(fd)
            finally:
                os.close(fd)
        if self.past in (Past.NEW, Past.CLEAN):
            self._write(_CLEAN)

    def lose(self) -> None:
        """The brick was made to lose what was not synced, as by another boot."""
        if self._read() is not None:
            self._write(_POWER_CUT)

    def _read(self) -> bytes | None:
        with suppress(FileNotFoundError), open(f"{self._folder}/{_NOTE}", "rb") as file:
            return file.read(64)
        return None

    def _write(self, text: bytes) -> None:
        fresh = f"{self._folder}/{_NOTE}.new"
        with open(fresh, "wb") as file:
            file.write(text)
            if self._durable:
                file.flush()
                os.fsync(file.fileno())
        os.rename(fresh, f"{self._folder}/{_NOTE}")
        if self._durable:
            fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _past(note: bytes | None) -> Past:
    if note is None:
        return Past.NEW
    if note == _CLEAN:
        return Past.CLEAN
    return Past.CRASHED if note == _boot() else Past.ROLLED_BACK


def _boot() -> bytes:
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().strip()
