"""Operations that concern the connection itself, and those that are refused."""

from __future__ import annotations

import errno
import logging

from fusemux.fuse.kernel import negotiation, replies
from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel.operations.operation import Operation, operation
from fusemux.fuse.kernel.protocol import BODY, Opcode
from fusemux.fuse.kernel.requests import Buffer, init
from fusemux.fuse.kernel.session import Session
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.types import Frame

__all__ = ["CONTROL"]

log = logging.getLogger("fusemux.fuse")
_INTERRUPT = p.BODIES[Opcode.INTERRUPT].unpack_from


def initialise(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> bytes:
    request = init(buffer, end)
    if request.major > p.MAJOR:
        return negotiation.reply_other_major(unique)
    try:
        agreement = negotiation.negotiate(request, session.options.wishes)
    except FusemuxError as error:
        session.failure = error
        session.ready.set()
        return replies.error(unique, errno.EPROTO)
    session.agree(agreement)
    log.debug("%s: FUSE %d.%d, %s", session.name, p.MAJOR, agreement.minor, agreement.flags.name)
    return negotiation.reply(unique, agreement)


def interrupt(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> None:
    session.interrupt(_INTERRUPT(buffer, BODY)[0])


def destroy(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> bytes:
    return replies.error(unique, 0)


def ignore(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> None:
    return None


def no_ioctl(session: Session, unique: int, nodeid: int, frame: Frame, buffer: Buffer, end: int) -> bytes:
    return replies.error(unique, errno.ENOTTY)


CONTROL: dict[Opcode, Operation] = {
    Opcode.INIT: operation(Opcode.INIT, initialise),
    Opcode.INTERRUPT: operation(Opcode.INTERRUPT, interrupt),
    Opcode.DESTROY: operation(Opcode.DESTROY, destroy),
    Opcode.NOTIFY_REPLY: operation(Opcode.NOTIFY_REPLY, ignore),
    Opcode.IOCTL: operation(Opcode.IOCTL, no_ioctl),
}
# Not here, so answered ENOSYS, after which the kernel does them itself or never asks again: BMAP, POLL (always ready),
# SETUPMAPPING, REMOVEMAPPING (virtiofs).
