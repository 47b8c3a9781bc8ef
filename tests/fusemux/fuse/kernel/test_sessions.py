"""Sessions that end in all ways, next to others that go on."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fusemux.fuse.kernel import mounting
from fusemux.graph.framework.errors import FusemuxError
from tests.fusemux.fuse.kernel.conftest import Server, is_mounted

pytestmark = pytest.mark.mount

CONNECTIONS = Path("/sys/fs/fuse/connections")


def test_many_mounts_in_one_process_each_on_its_own(serve: Callable[..., Server]) -> None:
    server = serve(count=20)
    for number, mount in enumerate(server.mounts):
        (mount / f"file{number}").write_text(str(number))
    for number, mount in enumerate(server.mounts):
        assert os.listdir(mount) == [f"file{number}"]
    assert len({os.stat(mount).st_dev for mount in server.mounts}) == 20
    server.tell("unmount", server.mounts[7])
    assert not is_mounted(server.mounts[7])
    subprocess.run(["umount", server.mounts[3]], check=True)
    for number in set(range(20)) - {3, 7}:
        assert (server.mounts[number] / f"file{number}").read_text() == str(number)
    assert len(server.tell("statistics")) == 18


def test_unmounting_what_is_in_use_says_so_and_breaks_nothing(serve: Callable[..., Server]) -> None:
    server = serve(count=2)
    with open(server.mount / "f", "w+") as f:
        assert "in use" in server.tell("unmount", server.mount)["error"]
        f.write("still served")
        f.flush()
        assert server.tell("detach", server.mount) == {}
        assert not is_mounted(server.mount)
        assert os.pread(f.fileno(), 100, 0) == b"still served"
    (server.mounts[1] / "other").touch()


def test_the_server_ends_with_its_last_mount(serve: Callable[..., Server]) -> None:
    server = serve(count=2)
    for mount in server.mounts:
        subprocess.run(["umount", mount], check=True)
    assert server.process.wait(10) == 0


def test_stopping_ends_what_is_in_use(serve: Callable[..., Server]) -> None:
    server = serve()
    fd = os.open(server.mount / "f", os.O_CREAT | os.O_RDWR)
    server.tell("stop")
    assert server.process.wait(20) == 0
    with pytest.raises(OSError, match="not connected"):
        os.write(fd, b"x")
    with contextlib.suppress(OSError):
        os.close(fd)
    assert not is_mounted(server.mount)


def test_dirty_data_of_the_writeback_cache_is_written_before_the_end(serve: Callable[..., Server]) -> None:
    server = serve("--writeback", count=2)
    fd = os.open(server.mount / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"x" * 100_000)
    assert server.tell("detach", server.mount) == {}
    os.close(fd)
    while len(server.tell("statistics")) > 1:
        pass
    assert server.tell("state", server.mount) == {"handles": 0, "nodes": 2, "bytes": 100_000}


def test_an_abort_ends_one_session_and_clears_its_mount(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(count=2)
    device = mounting.mounts_at(str(server.mount))[-1]
    control = CONNECTIONS
    if not any(control.iterdir()):
        control = tmp_path / "fusectl"
        control.mkdir()
        subprocess.run(["mount", "-t", "fusectl", "fusectl", control], check=True)
    try:
        fd = os.open(server.mount / "f", os.O_CREAT)
        (control / str(device.minor) / "abort").write_text("1")
        with contextlib.suppress(OSError):
            os.close(fd)
    finally:
        if control.is_mount() and control != CONNECTIONS:
            subprocess.run(["umount", control], check=True)
    (server.mounts[1] / "goes on").touch()
    while len(server.tell("statistics")) > 1:
        pass
    assert not is_mounted(server.mount)
    assert "aborted" in server.log.read_text()


def test_a_bug_in_a_handler_is_eio_for_its_call_alone(serve: Callable[..., Server]) -> None:
    server = serve()
    (server.mount / "boom").write_bytes(b"x")
    (server.mount / "fine").write_bytes(b"fine")
    for _ in range(3):
        fd = os.open(server.mount / "boom", os.O_RDONLY | os.O_DIRECT)
        with pytest.raises(OSError, match=rf"\[Errno {errno.EIO}\]"):
            os.read(fd, 10)
        os.close(fd)
    assert (server.mount / "fine").read_bytes() == b"fine"
    log = server.log.read_text()
    assert log.count("READ of node") == 1
    assert "ZeroDivisionError" in log


def test_a_signal_ends_a_call_that_waits_in_the_server(serve: Callable[..., Server]) -> None:
    server = serve()
    (server.mount / "f").touch()
    reader = subprocess.Popen(
        [sys.executable, "-c", "import os, sys; os.getxattr(sys.argv[1], 'user.slow')", server.mount / "f"],
    )
    while next(iter(server.tell("statistics").values()))["suspended"] == 0:
        pass
    (server.mount / "others").touch()  # are served meanwhile
    reader.send_signal(signal.SIGKILL)
    assert reader.wait(10) == -signal.SIGKILL
    while next(iter(server.tell("statistics").values()))["suspended"]:
        pass


def test_a_killed_server_leaves_a_stale_mount_that_is_named(serve: Callable[..., Server]) -> None:
    server = serve(count=2)
    fd = os.open(server.mount / "f", os.O_CREAT | os.O_RDWR)
    server.process.kill()
    server.process.wait()
    with pytest.raises(OSError, match=r"not connected|aborted"):
        os.write(fd, b"x" * 100_000)
    with contextlib.suppress(OSError):
        os.close(fd)
    assert mounting.is_stale(str(server.mount))
    with pytest.raises(FusemuxError, match="stale mount"):
        mounting.mount(str(server.mount), source="again")
    mounting.unmount(str(server.mount), lazy=True)
    assert not is_mounted(server.mount)


def test_a_forked_child_does_not_keep_the_connection(serve: Callable[..., Server]) -> None:
    server = serve()
    child = server.tell("fork")["pid"]
    done = threading.Event()

    def look() -> None:
        try:
            os.stat(server.mount)
        except OSError:
            done.set()

    server.process.kill()
    server.process.wait()
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        assert done.wait(10), "the call hangs: somebody holds the connection of a dead server"
    finally:
        os.kill(child, signal.SIGKILL)


def test_mounting_over_each_other_unmounts_only_the_own(serve: Callable[..., Server]) -> None:
    server = serve(count=2)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", server.mount], check=True)
    try:
        assert "mounted over" in server.tell("unmount", server.mount)["error"]
    finally:
        subprocess.run(["umount", server.mount], check=True)
    assert server.tell("unmount", server.mount) == {}
