"""Calls on locks, for sessions whose locks the bricks keep: fcntl(2), open file descriptions, flock(2).

The kernel names an owner with each lock: a process for fcntl(2), an open file for the two others.  It does not say
when an owner's locks end, only what happens to its files, so who holds locks is remembered here:

    flush     close(2) by a process ends its fcntl(2) locks on the file, through whichever descriptor they were taken
    release   the last descriptor is gone, and with it the locks whose owner is the open file itself

flock(2) may change a lock's kind.  When that has to wait, or fails, the lock is let go first, as on any file system; so two who
both share a lock and both want it alone do not wait for each other.
"""

from __future__ import annotations

import errno
import fcntl
import logging
from itertools import count

from fusemux.fuse.calls.files import FileCalls
from fusemux.fuse.handles import OpenFile
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Flock, Frame

__all__ = ["LockCalls"]

log = logging.getLogger("fusemux.fuse")
_Holder = tuple[int, bool]  # the kernel's owner, and whether it holds by flock(2)
_sessions = count(1)


class LockCalls(FileCalls):
    """Stands before `Bridge` among the bases of one that carries locks."""

    _holders: dict[bytes, dict[_Holder, int]]  # by gfid: who may hold locks, and the handle it locked through last
    _session: int  # owners of two kernels must not be taken for one

    def begin_locks(self) -> None:
        self._holders = {}
        self._session = next(_sessions)

    async def getlk(self, frame: Frame, fh: int, flock: Flock) -> Flock:
        """The lock in the way of `flock`; of type F_UNLCK when there is none."""
        frame.lk_owner = self._session
        found: Flock = await self.top.lk(frame, self._file(fh).fd, fcntl.F_GETLK, flock)
        return found

    async def setlk(self, frame: Frame, fh: int, flock: Flock, *, wait: bool) -> None:
        """Lock or unlock.  EAGAIN when it cannot be had now, unless it shall wait; then it may be cancelled."""
        file, cmd = self._file(fh), fcntl.F_SETLKW if wait else fcntl.F_SETLK
        frame.lk_owner = self._session
        if flock.type == fcntl.F_UNLCK:
            await self.top.lk(frame, file.fd, fcntl.F_SETLK, flock)
            return
        holder = flock.owner, flock.is_flock
        if flock.is_flock and holder in self._holders.get(file.fd.inode.gfid, ()):
            await self._convert(frame, file, cmd, flock)
        else:
            await self.top.lk(frame, file.fd, cmd, flock)
        self._holders.setdefault(file.fd.inode.gfid, {})[holder] = fh

    async def _convert(self, frame: Frame, file: OpenFile, cmd: int, flock: Flock) -> None:
        try:
            await self.top.lk(frame, file.fd, fcntl.F_SETLK, flock)
        except FopError as error:
            if error.errno != errno.EAGAIN:
                raise
            await self.top.lk(frame, file.fd, fcntl.F_SETLK, flock._replace(type=fcntl.F_UNLCK))
            if cmd == fcntl.F_SETLK:
                raise
            await self.top.lk(frame, file.fd, cmd, flock)

    async def flush(self, frame: Frame, fh: int) -> None:
        if self._holders:
            await self._let_go(fh, [(frame.lk_owner, False)])
        await super().flush(frame, fh)

    async def release(self, frame: Frame, fh: int) -> None:
        if self._holders and fh in self.files:
            holders = self._holders.get(self.files[fh].fd.inode.gfid, {})
            await self._let_go(fh, [holder for holder, through in holders.items() if through == fh])
        await super().release(frame, fh)

    async def _let_go(self, fh: int, ending: list[_Holder]) -> None:
        """All locks of these holders on the file end.  Never raises: a brick that is gone has forgotten them."""
        file = self._file(fh)
        gfid = file.fd.inode.gfid
        holders = self._holders.get(gfid, {})
        for owner, is_flock in ending:
            if holders.pop((owner, is_flock), None) is None:  # also when another close was faster while this one waited
                continue
            frame = Frame()
            frame.lk_owner = self._session
            try:
                everything = Flock(fcntl.F_UNLCK, 0, 0, 0, owner, is_flock)
                await self.top.lk(frame, file.fd, fcntl.F_SETLK, everything)
            except FopError as error:
                log.info("letting go of locks: %s", error)
        if not holders:
            self._holders.pop(gfid, None)
