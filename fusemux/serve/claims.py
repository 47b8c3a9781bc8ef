"""No two processes serve one brick: its directory is locked (flock) by the one that does."""

from __future__ import annotations

import fcntl
import os
from contextlib import AsyncExitStack

import trio

from fusemux.graph.framework.errors import FusemuxError
from fusemux.serve import mounttable
from fusemux.serve.record import all_records

__all__ = ["claim"]

LET_GO_S = 30
_LOOK_S = 0.02


async def claim(path: str, volume: str, undo: AsyncExitStack) -> None:
    """Keep other processes off the brick at `path`.  Raises FusemuxError when one has it.

    umount(8) returns before the server has let go of the volume: who mounts it again at once waits for that.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FusemuxError(f"brick {path}: {error.strerror}; is its file system mounted?") from None
    undo.callback(os.close, fd)
    deadline = trio.current_time() + LET_GO_S
    while not _locked(fd):
        if trio.current_time() <= deadline and _is_being_let_go(volume):
            await trio.sleep(_LOOK_S)
        elif _locked(fd):
            return  # it has let go and ended while we looked
        else:
            raise FusemuxError(
                f"brick {path} is already served by another process (`fusemux status` shows which); unmount that volume "
                "first, or let one process serve it at both places (`fusemux serve NAME:DIR NAME:DIR`)"
            )


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_being_let_go(volume: str) -> bool:
    """Whether a living server has served `volume` (or is about to), and it is mounted nowhere."""
    there = {entry.path for entry in mounttable.read() if entry.is_ours}
    places = [
        path
        for record in all_records()
        if record.alive and record.pid != os.getpid()
        for path, name in zip(record.mounts, record.volumes, strict=False)
        if name == volume
    ]
    return bool(places) and there.isdisjoint(places)
