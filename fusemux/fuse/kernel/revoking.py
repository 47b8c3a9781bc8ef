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
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

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
    passthrough = session.passthrough
    if passthrough is None:
        return 0
    async with session.revoking:
        root = _Root(session, path, device)
        try:
            with trio.move_on_after(_WITHIN_S) as reaching:
                await trio.to_thread.run_sync(root.reach, abandon_on_cancel=True)
        except BaseException:
            root.close()
            raise
        if reaching.cancelled_caught:
            root.close()
            raise FusemuxError(f"what is open at {path} is not revoked: it has not answered within {_WITHIN_S} s")
        # Nothing may break it off from here on: a node of the next generation whose inode is still good is beyond reach.
        with trio.CancelScope(shield=True):
            before = _next_generation(session, passthrough.passed(nodes))
            passthrough.revoked(before)  # who opens one of them anew may get the new inode from now on
            left = await trio.to_thread.run_sync(root.end, before)
            passthrough.revoked(left, False)
        return len(before) - len(left)


def _next_generation(session: Session, nodes: Collection[int]) -> dict[int, int]:
    """Those of `nodes` that the kernel knows, and the generation that they had so far."""
    known, generations = session.bridge.known, session.generations
    if len(generations) > _GENERATIONS_MAX:
        generations = session.generations = {node: n for node, n in generations.items() if node in known}
    before = {node: generations.get(node, 0) for node in nodes if node in known}
    generations |= {node: generation + 1 for node, generation in before.items()}
    return before


class _Root:
    """The root of a mount, as threads open and use it that are known as the session's revoker meanwhile."""

    def __init__(self, session: Session, path: str, device: str) -> None:
        self.session = session
        self.path = path
        self.device = device
        self._fds: list[int] = []  # who takes it out closes it
        self._given_up = False

    def reach(self) -> None:
        """Raises FusemuxError.  May be given up while it waits for a file system on the way."""
        with self._revoker():
            try:
                self._fds.append(self._opened())
            except OSError as error:
                raise FusemuxError(f"what is open at {self.path} is not revoked: {error.strerror}") from None
            if self._given_up:
                self.close()

    def _opened(self) -> int:
        root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.stat(root).st_dev
            if self.device != f"{os.major(found)}:{os.minor(found)}":
                raise FusemuxError(
                    f"what is open at {self.path} is not revoked: the volume is not there any more, or something is mounted over it"
                )
        except BaseException:
            os.close(root)
            raise
        return root

    def end(self, nodes: Mapping[int, int]) -> list[int]:
        """Make an end of the kernel's inodes (node -> generation), and of this; those where that did not come true."""
        with self._revoker():
            try:
                return [node for node, generation in nodes.items() if not _is_bad(self._fds[0], node, generation)]
            finally:
                self.close()

    def close(self) -> None:
        self._given_up = True
        with suppress(IndexError):
            os.close(self._fds.pop())

    @contextmanager
    def _revoker(self) -> Iterator[None]:
        """What this thread asks is answered by the wire, and no longer than that: it will do other work."""
        me = self.session.revoker = threading.get_native_id()
        try:
            yield
        finally:
            if self.session.revoker == me:
                self.session.revoker = 0


def _is_bad(root: int, node: int, generation: int) -> bool:
    handle = _Handle(12, _NODE_AND_GENERATION, node >> 32, node & 0xFFFFFFFF, generation)
    fd = _libc.open_by_handle_at(root, ctypes.byref(handle), os.O_PATH | os.O_CLOEXEC)
    if fd < 0:
        return ctypes.get_errno() == errno.ESTALE  # it is not known any more, so nothing is open of it
    try:
        return _libc.statx(fd, b"", _ASK, _BASIC_STATS, ctypes.create_string_buffer(_STATX_SIZE)) != 0
    finally:
        os.close(fd)
