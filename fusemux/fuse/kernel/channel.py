"""The channel: reads the requests of all sessions on one event loop and answers them.

One task, the leader, waits until any session has requests, reads them until there are none, and drives the coroutine
of each request by hand, in place: on ramdisks it runs to its end there, and a request costs neither a task
nor a thread nor a lock.  When a coroutine really suspends (a brick on a disk, a contended lock), the leader stays with
it: the trap that it yielded goes to trio from the very task that was current when it was made, so cancel scopes,
nurseries and wake-ups inside belong to the right task, and nothing of trio's insides is touched.  Before that it starts
another task, which becomes the leader.  So a task costs only those requests that wait.

Answers wake their callers, which is the dearest part of a request, the more so when a processor sleeps and has to be
woken for each.  Where many sessions have requests at once, the answers are therefore held until a few are together: the first one
wakes, the others find everybody awake.

Fairness: in a turn every session that has requests gets at most `_BURST_MAX` of them served, and after `_SERVED_MAX`
requests or `_TURN_S` seconds all other tasks of the loop may run.  Limits: `_WAITING_MAX` requests may be suspended with their payload at
one time, each keeps a request buffer; nothing more is read until one of them ends.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import types
from collections.abc import Coroutine, Generator
from io import FileIO
from mmap import mmap
from time import perf_counter
from typing import Any

import trio

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.buffers import BufferPool
from fusemux.fuse.kernel.operations import OPERATIONS, Operation
from fusemux.fuse.kernel.operations.operation import Reply
from fusemux.fuse.kernel.patience import Patience
from fusemux.fuse.kernel.requests import ProtocolError, header
from fusemux.fuse.kernel.session import Session
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Frame

__all__ = ["Channel"]

log = logging.getLogger("fusemux.fuse")

_HEADER = p.HEADER.unpack_from
_OPERATION = OPERATIONS.get
_write, _writev = os.write, os.writev
_BURST_MAX = 16
_SERVED_MAX = 256
_TURN_S = 0.005
_WAITING_MAX = 128
_HELD_MAX = 16
_MANY = 4  # sessions with requests at once
_GONE = (errno.ENODEV, errno.ECONNABORTED, errno.EBADF, errno.ENOTCONN)
_Call = Coroutine[Any, Any, Any]
_Answer = tuple[Session, Operation, int, Reply, Any]  # session, operation, nodeid, reply, result
_Suspended = tuple[Operation, int, int, _Call, Any]  # operation, unique, nodeid, its coroutine, what that yielded
_TRY_AGAIN = (errno.EINTR, errno.ENOENT)  # ENOENT: the request was taken back while it was read


class Channel:
    """Serves the sessions that were added.  `run` is to be started once and ends when it is cancelled."""

    def __init__(self, max_write: int = 1 << 20) -> None:
        self.max_write = max_write
        self.sessions: dict[int, Session] = {}
        self._ready = select.epoll()  # of all sessions: one descriptor for trio to wait for
        self._pool = BufferPool(max_write)
        self._buffer = self._pool.take()
        self._room = trio.Event()
        self._patience = Patience()
        self._held: list[_Answer] = []
        self._nursery: trio.Nursery | None = None

    # -- life ------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._leader)
                task_status.started()
        finally:
            self._nursery = None
            for session in list(self.sessions.values()):
                self.remove(session)
            self._ready.close()

    def add(self, session: Session) -> None:
        """Serve `session` from now on; its descriptor must be non-blocking."""
        os.set_blocking(session.fd, False)
        self.sessions[session.fd] = session
        # It answers None where os.readv would raise, which would cost more than a request found.
        session.receive = FileIO(session.fd, closefd=False).readinto
        session.send_held = self._send_held
        self._ready.register(session.fd, select.EPOLLIN)

    def remove(self, session: Session) -> None:
        """The session is over: unmounted, aborted or given up.  Closes its descriptor."""
        if self.sessions.pop(session.fd, None) is None:
            return
        self._send_held()
        self._ready.unregister(session.fd)
        os.close(session.fd)
        session.fd = -1  # the number may be another file's from now on, and what is left of the session still speaks
        session.end()

    # -- the leader ------------------------------------------------------------------------------------------

    async def _leader(self) -> None:
        with trio.CancelScope() as scope:
            await self._lead(scope)

    @types.coroutine
    def _lead(self, scope: trio.CancelScope) -> Generator[Any, Any, None]:
        """Read and answer until a request suspends; then another task leads, and this one ends with that request."""
        poll, sessions = self._ready.poll, self.sessions
        patience = self._patience
        while True:
            if self._pool.lent > _WAITING_MAX:
                self._room = trio.Event()
                yield from self._room.wait().__await__()
            yield from trio.lowlevel.wait_readable(self._ready.fileno()).__await__()
            buffer = self._buffer
            left, burst, idle = _SERVED_MAX, 1, 0
            until = perf_counter() + _TURN_S
            while left > 0 and perf_counter() < until:
                before = left
                events = poll(0) if len(sessions) > 1 else [(fd, select.EPOLLIN) for fd in sessions]
                hold = len(events) >= _MANY
                if hold:
                    burst = 1  # to ask all again costs less than to find out for each that it has no more
                for fd, _ in events:
                    session = sessions.get(fd)
                    if session is None:
                        continue
                    receive = session.receive
                    for _ in range(burst):
                        try:
                            received = receive(buffer)
                        except OSError as error:
                            if error.errno not in _TRY_AGAIN:
                                self._broken(session, error)
                                break
                            continue
                        if received is None:
                            break
                        left -= 1
                        suspended = self._serve(session, buffer, received, hold)
                        if suspended is not None:
                            self._send_held()
                            yield from self._stay(scope, session, buffer, suspended)
                            return
                if hold:
                    self._send_held()
                if left < before:
                    burst = min(2 * burst, _BURST_MAX)
                    if idle:
                        patience.paid()
                        idle = 0
                    continue
                burst = 1
                idle += 1 if len(sessions) > 1 else 2  # reading in vain takes longer than asking
                if idle > patience.looks:
                    patience.failed()
                    break

    def _serve(self, session: Session, buffer: mmap, received: int, hold: bool = False) -> _Suspended | None:
        """Answer one request, or return what is needed to go on with it: its coroutine has suspended."""
        session.requests += 1
        length, opcode, unique, nodeid, uid, gid, pid, extension, _ = _HEADER(buffer)
        operation = _OPERATION(opcode)
        if operation is None or received < operation.least or length != received:
            self._refuse(session, buffer, received)
            return None
        call: Any
        result: Any = None
        reply: Reply
        try:
            call = operation.begin(session, unique, nodeid, Frame(uid, gid, pid), buffer, length - 8 * extension)
            if call is None:
                return None
            if type(call) is bytes:
                reply = call
            else:
                try:
                    trap = call.send(None)
                except StopIteration as stop:
                    result = stop.value
                    reply = operation.finish(session, unique, nodeid, result)
                else:
                    return operation, unique, nodeid, call, trap
        except FopError as error:
            reply = operation.fail(session, unique, error.errno)
        except Exception as fault:
            reply = self._fault(session, operation, unique, nodeid, fault)
        if not hold:
            try:  # as in _answer, which for most requests would be one call more
                if isinstance(reply, bytes):
                    _write(session.fd, reply)
                else:
                    _writev(session.fd, reply)
            except OSError as error:
                self._untaken(session, operation, nodeid, result, error)
            return None
        self._held.append((session, operation, nodeid, reply, result))
        if len(self._held) >= _HELD_MAX or not isinstance(reply, bytes):  # what carries a payload is not kept
            self._send_held()
        return None

    def _send_held(self) -> None:
        held = self._held
        if held:
            self._held = []
            for answer in held:
                self._answer(*answer)

    # -- what goes wrong -------------------------------------------------------------------------------------

    def _refuse(self, session: Session, buffer: mmap, received: int) -> None:
        """An unknown opcode, or a request that is too short to be one."""
        if received == 0:  # no kernel does this: the other end of a socket is closed
            self._broken(session, OSError(errno.ENODEV, "end of file"))
            return
        try:
            head = header(buffer, received)
        except ProtocolError as error:
            log.error("%s: %s", session.name, error)
            return
        operation = OPERATIONS.get(head.opcode)
        if operation is not None:
            log.error("%s: %s with %d bytes is too short", session.name, operation.name, received)
        reply = replies.error(head.unique, errno.ENOSYS if operation is None else errno.EINVAL)
        try:
            os.write(session.fd, reply)
        except OSError as error:
            self._unanswered(session, operation, error, None)

    def _fault(self, session: Session, operation: Operation, unique: int, nodeid: int, fault: BaseException) -> bytes:
        """A request that contradicts itself, or a bug: this request fails, nothing else does."""
        if isinstance(fault, ProtocolError):
            log.error("%s: %s: %s", session.name, operation.name, fault)
            return replies.error(unique, errno.EINVAL)
        session.report(operation.name, nodeid, fault)
        return replies.error(unique, errno.EIO)

    def _unanswered(self, session: Session, operation: Operation | None, error: OSError, undo: _Call | None) -> None:
        """The kernel did not take a reply: ENOENT when the request was given up, otherwise the connection is over."""
        if error.errno in _GONE:
            if undo is not None:
                undo.close()
            return  # reading will tell
        name = operation.name if operation is not None else "unknown request"
        if error.errno != errno.ENOENT:
            log.error("%s: the kernel refused the reply to %s: %s", session.name, name, error)
        if undo is not None and self._nursery is not None:
            self._nursery.start_soon(self._undo, session, name, undo)

    async def _undo(self, session: Session, name: str, undo: _Call) -> None:
        try:
            await undo
        except Exception as fault:
            session.report(f"undoing {name}", 0, fault)

    def _broken(self, session: Session, error: OSError) -> None:
        """Reading failed: unmounted (ENODEV), aborted (ECONNABORTED), or something worse."""
        session.aborted = error.errno != errno.ENODEV
        if error.errno == errno.ECONNABORTED:
            log.warning("%s: the connection was aborted", session.name)
        elif error.errno not in _GONE:
            log.error("%s: reading from /dev/fuse failed: %s", session.name, error)
        self.remove(session)

    # -- requests that wait ----------------------------------------------------------------------------------

    def _stay(
        self, scope: trio.CancelScope, session: Session, buffer: mmap, suspended: _Suspended
    ) -> Generator[Any, Any, None]:
        """Leave the lead to another task and go on with a suspended request in this one."""
        operation, unique, nodeid, call, trap = suspended
        assert self._nursery is not None
        if operation.keeps_buffer:
            self._buffer = self._pool.take()
        self._nursery.start_soon(self._leader)
        session.suspended[unique] = scope.cancel if operation.interruptible else _not_now
        reply: Reply | None = None
        result: Any = None
        try:
            result = yield from _rest(call, trap)
            reply = operation.finish(session, unique, nodeid, result)
        except FopError as error:
            reply = operation.fail(session, unique, error.errno)
        except Exception as fault:
            reply = self._fault(session, operation, unique, nodeid, fault)
        except BaseException:  # cancelled: interrupted, or the process ends
            reply = replies.error(unique, errno.EINTR)
            raise
        finally:
            session.suspended.pop(unique, None)
            session.settle()
            if operation.keeps_buffer:
                self._pool.give(buffer)
                self._room.set()
            if reply is not None and not session.ended.is_set():
                self._answer(session, operation, nodeid, reply, result)

    def _answer(self, session: Session, operation: Operation, nodeid: int, reply: Reply, result: Any) -> None:
        try:
            if isinstance(reply, bytes):
                _write(session.fd, reply)
            else:
                _writev(session.fd, reply)
        except OSError as error:
            self._untaken(session, operation, nodeid, result, error)

    def _untaken(self, session: Session, operation: Operation, nodeid: int, result: Any, error: OSError) -> None:
        """The kernel did not take the answer to a request."""
        undo = operation.undo if result is not None else None
        self._unanswered(session, operation, error, undo(session, nodeid, result) if undo is not None else None)


def _not_now() -> None:
    """An interrupt of a request that changes something: it goes on to its end."""


def _rest(call: _Call, trap: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine that was driven up to `trap`, from within the same task."""
    try:
        while True:
            try:
                sent = yield trap
            except BaseException as thrown:
                trap = call.throw(thrown)
            else:
                trap = call.send(sent)
    except StopIteration as stop:
        return stop.value
