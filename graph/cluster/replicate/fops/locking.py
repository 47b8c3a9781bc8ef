"""Locks of users and of the translators above: taken on one copy after the other, kept only if a quorum grants them."""

from __future__ import annotations

import errno
import fcntl
from typing import Any

from fusemux.graph.cluster.replicate.transaction import Transactions
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import Flock, Frame, Xdata

__all__ = ["Locking"]

_ENTRY_UNLOCK = 1


class Locking(Transactions):
    async def lk(self, frame: Frame, fd: Fd, cmd: int, flock: Flock, xdata: Xdata = None) -> Flock:
        opened = await self.reopen(frame, fd, self.members.up)
        self.require_quorum(opened)
        if cmd == fcntl.F_GETLK:
            return await self._in_the_way(opened, frame, fd, flock, xdata)
        undo = (frame, fd, fcntl.F_SETLK, flock._replace(type=fcntl.F_UNLCK), None)
        if flock.type == fcntl.F_UNLCK:
            await self._unlock(opened, "lk", undo)
        else:
            await self._lock(opened, "lk", (frame, fd, cmd, flock, xdata), undo)
        return flock

    async def _in_the_way(self, which: int, frame: Frame, fd: Fd, flock: Flock, xdata: Xdata) -> Flock:
        """The first lock that any copy knows of: one that was away knows less than the others."""
        errors: list[FopError] = []
        free: Flock | None = None
        for edge in self.edges(which):
            try:
                found: Flock = await edge.lk(frame, fd, fcntl.F_GETLK, flock, xdata)
            except FopError as error:
                errors.append(error)
                continue
            if found.type != fcntl.F_UNLCK:
                return found
            free = found
        if free is None:
            raise self.failure(errors)
        return free

    async def inodelk(
        self, frame: Frame, domain: str, target: Inode | Fd, cmd: int, flock: Flock, xdata: Xdata = None
    ) -> None:
        up = self.members.up
        self.require_quorum(up)
        undo = (frame, domain, target, fcntl.F_SETLK, flock._replace(type=fcntl.F_UNLCK), None)
        if flock.type == fcntl.F_UNLCK:
            await self._unlock(up, "inodelk", undo)
        else:
            await self._lock(up, "inodelk", (frame, domain, target, cmd, flock, xdata), undo)

    async def entrylk(
        self, frame: Frame, domain: str, inode: Inode, name: bytes, cmd: int, type: int, xdata: Xdata = None
    ) -> None:
        up = self.members.up
        self.require_quorum(up)
        undo = (frame, domain, inode, name, _ENTRY_UNLOCK, type, None)
        if cmd == _ENTRY_UNLOCK:
            await self._unlock(up, "entrylk", undo)
        else:
            await self._lock(up, "entrylk", (frame, domain, inode, name, cmd, type, xdata), undo)

    async def _lock(self, which: int, fop: str, args: tuple[Any, ...], undo: tuple[Any, ...]) -> None:
        """In child order, so that two who want the same meet at the first copy; all or, beyond a quorum, as many as go."""
        held = 0
        errors: list[Any] = []
        try:
            for edge in self.edges(which):
                try:
                    await getattr(edge, fop)(*args)
                    held |= 1 << edge.index
                except FopError as error:
                    errors.append(error)
                    if error.errno in (errno.EAGAIN, errno.EACCES):
                        break
            conflict = any(error.errno in (errno.EAGAIN, errno.EACCES) for error in errors)
            if conflict or not self.members.quorum(held):
                raise errors[-1] if conflict else self.failure(errors)
        except BaseException:
            await self.shielded(self.wind, held, fop, *undo)
            raise

    async def _unlock(self, which: int, fop: str, undo: tuple[Any, ...]) -> None:
        replies = await self.shielded(self.wind, which, fop, *undo)
        if not self.succeeded(which, replies):
            raise self.failure(replies)
