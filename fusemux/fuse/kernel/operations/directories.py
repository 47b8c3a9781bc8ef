"""Operations on open directories."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.operations import privileges
from fusemux.fuse.kernel.operations.operation import Operation, operation, payload
from fusemux.fuse.kernel.protocol import BODY, Opcode
from fusemux.fuse.kernel.requests import Buffer
from fusemux.fuse.kernel.session import Session
from fusemux.graph.framework.types import Frame

__all__ = ["DIRECTORIES"]

_Call = Coroutine[Any, Any, Any]

_READDIR = p.BODIES[Opcode.READDIR].unpack_from
_RELEASE = p.BODIES[Opcode.RELEASEDIR].unpack_from
_FSYNC = p.BODIES[Opcode.FSYNCDIR].unpack_from
_TYPICAL_NAME = bytes(16)  # decides how many entries are asked for, to fill a reply and not read much in vain


def opendir(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call | bytes:
    if session.revoker and frame.pid == session.revoker:
        return replies.opened(unique, 0, 0)
    return session.bridge.opendir(frame, nodeid)


def opened(session: Session, unique: int, nodeid: int, fh: int) -> bytes:
    return replies.opened(unique, fh, session.directory_flags)


def unopen(session: Session, nodeid: int, fh: int) -> _Call:
    return session.bridge.releasedir(Frame(), fh)


def releasedir(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    return session.bridge.releasedir(frame, _RELEASE(buffer, BODY)[0])


def fsyncdir(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    fh, flags = _FSYNC(buffer, BODY)
    return session.bridge.fsyncdir(frame, fh, bool(flags & p.FSYNC_DATASYNC))


def readdir(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    fh, offset, size, _, _, _ = _READDIR(buffer, BODY)
    return _listed(session, frame, fh, offset, size)


async def _listed(session: Session, frame: Frame, fh: int, offset: int, size: int) -> bytes:
    count = max(1, size // replies.dirent_size(_TYPICAL_NAME, plus=False))
    records = []
    for entry in await session.bridge.readdir(frame, fh, offset, count):
        record = replies.dirent(entry)
        size -= len(record)
        if size < 0:
            break
        records.append(record)
    return b"".join(records)


def readdirplus(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    fh, offset, size, _, _, _ = _READDIR(buffer, BODY)
    return _listed_plus(session, frame, fh, offset, size)


async def _listed_plus(session: Session, frame: Frame, fh: int, offset: int, size: int) -> bytes:
    """Each entry that is put into the reply counts as looked up; those that do not fit any more must not."""
    count = max(1, size // replies.dirent_size(_TYPICAL_NAME, plus=True))
    bridge, valid = session.bridge, session.valid
    records = []
    for entry in await bridge.readdirplus(frame, fh, offset, count):
        size -= replies.dirent_size(entry.name, plus=True)
        if size < 0:
            break
        iatt = entry.iatt
        if iatt is None:
            records.append(replies.dirent_plus(entry, 0, valid))
            continue
        nodeid = bridge.entered(entry, fh)
        if iatt.mode & privileges.PRIVILEGE_BITS:
            privileges.note(session, nodeid, iatt)
        generation = session.generations.get(nodeid, 0)
        records.append(replies.dirent_plus(entry, nodeid, session.valid_of(nodeid), generation))
    return b"".join(records)


DIRECTORIES: dict[Opcode, Operation] = {
    Opcode.OPENDIR: operation(Opcode.OPENDIR, opendir, opened, undo=unopen),
    Opcode.RELEASEDIR: operation(Opcode.RELEASEDIR, releasedir),
    Opcode.FSYNCDIR: operation(Opcode.FSYNCDIR, fsyncdir),
    Opcode.READDIR: operation(Opcode.READDIR, readdir, payload, interruptible=True),
    Opcode.READDIRPLUS: operation(Opcode.READDIRPLUS, readdirplus, payload),
}
