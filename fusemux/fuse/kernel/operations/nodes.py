"""Operations on names and attributes."""

from __future__ import annotations

import errno
import time
from collections.abc import Coroutine
from typing import Any

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.operations import privileges
from fusemux.fuse.kernel.operations.operation import Operation, Reply, operation, payload
from fusemux.fuse.kernel.protocol import BODY, Opcode
from fusemux.fuse.kernel.requests import Buffer, batch_forget, name, two_names
from fusemux.fuse.kernel.session import Session
from fusemux.fuse.nodes import ROOT_ID
from fusemux.graph.framework.types import Frame, Iatt, SetAttr

__all__ = ["NODES"]

_Call = Coroutine[Any, Any, Any]

_NOT_KEPT = replies.validity(0, 0)
_FORGET = p.BODIES[Opcode.FORGET].unpack_from
_GETATTR = p.BODIES[Opcode.GETATTR].unpack_from
_SETATTR = p.BODIES[Opcode.SETATTR].unpack_from
_MKNOD = p.BODIES[Opcode.MKNOD].unpack_from
_MKDIR = p.BODIES[Opcode.MKDIR].unpack_from
_RENAME = p.BODIES[Opcode.RENAME].unpack_from
_RENAME2 = p.BODIES[Opcode.RENAME2].unpack_from
_LINK = p.BODIES[Opcode.LINK].unpack_from
_ACCESS = p.BODIES[Opcode.ACCESS].unpack_from
_STATX = p.BODIES[Opcode.STATX].unpack_from


# -- names to nodes ----------------------------------------------------------------------------------------------


