"""Operations on open files."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.notifier import write_back
from fusemux.fuse.kernel.operations import privileges
from fusemux.fuse.kernel.operations.operation import Operation, operation, payload
from fusemux.fuse.kernel.protocol import BODY, Opcode
from fusemux.fuse.kernel.requests import Buffer, name
from fusemux.fuse.kernel.requests import payload as request_payload
from fusemux.fuse.kernel.session import Append, Session
from fusemux.graph.framework.types import Frame, Iatt

__all__ = ["FILES"]

_Call = Coroutine[Any, Any, Any]

_OPEN = p.BODIES[Opcode.OPEN].unpack_from
_CREATE = p.BODIES[Opcode.CREATE].unpack_from
_READ = p.BODIES[Opcode.READ].unpack_from
_WRITE = p.BODIES[Opcode.WRITE].unpack_from
_FLUSH = p.BODIES[Opcode.FLUSH].unpack_from
_RELEASE = p.BODIES[Opcode.RELEASE].unpack_from
_FSYNC = p.BODIES[Opcode.FSYNC].unpack_from
_FALLOCATE = p.BODIES[Opcode.FALLOCATE].unpack_from
_LSEEK = p.BODIES[Opcode.LSEEK].unpack_from
_COPY = p.BODIES[Opcode.COPY_FILE_RANGE].unpack_from
_NAME = BODY + p.BODIES[Opcode.CREATE].size
_DATA = BODY + p.BODIES[Opcode.WRITE].size
_O_TRUNC, _O_APPEND = 0o1000, 0o2000


# -- opening and closing -----------------------------------------------------------------------------------------


def create(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    flags, mode, frame.umask, _ = _CREATE(buffer, BODY)
    return session.bridge.create(frame, nodeid, name(buffer, _NAME, end), flags, mode)


def tmpfile(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    flags, mode, frame.umask, _ = _CREATE(buffer, BODY)
    return session.bridge.tmpfile(frame, nodeid, flags, mode)


def created(session: Session, unique: int, nodeid: int, result: tuple[int, Iatt, int]) -> bytes:
    node, iatt, fh = result
    if iatt.mode & privileges.PRIVILEGE_BITS:
        privileges.note(session, node, iatt)
    flags, backing = session.made(node, fh)
    generation = session.generations.get(node, 0)
    return replies.created(unique, node, iatt, session.valid_of(node), fh, flags, backing, generation)


def uncreate(session: Session, nodeid: int, result: tuple[int, Iatt, int]) -> _Call:
    session.forgotten(result[0], 1)
    session.closed(result[0], result[2])
    return session.bridge.release(Frame(), result[2])


def open_(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    flags, open_flags = _OPEN(buffer, BODY)
    if open_flags & p.OPEN_KILL_SUIDGID and flags & _O_TRUNC and nodeid in session.privileged:
        return _open_unprivileged(session, frame, nodeid, flags)
    return session.bridge.open(frame, nodeid, flags)


async def _open_unprivileged(session: Session, frame: Frame, nodeid: int, flags: int) -> int:
    await privileges.drop(session, frame, nodeid)
    return await session.bridge.open(frame, nodeid, flags)


def opened(session: Session, unique: int, nodeid: int, fh: int) -> bytes:
    flags, backing = session.opened(nodeid, fh)
    return replies.opened(unique, fh, flags, backing)


def unopen(session: Session, nodeid: int, fh: int) -> _Call:
    session.closed(nodeid, fh)
    return session.bridge.release(Frame(), fh)


def flush(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    fh, frame.lk_owner = _FLUSH(buffer, BODY)
    return session.bridge.flush(frame, fh)


def release(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    fh, _, _, frame.lk_owner = _RELEASE(buffer, BODY)
    if session.passthrough is not None or session.direct:
        session.closed(nodeid, fh)
    return session.bridge.release(frame, fh)


def fsync(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    fh, flags = _FSYNC(buffer, BODY)
    return session.bridge.fsync(frame, fh, bool(flags & p.FSYNC_DATASYNC))


# -- data --------------------------------------------------------------------------------------------------------


def read(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    fh, offset, size, _, _, _ = _READ(buffer, BODY)
    return session.bridge.read(frame, fh, offset, size)


def write(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    fh, offset, size, flags, _, opened_with = _WRITE(buffer, BODY)
    data = request_payload(buffer, _DATA, end, size)
    append = session.append if opened_with & _O_APPEND else None  # not set where mapped pages are written back
    if flags & p.WRITE_KILL_SUIDGID and nodeid in session.privileged:
        return _write_unprivileged(session, frame, nodeid, fh, offset, data, append)
    if append is not None:
        return append(frame, fh, data)
    return session.bridge.write(frame, fh, offset, data)


async def _write_unprivileged(
    session: Session, frame: Frame, nodeid: int, fh: int, offset: int, data: memoryview, append: Append | None
) -> int:
    await privileges.drop(session, frame, nodeid)
    if append is not None:
        return await append(frame, fh, data)
    return await session.bridge.write(frame, fh, offset, data)


def written(session: Session, unique: int, nodeid: int, count: int) -> bytes:
    return p.WRITTEN.pack(24, 0, unique, count)


def fallocate(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    fh, offset, length, mode = _FALLOCATE(buffer, BODY)
    if frame.uid and nodeid in session.privileged:
        return _fallocate_unprivileged(session, frame, nodeid, fh, mode, offset, length)
    return session.bridge.fallocate(frame, fh, mode, offset, length)


async def _fallocate_unprivileged(
    session: Session, frame: Frame, nodeid: int, fh: int, mode: int, offset: int, length: int
) -> None:
    await session.bridge.fallocate(frame, fh, mode, offset, length)
    await privileges.drop(session, frame, nodeid)


def lseek(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    fh, offset, whence = _LSEEK(buffer, BODY)
    if session.bridge.may_be_written(nodeid):
        return _lseek_written(session, frame, nodeid, fh, offset, whence)
    return session.bridge.lseek(frame, fh, offset, whence)


async def _lseek_written(session: Session, frame: Frame, nodeid: int, fh: int, offset: int, whence: int) -> int:
    """The kernel asks for holes without writing back first: what it still holds would be called a hole."""
    await write_back(session, nodeid)
    return await session.bridge.lseek(frame, fh, offset, whence)


def offset(session: Session, unique: int, nodeid: int, result: int) -> bytes:
    return p.OFFSET.pack(24, 0, unique, result)


def copy(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> _Call:
    fh_in, off_in, node_out, fh_out, off_out, length, flags = _COPY(buffer, BODY)
    call = session.bridge.copy_file_range(frame, fh_in, off_in, fh_out, off_out, min(length, _COPY_MAX), flags)
    if frame.uid and node_out in session.privileged:
        return _copy_unprivileged(session, frame, node_out, call)
    return call


# One request answers a 32-bit count; and while a file of gigabytes is copied nothing else is served.
_COPY_MAX = 16 << 20


async def _copy_unprivileged(session: Session, frame: Frame, nodeid: int, call: _Call) -> int:
    count: int = await call
    await privileges.drop(session, frame, nodeid)
    return count


FILES: dict[Opcode, Operation] = {
    Opcode.CREATE: operation(Opcode.CREATE, create, created, undo=uncreate, names=1),
    Opcode.TMPFILE: operation(Opcode.TMPFILE, tmpfile, created, undo=uncreate),
    Opcode.OPEN: operation(Opcode.OPEN, open_, opened, undo=unopen),
    Opcode.FLUSH: operation(Opcode.FLUSH, flush),
    Opcode.RELEASE: operation(Opcode.RELEASE, release),
    Opcode.FSYNC: operation(Opcode.FSYNC, fsync),
    Opcode.READ: operation(Opcode.READ, read, payload, interruptible=True),
    Opcode.WRITE: operation(Opcode.WRITE, write, written, keeps_buffer=True),
    Opcode.FALLOCATE: operation(Opcode.FALLOCATE, fallocate),
    Opcode.LSEEK: operation(Opcode.LSEEK, lseek, offset, interruptible=True),
    Opcode.COPY_FILE_RANGE: operation(Opcode.COPY_FILE_RANGE, copy, written),
    Opcode.COPY_FILE_RANGE_64: operation(Opcode.COPY_FILE_RANGE_64, copy, offset),
}
