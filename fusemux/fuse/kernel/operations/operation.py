"""The form of an operation: how a request begins and how its reply is made.

    begin(session, unique, nodeid, frame, buffer, end)  -> a coroutine of the bridge, or a ready reply, or None (no reply)
    finish(session, unique, nodeid, result)             -> the reply: bytes, or (header, payload) for writev(2)
    fail(session, unique, errno)                        -> the reply when the coroutine raised FopError
    undo(session, nodeid, result)                       -> a coroutine or None: the kernel refused the reply

`begin` and `finish` are plain functions around one coroutine, so that a request costs no coroutine of ours.  Where more
than one call of the bridge is needed, `begin` returns a coroutine of its own and `finish` only wraps the result.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.protocol import Opcode
from fusemux.fuse.kernel.requests import Buffer
from fusemux.fuse.kernel.session import Session
from fusemux.graph.framework.types import Frame

__all__ = ["Begun", "Operation", "Reply", "done", "fail", "operation", "payload"]

Reply = bytes | tuple[bytes | memoryview, ...]
Begun = Coroutine[Any, Any, Any] | bytes | None
Begin = Callable[[Session, int, int, Frame, Buffer, int], Begun]
Finish = Callable[[Session, int, int, Any], Reply]
Fail = Callable[[Session, int, int], bytes]
Undo = Callable[[Session, int, Any], Coroutine[Any, Any, Any] | None]


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    least: int  # bytes that a request must have
    begin: Begin
    finish: Finish
    fail: Fail
    undo: Undo | None
    interruptible: bool  # may be cancelled while it waits: it changes nothing
    keeps_buffer: bool  # its coroutine refers to the request's payload


def done(session: Session, unique: int, nodeid: int, result: Any) -> bytes:
    """Success, and nothing to say."""
    return replies.error(unique, 0)


def fail(session: Session, unique: int, errno: int) -> bytes:
    return replies.error(unique, errno)


def payload(session: Session, unique: int, nodeid: int, result: Any) -> Reply:
    return replies.with_payload(unique, result)


def operation(
    opcode: Opcode,
    begin: Begin,
    finish: Finish = done,
    *,
    undo: Undo | None = None,
    fail: Fail = fail,
    names: int = 0,
    interruptible: bool = False,
    keeps_buffer: bool = False,
) -> Operation:
    """The row of `opcode`; a request of it has its fixed part and `names` names of at least one byte and a NUL."""
    body = p.BODIES.get(opcode)
    least = p.BODY + (body.size if body else 0) + 2 * names
    return Operation(opcode.name, least, begin, finish, fail, undo, interruptible, keeps_buffer)
