"""Ending, for files that are open, what the kernel does past the graph.

The kernel cannot be told to send the reads and writes of a file that is passed through to us from now on.  But they end with the
file's inode: when the answer to a GETATTR is of no file, every call on what is open of it fails with EIO from then on.
Who opens its name gets another inode, because the node has another generation by then, and the graph decides anew
whether that is passed through.  What is mapped into memory stays mapped.

The GETATTR comes of a stat(2) of our own, through a file handle of the node (open_by_handle_at(2)), since the file may have
lost its names.  This waits for the loop that serves it, so it runs in a thread.  And it takes an open file of the mount, for which
the graph may be asked: so it is opened before anything is broken in the graph.
Source: Linux, fs/fuse/dir.c (fuse_do_getattr), fs/fuse/inode.c (fuse_iget, the export operations).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

from fusemux.fuse.binding import Revoke
from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.session import Session
from fusemux.graph.framework.errors import FusemuxError

__all__ = ["revoking"]

_TRIES = 10
_REACHED_WITHIN_S = 5
_NODE_AND_GENERATION = 0x81  # FILEID_INO64_GEN
_ENDED = (errno.ENOTCONN, errno.ECONNABORTED)

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


@asynccontextmanager
async def revoking(session: Session, path: str, device: str) -> AsyncIterator[Revoke]:
    """Inside, `revoke(nodes)` makes every call on what is open of them fail with EIO; it returns for how many that came true.

    `path` and `device` (MAJOR:MINOR) are where the session is mounted.  Raises FusemuxError when that cannot be reached.
    """
    root = _Root(path, device)
    try:
        with trio.move_on_after(_REACHED_WITHIN_S) as waited:
            await trio.to_thread.run_sync(root.open, abandon_on_cancel=True)
        if waited.cancelled_caught:
            raise FusemuxError(
                f"{path} has not answered within {_REACHED_WITHIN_S} s: what is open there cannot be revoked"
            )
        yield partial(_revoke, session, root.fds[0])
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(root.close)


class _Root:
    """The root of a mount, opened in a thread that may be given up."""

    def __init__(self, path: str, device: str) -> None:
        self.path = path
        self.device = device
        self.fds: list[int] = []  # who takes it out closes it
        self._closed = False

    def open(self) -> None:
        self.fds.append(_opened(self.path, self.device))
        if self._closed:
            self.close()

    def close(self) -> None:
        self._closed = True
        with suppress(IndexError):
            os.close(self.fds.pop())


def _opened(path: str, device: str) -> int:
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise FusemuxError(f"{path} cannot be reached: {error.strerror}") from None
    try:
        found = os.stat(root).st_dev
        if device != f"{os.major(found)}:{os.minor(found)}":
            raise FusemuxError(f"something else is mounted over {path}; unmount that first")
    except BaseException:
        os.close(root)
        raise
    return root


async def _revoke(session: Session, root: int, nodes: Collection[int]) -> int:
    left = {node: session.generations.get(node, 0) for node in nodes}
    session.revoked |= left.keys()
    session.generations |= {node: generation + 1 for node, generation in left.items()}
    try:
        for _ in range(_TRIES):
            for node in left:
                session.notify(replies.inval_inode(node, -1))  # attributes only: they have to be asked for
            left = await trio.to_thread.run_sync(_still_good, root, left)
            if not left or session.ended.is_set():
                break
    finally:
        session.revoked -= set(nodes)
    if session.passthrough is not None:
        for node in nodes:
            if node not in left:
                session.passthrough.revoked(node)
    return len(nodes) - len(left)


def _still_good(root: int, nodes: Mapping[int, int]) -> dict[int, int]:
    """Ask the kernel for the attributes of each (node -> generation); those that are good as ever.

    That can be when another request, such as a LOOKUP, brought attributes in the moment between.
    """
    return {node: generation for node, generation in nodes.items() if not _is_bad(root, node, generation)}


def _is_bad(root: int, node: int, generation: int) -> bool:
    handle = _Handle(12, _NODE_AND_GENERATION, node >> 32, node & 0xFFFFFFFF, generation)
    fd = _libc.open_by_handle_at(root, ctypes.byref(handle), os.O_PATH | os.O_CLOEXEC)
    if fd < 0:
        return ctypes.get_errno() == errno.ESTALE  # it is not known any more, so nothing is open of it
    try:
        os.stat(fd)
    except OSError as error:
        return error.errno in (errno.EIO, *_ENDED)
    finally:
        os.close(fd)
    return False
