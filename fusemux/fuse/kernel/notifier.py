"""Telling the kernel what has become stale, without ever waiting for it in the event loop.

Invalidating a name takes its directory's lock, and invalidating data waits for pages that are being read: whoever
holds them may be waiting for an answer from this very loop.  So those notifications are written in a thread, while the loop
goes on.  Invalidating attributes alone waits for nothing and happens at once.

The thread writes through a descriptor of its own: the session's may be closed, and its number be given to
another file, at any time.  The queue keeps one entry for each node and name, so it is bounded by what the kernel knows.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TypeVar

import trio

from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.session import Session, notify

__all__ = ["Notifier", "limiter", "write_back"]

_BATCH = 256
_THREADS = 4  # of all sessions together
_PRUNE_SINCE = 45  # the protocol's minor version
_T = TypeVar("_T")


class Notifier:
    """The notifications of one session.  `run` sends what the others queue, until it is cancelled."""

    def __init__(self, session: Session, limiter: trio.CapacityLimiter) -> None:
        self.session = session
        self._limiter = limiter
        self._inodes: dict[int, None] = {}
        self._entries: dict[tuple[int, bytes], None] = {}
        self._surplus: dict[int, None] = {}
        self._something = trio.Event()

    def inode(self, nodeid: int) -> None:
        """A node's attributes and contents are stale."""
        self.session.notify(replies.inval_inode(nodeid, -1))
        self._inodes[nodeid] = None
        self._something.set()

    def entry(self, parent: int, name: bytes) -> None:
        """A name is stale."""
        self._entries[parent, name] = None
        self._something.set()

    def excess(self, nodeids: list[int]) -> None:
        """These nodes need not be known any more; those in use stay."""
        agreed = self.session.agreement
        if agreed is not None and agreed.minor >= _PRUNE_SINCE:
            self._surplus.update(dict.fromkeys(nodeids))
        else:
            self._entries.update(dict.fromkeys(self.session.bridge.places_of_files(nodeids)))
        self._something.set()

    async def run(self) -> None:
        while True:
            await self._something.wait()
            self._something = trio.Event()
            while (messages := self._taken()) and not self.session.ended.is_set():
                fd = os.dup(self.session.fd)
                # Abandoned when the session ends: the connection does, and with it the write.
                await trio.to_thread.run_sync(self._send, fd, messages, limiter=self._limiter, abandon_on_cancel=True)

    def _taken(self) -> list[bytes]:
        """The next messages, the oldest first."""
        messages = [replies.inval_inode(nodeid) for nodeid in _some(self._inodes)]
        messages += [replies.inval_entry(parent, name) for parent, name in _some(self._entries)]
        surplus = _some(self._surplus)
        return [*messages, replies.prune(surplus)] if surplus else messages

    def _send(self, fd: int, messages: list[bytes]) -> None:
        try:
            for message in messages:
                if self.session.ended.is_set():
                    return
                notify(fd, message)
        finally:
            os.close(fd)


def _some(waiting: dict[_T, None]) -> list[_T]:
    """Take up to a batch of what was queued first."""
    taken = list(islice(waiting, _BATCH))
    for each in taken:
        del waiting[each]
    return taken


async def write_back(session: Session, nodeid: int) -> None:
    """Make the kernel write back, and drop, all that it holds of a file's contents; returns when it has.

    In a thread, because the kernel waits for the answers to its writes.
    """

    def send(fd: int) -> None:
        try:
            notify(fd, replies.inval_inode(nodeid))
        finally:
            os.close(fd)

    await trio.to_thread.run_sync(send, os.dup(session.fd), abandon_on_cancel=True)


def limiter() -> trio.CapacityLimiter:
    """For all notifiers of one event loop."""
    return trio.CapacityLimiter(_THREADS)
