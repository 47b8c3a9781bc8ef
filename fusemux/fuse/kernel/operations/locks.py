"""Operations on locks.  The kernel sends them only where it was agreed that locks come to us."""

from __future__ import annotations

import errno
import fcntl

from fusemux.fuse.calls.locks import LockCalls
from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.operations.operation import Begun, Operation, operation
from fusemux.fuse.kernel.protocol import BODY, InitFlag, Opcode
from fusemux.fuse.kernel.requests import Buffer
from fusemux.fuse.kernel.session import Session
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Flock, Frame

__all__ = ["LOCKS"]

_LOCK = p.BODIES[Opcode.SETLK].unpack_from
_TYPES = (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK)
_OFFSET_MAX = (1 << 63) - 1  # as the end of a lock: to the end of the file, wherever that will be


def _wanted(buffer: Buffer) -> tuple[int, Flock]:
    """The file handle and the lock of a request."""
    fh, owner, start, end, type_, pid, flags = _LOCK(buffer, BODY)
    if type_ not in _TYPES or start > end or end > _OFFSET_MAX:
        raise FopError(errno.EINVAL, f"no lock: type {type_}, {start} to {end}")
    length = 0 if end == _OFFSET_MAX else end - start + 1
    return fh, Flock(type_, start, length, pid, owner, bool(flags & p.LK_FLOCK))


def _bridge(session: Session) -> LockCalls | None:
    agreed = session.agreement
    bridge = session.bridge
    return bridge if isinstance(bridge, LockCalls) and agreed is not None and agreed.has(InitFlag.POSIX_LOCKS) else None


def getlk(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> Begun:
    bridge = _bridge(session)
    return replies.error(unique, errno.ENOSYS) if bridge is None else bridge.getlk(frame, *_wanted(buffer))


def in_the_way(session: Session, unique: int, nodeid: int, flock: Flock) -> bytes:
    end = flock.start + flock.length - 1 if flock.length else _OFFSET_MAX
    return p.LOCK.pack(p.LOCK.size, 0, unique, flock.start, end, flock.type, flock.pid)


def setlk(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> Begun:
    bridge = _bridge(session)
    return replies.error(unique, errno.ENOSYS) if bridge is None else bridge.setlk(frame, *_wanted(buffer), wait=False)


def setlkw(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> Begun:
    bridge = _bridge(session)
    return replies.error(unique, errno.ENOSYS) if bridge is None else bridge.setlk(frame, *_wanted(buffer), wait=True)


LOCKS: dict[Opcode, Operation] = {
    Opcode.GETLK: operation(Opcode.GETLK, getlk, in_the_way, interruptible=True),
    Opcode.SETLK: operation(Opcode.SETLK, setlk),
    Opcode.SETLKW: operation(Opcode.SETLKW, setlkw, interruptible=True),  # cancelled, it was never asked for
}