def lookup(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call | bytes:
    if session.revoker and frame.pid == session.revoker:
        return replies.error(unique, errno.ESTALE)  # for a handle of what the kernel has forgotten
    wanted = name(buffer, BODY, end)
    if session.bridge.lacks(nodeid, wanted):
        return not_found(session, unique, errno.ENOENT)
    return session.bridge.lookup(frame, nodeid, wanted)


def found(session: Session, unique: int, nodeid: int, result: tuple[int, Iatt]) -> bytes:
    node, iatt = result
    if iatt.mode & privileges.PRIVILEGE_BITS:
        privileges.note(session, node, iatt)
    return replies.entry(unique, node, iatt, session.valid_of(node), session.generations.get(node, 0))


def not_found(session: Session, unique: int, error: int) -> bytes:
    if error == errno.ENOENT and session.negative is not None:
        return replies.negative(unique, session.negative)
    return replies.error(unique, error)


def unlook(session: Session, nodeid: int, result: tuple[int, Iatt]) -> None:
    """The kernel did not take the entry: it will not forget it either."""
    session.forgotten(result[0], 1)


def forget(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> None:
    session.forgotten(nodeid, _FORGET(buffer, BODY)[0])


def forget_many(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> None:
    forgotten = session.forgotten
    for node, nlookup in batch_forget(buffer, end):
        forgotten(node, nlookup)


# -- attributes --------------------------------------------------------------------------------------------------


def getattr_(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call | bytes:
    iatt = session.bridge.recalled(nodeid)
    if iatt is not None:
        return attributes(session, unique, nodeid, iatt)
    if session.revoker and frame.pid == session.revoker:
        return replies.attributes(unique, nodeid, replies.ROOT if nodeid == ROOT_ID else replies.NOTHING, _NOT_KEPT)
    flags, fh = _GETATTR(buffer, BODY)
    return session.bridge.getattr(frame, nodeid, fh if flags & p.GETATTR_FH else 0)


def attributes(session: Session, unique: int, nodeid: int, iatt: Iatt) -> bytes:
    if iatt.mode & privileges.PRIVILEGE_BITS:
        privileges.note(session, nodeid, iatt)
    return replies.attributes(unique, nodeid, iatt, session.valid_of(nodeid))


def statx(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    flags, fh, _, _ = _STATX(buffer, BODY)
    return session.bridge.getattr(frame, nodeid, fh if flags & p.GETATTR_FH else 0)


def extended_attributes(session: Session, unique: int, nodeid: int, iatt: Iatt) -> bytes:
    return replies.statx(unique, nodeid, iatt, session.valid_of(nodeid))


def setattr_(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    valid, fh, size, _, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns, mode, uid, gid = _SETATTR(buffer, BODY)
    now = time.time_ns() if valid & 0x180 else 0  # ATIME_NOW, MTIME_NOW
    attrs = SetAttr(
        mode & 0o7777 if valid & 0x1 else None,
        uid if valid & 0x2 else None,
        gid if valid & 0x4 else None,
        (now if valid & 0x80 else atime * 1_000_000_000 + atime_ns) if valid & 0x10 else None,
        (now if valid & 0x100 else mtime * 1_000_000_000 + mtime_ns) if valid & 0x20 else None,
        ctime * 1_000_000_000 + ctime_ns if valid & 0x400 else None,
    )
    new_size = size if valid & 0x8 else None
    handle = fh if valid & 0x40 else 0
    if valid & 0x800 and nodeid in session.privileged:
        return _setattr_unprivileged(session, frame, nodeid, handle, new_size, attrs)
    return session.bridge.setattr(frame, nodeid, handle, new_size, attrs)


async def _setattr_unprivileged(
    session: Session, frame: Frame, nodeid: int, fh: int, size: int | None, attrs: SetAttr
) -> Iatt:
    await privileges.drop(session, frame, nodeid)
    return await session.bridge.setattr(frame, nodeid, fh, size, attrs)


def access(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    return session.bridge.access(frame, nodeid, _ACCESS(buffer, BODY)[0])


# -- making and removing names -----------------------------------------------------------------------------------


def mknod(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    mode, rdev, frame.umask = _MKNOD(buffer, BODY)
    return session.bridge.mknod(frame, nodeid, name(buffer, BODY + 16, end), mode, rdev)


def mkdir(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    mode, frame.umask = _MKDIR(buffer, BODY)
    return session.bridge.mkdir(frame, nodeid, name(buffer, BODY + 8, end), mode)


def symlink(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    link_name, text = two_names(buffer, BODY, end)
    return session.bridge.symlink(frame, nodeid, link_name, text)


def link(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    (target,) = _LINK(buffer, BODY)
    return session.bridge.link(frame, target, nodeid, name(buffer, BODY + 8, end))


def unlink(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    return session.bridge.unlink(frame, nodeid, name(buffer, BODY, end))


def rmdir(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    return session.bridge.rmdir(frame, nodeid, name(buffer, BODY, end))


def rename(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    (newparent,) = _RENAME(buffer, BODY)
    old, new = two_names(buffer, BODY + 8, end)
    return session.bridge.rename(frame, nodeid, old, newparent, new, 0)


def rename2(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    newparent, flags = _RENAME2(buffer, BODY)
    old, new = two_names(buffer, BODY + 16, end)
    return session.bridge.rename(frame, nodeid, old, newparent, new, flags)


# -- others ------------------------------------------------------------------------------------------------------


def readlink(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    return session.bridge.readlink(frame, nodeid)


def statfs(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    return session.bridge.statfs(frame, nodeid)


def space(session: Session, unique: int, nodeid: int, result: Any) -> Reply:
    return replies.statfs(unique, result)


def syncfs(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    return session.bridge.syncfs(frame, nodeid)


NODES: dict[Opcode, Operation] = {
    Opcode.LOOKUP: operation(Opcode.LOOKUP, lookup, found, fail=not_found, undo=unlook, names=1, interruptible=True),
    Opcode.FORGET: operation(Opcode.FORGET, forget),
    Opcode.BATCH_FORGET: operation(Opcode.BATCH_FORGET, forget_many),
    Opcode.GETATTR: operation(Opcode.GETATTR, getattr_, attributes, interruptible=True),
    Opcode.STATX: operation(Opcode.STATX, statx, extended_attributes, interruptible=True),
    Opcode.SETATTR: operation(Opcode.SETATTR, setattr_, attributes),
    Opcode.ACCESS: operation(Opcode.ACCESS, access, interruptible=True),
    Opcode.READLINK: operation(Opcode.READLINK, readlink, payload, interruptible=True),
    Opcode.MKNOD: operation(Opcode.MKNOD, mknod, found, undo=unlook, names=1),
    Opcode.MKDIR: operation(Opcode.MKDIR, mkdir, found, undo=unlook, names=1),
    Opcode.SYMLINK: operation(Opcode.SYMLINK, symlink, found, undo=unlook, names=2),
    Opcode.LINK: operation(Opcode.LINK, link, found, undo=unlook, names=1),
    Opcode.UNLINK: operation(Opcode.UNLINK, unlink, names=1),
    Opcode.RMDIR: operation(Opcode.RMDIR, rmdir, names=1),
    Opcode.RENAME: operation(Opcode.RENAME, rename, names=2),
    Opcode.RENAME2: operation(Opcode.RENAME2, rename2, names=2),
    Opcode.STATFS: operation(Opcode.STATFS, statfs, space, interruptible=True),
    Opcode.SYNCFS: operation(Opcode.SYNCFS, syncfs),
}
