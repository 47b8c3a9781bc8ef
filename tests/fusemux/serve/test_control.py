"""The control socket: both ends joined over a real socket."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
import trio

from fusemux.graph.framework.errors import FusemuxError
from fusemux.mount.errors import Exit, MountError
from fusemux.serve.control import CONNECTIONS_MAX, Refused, Unreachable, ask, serve_control


async def add(a: int, b: int) -> int:
    return a + b


async def refuse() -> None:
    raise MountError("/mnt is busy", Exit.FAILURE)


async def fail() -> None:
    raise ZeroDivisionError("a bug")


HANDLERS: dict[str, Callable[..., Awaitable[Any]]] = {"add": add, "refuse": refuse, "fail": fail}


def served(path: Path, client: Callable[[], Any]) -> Any:
    """What `client` (run in a thread) returns while the socket is served."""

    async def main() -> Any:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, path, HANDLERS)
            result = await trio.to_thread.run_sync(client)
            nursery.cancel_scope.cancel()
            return result

    return trio.run(main)


def test_answers_come_back(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    assert served(path, lambda: ask(path, "add", a=2, b=3)) == 5
    assert not path.exists()


def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    assert served(folder / "sock", lambda: ask(folder / "sock", "add", a=1, b=1)) == 2


def test_the_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    assert served(path, lambda: path.stat().st_mode & 0o777) == 0o600


def test_a_refusal_carries_its_exit_status(tmp_path: Path) -> None:
    path = tmp_path / "sock"

    def client() -> Refused:
        with pytest.raises(Refused, match="/mnt is busy") as caught:
            ask(path, "refuse")
        return caught.value

    assert served(path, client).exit == 32


@pytest.mark.parametrize(
    ("op", "arguments", "message"),
    [("nosuch", {}, "does not know 'nosuch'"), ("add", {"c": 1}, "TypeError"), ("fail", {}, "a bug")],
)
def test_what_cannot_be_answered_is_an_error_and_the_server_goes_on(
    tmp_path: Path, op: str, arguments: dict[str, int], message: str
) -> None:
    path = tmp_path / "sock"

    def client() -> int:
        with pytest.raises(FusemuxError, match=message):
            ask(path, op, **arguments)
        return int(ask(path, "add", a=1, b=2))

    assert served(path, client) == 3


@pytest.mark.parametrize(
    "rubbish", [b"\xc1", b"GET / HTTP/1.1\r\n\r\n", msgpack.packb([1, 2]), b"\xdf\xff\xff\xff\xff"]
)
def test_rubbish_does_not_stop_the_server(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "sock"

    def client() -> int:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(rubbish)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
        return int(ask(path, "add", a=1, b=2))

    assert served(path, client) == 3


def test_many_requests_on_one_connection_are_answered_in_order(tmp_path: Path) -> None:
    path = tmp_path / "sock"

    def client() -> list[int]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(b"".join(msgpack.packb({"op": "add", "a": n, "b": 0}) for n in range(50)))
            answers: list[int] = []
            unpacker = msgpack.Unpacker()
            while len(answers) < 50:
                unpacker.feed(sock.recv(65536))
                answers += [answer["ok"] for answer in unpacker]
            return answers

    assert served(path, client) == list(range(50))


def test_connections_that_come_and_go_leave_room_for_others(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    assert served(path, lambda: [ask(path, "add", a=n, b=0) for n in range(2 * CONNECTIONS_MAX)]) == list(
        range(2 * CONNECTIONS_MAX)
    )


def test_no_server_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no server answers"):
        ask(tmp_path / "sock", "status")
