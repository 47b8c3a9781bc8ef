"""Ending, for files that are open, what the kernel does past the graph.

The kernel cannot be told to send the reads and writes of a file that is passed through to us from now on.  But they end with the
file's inode: when the answer to a GETATTR is of no file, every call on what is open of it fails with EIO from then on.
Who opens its name gets another inode, because the node has another generation by then, and the graph decides anew
whether that is passed through.  What is mapped into memory stays mapped.

The GETATTR comes of a stat(2) of our own, through a file handle of the old inode (open_by_handle_at(2)), since the file may have
lost its names.  A thread asks, because it waits for the loop that serves it; and what this thread asks is answered
here, whatever the graph has become (`revoker` in operations/): others must not get the answer that is of no file, and a
brick may be frozen or dead.
Source: Linux, fs/fuse/dir.c (fuse_do_getattr), fs/fuse/inode.c (fuse_iget, the export operations).
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Collection, Mapping

import trio

from fusemux.fuse.kernel.session import Session
from fusemux.graph.framework.errors import FusemuxError

__all__ = ["revoke"]

_WITHIN_S = 10
_GENERATIONS_MAX = 65536
_NODE_AND_GENERATION = 0x81  # FILEID_INO64_GEN
_ASK = 0x1000 | 0x2000  # AT_EMPTY_PATH, AT_STATX_FORCE_SYNC
_BASIC_STATS = 0x7FF
_STATX_SIZE = 256

_libc = ctypes.CDLL(None, use_errno=True)


class _Handle(ctypes.Structure):
    """struct file_handle of a node."""

    _fields_ = (
        ("size", ctypes.c_uint),
        ("type", ctypes.c_int),
        ("node_high", ctypes.c_uint32),
        ("node_low", ctypes.c_uint32),
        ("generation", ctypes.c_uint32),
    )


async def revoke(session: Session, path: str, device: str, nodes: Collection[int]) -> int:
    """Make every call on what is open of those of `nodes` that are passed through fail with EIO; for how many that came true.

    `path` and `device` (MAJOR:MINOR) are where the session is mounted.  Raises FusemuxError when that cannot be reached.
    """
    async with session.revoking:
        passthrough = session.passthrough
        if passthrough is None:
            return 0
        known = session.bridge.known
        before = {node: session.generations.get(node, 0) for node in passthrough.passed(nodes) if node in known}
        if len(session.generations) > _GENERATIONS_MAX:
            session.generations = {node: number for node, number in session.generations.items() if node in known}
        session.generations |= {node: generation + 1 for node, generation in before.items()}
        passthrough.revoked(before)  # at once: who opens one of them anew from now on may get the new inode
        ended: list[int] | None = None
        try:
            with trio.move_on_after(_WITHIN_S):
                ended = await trio.to_thread.run_sync(_end, session, path, device, before, abandon_on_cancel=True)
        finally:
            session.revoker = 0
            passthrough.revoked(before.keys() - set(ended or ()), False)
        if ended is None:
            raise FusemuxError(f"what is open at {path} is not revoked: it has not answered within {_WITHIN_S} s")
        return len(ended)


def _end(session: Session, path: str, device: str, nodes: Mapping[int, int]) -> list[int]:
    """Make an end of the kernel's inodes (node -> generation); of which that came true."""
    session.revoker = threading.get_native_id()
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.stat(root).st_dev
            if device != f"{os.major(found)}:{os.minor(found)}":
                raise FusemuxError(
                    f"what is open at {path} is not revoked: the volume is not there any more, or something is mounted over it"
                )
            return [node for node, generation in nodes.items() if _is_bad(root, node, generation)]
        finally:
            os.close(root)
    except OSError as error:
        raise FusemuxError(f"what is open at {path} is not revoked: {error.strerror}") from None


def _is_bad(root: int, node: int, generation: int) -> bool:
    handle = _Handle(12, _NODE_AND_GENERATION, node >> 32, node & 0xFFFFFFFF, generation)
    fd = _libc.open_by_handle_at(root, ctypes.byref(handle), os.O_PATH | os.O_CLOEXEC)
    if fd < 0:
        return ctypes.get_errno() == errno.ESTALE  # it is not known any more, so nothing is open of it
    try:
        return _libc.statx(fd, b"", _ASK, _BASIC_STATS, ctypes.create_string_buffer(_STATX_SIZE)) != 0
    finally:
        os.close(fd)
