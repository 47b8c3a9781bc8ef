"""The readiness handshake: the caller's status is the truth about the server."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from fusemux.serve.daemon import Readiness, in_background
from fusemux.serve.notify import notify


def test_the_caller_goes_on_when_the_server_is_ready_and_not_before(tmp_path: Path) -> None:
    def serve(readiness: Readiness) -> int:
        (tmp_path / "sid").write_text(f"{os.getsid(0)} {os.getpid()}")
        readiness.ready()
        (tmp_path / "streams").write_text(" ".join(os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)))
        (tmp_path / "done").touch()
        return 0

    assert in_background(serve) == (0, "")
    sid, pid = (tmp_path / "sid").read_text().split()
    assert sid == pid != str(os.getpid())
    os.waitpid(int(pid), 0)
    assert (tmp_path / "streams").read_text() == "/dev/null /dev/null /dev/null"


def test_a_server_that_cannot_serve_gives_its_status_and_its_words() -> None:
    def serve(readiness: Readiness) -> int:
        readiness.failed(32, "brick /b: no such directory; mount it\nfirst")
        return 32

    assert in_background(serve) == (32, "brick /b: no such directory; mount it\nfirst")


def test_a_server_that_dies_without_a_word_is_reported() -> None:
    def serve(readiness: Readiness) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    status, message = in_background(serve)
    assert status == 32
    assert "signal 9" in message


def test_an_unexpected_exception_is_a_bug_and_says_so() -> None:
    def serve(readiness: Readiness) -> int:
        raise ZeroDivisionError("oops")

    status, message = in_background(serve)
    assert status == 4
    assert "ZeroDivisionError: oops" in message
    assert "bug" in message


def test_a_server_that_ends_without_a_word_is_reported() -> None:
    status, message = in_background(lambda readiness: 0)
    assert status == 32
    assert "before it served" in message


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"fusemux-test-{os.getpid()}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        assert notify("READY=1\nSTATUS=serving")
        assert sock.recv(100) == b"READY=1\nSTATUS=serving"


@pytest.mark.parametrize("address", ["", "relative", "/nonexistent/socket"])
def test_nobody_to_be_told_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")
