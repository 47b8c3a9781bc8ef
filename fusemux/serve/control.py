"""The control socket of a serving process: questions and orders as msgpack maps over a unix socket.

    {"op": "status"}                      ->  {"ok": {...}}
    {"op": "unmount", "path": "/mnt"}     ->  {"ok": null}  or  {"error": "...", "exit": 32}

Requests on one connection are answered in order.  The socket is for its owner alone (mode 0600, in a folder of mode
0700); requests are bounded in size, connections in number and in the time they may idle.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]

from fusemux.graph.framework.errors import FusemuxError

__all__ = ["Refused", "Unreachable", "ask", "serve_control"]

MESSAGE_MAX = 4 * 1024 * 1024
CONNECTIONS_MAX = 32
IDLE_S = 60
log = logging.getLogger("fusemux.control")

Handler = Callable[..., Awaitable[Any]]


class Unreachable(FusemuxError):
    """No server answers at this socket."""


class Refused(FusemuxError):
    """The server said no; `exit` is the status to end with."""

    def __init__(self, message: str, exit: int = 1) -> None:
        super().__init__(message)
        self.exit = exit


async def serve_control(path: Path, handlers: Mapping[str, Handler], task_status: Any) -> None:
    """Answer at `path` until cancelled; `handlers` are called with the other keys of the request as arguments."""
    import trio

    limiter = trio.Semaphore(CONNECTIONS_MAX)
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        with _short(path) as address:
            path.unlink(missing_ok=True)
            await listener.bind(address)
        os.chmod(path, 0o600)
        listener.listen()
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    await limiter.acquire()
                    connection, _ = await listener.accept()
                    nursery.start_soon(_answer_all, trio.SocketStream(connection), handlers, limiter)
        finally:
            path.unlink(missing_ok=True)


async def _answer_all(stream: Any, handlers: Mapping[str, Handler], limiter: Any) -> None:
    import trio

    unpacker = msgpack.Unpacker(max_buffer_size=MESSAGE_MAX)
    try:
        async with stream:
            while True:
                with trio.move_on_after(IDLE_S):
                    data = await stream.receive_some()
                    if not data:
                        return
                    unpacker.feed(data)
                    for request in unpacker:
                        await stream.send_all(msgpack.packb(await _answer(request, handlers)))
                    continue
                return
    except (trio.BrokenResourceError, msgpack.UnpackException, ValueError):
        pass  # the other side went away, or does not speak this
    finally:
        limiter.release()


async def _answer(request: Any, handlers: Mapping[str, Handler]) -> dict[str, Any]:
    if not isinstance(request, dict) or not isinstance(request.get("op"), str):
        return {"error": "a request is a map with 'op'", "exit": 1}
    arguments = {str(key): value for key, value in request.items() if key != "op"}
    handler = handlers.get(request["op"])
    if handler is None:
        return {"error": f"the server does not know {request['op']!r}; is it of another version?", "exit": 1}
    try:
        return {"ok": await handler(**arguments)}
    except FusemuxError as error:
        return {"error": str(error), "exit": int(getattr(error, "exit", 1))}
    except Exception as error:
        log.exception("control request %r failed", request["op"])
        return {"error": f"{type(error).__name__}: {error}", "exit": 4}


def ask(path: Path, op: str, /, *, timeout_s: float = 60, **arguments: Any) -> Any:
    """The answer of the server at `path`.  Raises Unreachable, and Refused when it says no."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
        sock.settimeout(timeout_s)
        try:
            sock.connect(stack.enter_context(_short(path)))
            sock.sendall(msgpack.packb({"op": op, **arguments}))
            answer = _receive(sock)
        except TimeoutError:
            raise Unreachable(f"the server at {path} did not answer within {timeout_s:g} s") from None
        except (OSError, EOFError) as error:
            raise Unreachable(f"no server answers at {path}: {error}") from None
    if "error" in answer:
        raise Refused(answer["error"], answer.get("exit", 1))
    return answer["ok"]


def _receive(sock: socket.socket) -> dict[str, Any]:
    unpacker = msgpack.Unpacker(max_buffer_size=MESSAGE_MAX)
    while data := sock.recv(65536):
        unpacker.feed(data)
        for answer in unpacker:
            return dict(answer)
    raise EOFError("it closed the connection")


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address for `path` that fits into the 108 bytes of a unix socket's, however long the path."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
