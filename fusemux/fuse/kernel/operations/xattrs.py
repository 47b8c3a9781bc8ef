"""Operations on extended attributes."""

from __future__ import annotations

import errno
import stat
from collections.abc import Coroutine
from typing import Any

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.operations.operation import Begun, Operation, Reply, operation
from fusemux.fuse.kernel.operations.privileges import CAPABILITY
from fusemux.fuse.kernel.protocol import BODY, InitFlag, Opcode
from fusemux.fuse.kernel.requests import Buffer, name, name_and_value
from fusemux.fuse.kernel.session import Session
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Frame, SetAttr

__all__ = ["XATTRS"]

_Call = Coroutine[Any, Any, Any]

_GETXATTR = p.BODIES[Opcode.GETXATTR].unpack_from
_ACL = b"system.posix_acl_access"
_SETXATTR = p.BODIES[Opcode.SETXATTR].unpack_from


def setxattr(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    size, flags, more, _ = _SETXATTR(buffer, BODY)
    extended = session.agreement is not None and session.agreement.has(InitFlag.SETXATTR_EXT)
    key, value = name_and_value(buffer, BODY + (16 if extended else 8), end, size)
    if key == CAPABILITY:
        session.capable(nodeid)
    if extended and more & p.SETXATTR_ACL_KILL_SGID and key == _ACL:  # the kernel asks for it with default ACLs, too
        return _set_acl_of_strangers(session, frame, nodeid, key, value, flags)
    return session.bridge.setxattr(frame, nodeid, key, value, flags)


async def _set_acl_of_strangers(
    session: Session, frame: Frame, nodeid: int, key: bytes, value: bytes, flags: int
) -> None:
    """Who sets the ACL of a file whose group is not his does not keep its set-group-ID bit."""
    bridge = session.bridge
    await bridge.setxattr(frame, nodeid, key, value, flags)
    mode = (await bridge.getattr(frame, nodeid)).mode
    if mode & stat.S_ISGID:
        await bridge.setattr(frame, nodeid, 0, None, SetAttr(mode=mode & 0o7777 & ~stat.S_ISGID))


def getxattr(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> Begun:
    (size,) = _GETXATTR(buffer, BODY)
    key = name(buffer, BODY + 8, end)
    if key == CAPABILITY:  # asked before the first write to every file
        if nodeid in session.incapable:
            return replies.error(unique, errno.ENODATA)
        return _capability(session, frame, nodeid, size)
    return _value(session, frame, nodeid, key, size)


async def _value(session: Session, frame: Frame, nodeid: int, key: bytes, size: int) -> int | bytes:
    return _sized(await session.bridge.getxattr(frame, nodeid, key), size)


async def _capability(session: Session, frame: Frame, nodeid: int, size: int) -> int | bytes:
    try:
        value = await session.bridge.getxattr(frame, nodeid, CAPABILITY)
    except FopError as error:
        if error.errno == errno.ENODATA:
            session.incapable_now(nodeid)
        raise
    session.capable(nodeid)
    return _sized(value, size)


def listxattr(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    return _names(session, frame, nodeid, _GETXATTR(buffer, BODY)[0])


async def _names(session: Session, frame: Frame, nodeid: int, size: int) -> int | bytes:
    return _sized(b"".join(key + b"\0" for key in await session.bridge.listxattr(frame, nodeid)), size)


def _sized(value: bytes, size: int) -> int | bytes:
    """The value, or its size when only that was asked."""
    if size == 0:
        return len(value)
    if len(value) > size:
        raise FopError(errno.ERANGE)
    return value


def sized(session: Session, unique: int, nodeid: int, result: int | bytes) -> Reply:
    if isinstance(result, int):
        return p.XATTR_SIZE.pack(p.XATTR_SIZE.size, 0, unique, result)
    return replies.with_payload(unique, result)


def removexattr(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    return session.bridge.removexattr(frame, nodeid, name(buffer, BODY, end))


XATTRS: dict[Opcode, Operation] = {
    Opcode.SETXATTR: operation(Opcode.SETXATTR, setxattr, names=0),
    Opcode.GETXATTR: operation(Opcode.GETXATTR, getxattr, sized, names=1, interruptible=True),
    Opcode.LISTXATTR: operation(Opcode.LISTXATTR, listxattr, sized, interruptible=True),
    Opcode.REMOVEXATTR: operation(Opcode.REMOVEXATTR, removexattr, names=1),
}
