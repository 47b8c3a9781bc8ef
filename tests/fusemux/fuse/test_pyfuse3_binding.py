"""The pyfuse3 binding: real mounts, of file systems in memory, served by a process of their own.

What a mounted volume must do is compared with tmpfs in tests/parity; here is what concerns the binding itself.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import mounting
from tests.fusemux.fuse.conftest import Server

pytestmark = pytest.mark.mount

Serve = Callable[..., Server]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="several volumes in one session need root")


def test_the_mount_table_shows_source_and_type_and_nothing_else_is_left(serve: Serve) -> None:
    server = serve()
    (words,) = server.lines()
    assert words[0] == "source\\0400"
    assert words[2] == "fuse.fusemux"
    subprocess.run(["umount" if os.geteuid() == 0 else "fusermount3", *(["-u"] if os.geteuid() else []), words[1]])
    assert server.wait_ended() == 0
    assert server.lines() == []


@pytest.mark.parametrize("options", [(), ("--writeback",)])
def test_files_are_made_written_read_and_removed(serve: Serve, options: tuple[str, ...]) -> None:
    server = serve(*options)
    (mount,) = server.mounts
    content = os.urandom(3_000_000)
    (mount / "file").write_bytes(content)
    assert (mount / "file").read_bytes() == content
    (mount / "file").rename(mount / "other")
    assert os.listdir(mount) == ["other"]
    (mount / "other").unlink()
    assert os.listdir(mount) == []
    assert server.ask("statistics", mount)["open_files"] == 0


def test_what_the_kernel_knows_it_does_not_ask_again(serve: Serve) -> None:
    server = serve()
    (mount,) = server.mounts
    (mount / "file").write_bytes(b"content")
    (mount / "file").stat()
    before = [server.ask("calls", mount, fop) for fop in ("lookup", "stat", "readv")]
    for _ in range(5):
        (mount / "file").stat()
        assert not (mount / "missing").exists()
        assert (mount / "file").read_bytes() == b"content"
    after = [server.ask("calls", mount, fop) for fop in ("lookup", "stat", "readv")]
    asked = [now - then for now, then in zip(after, before, strict=True)]
    assert asked == [1, 1, 1]  # the missing name; the time of access, which reading has changed; the contents


def test_writing_asks_nothing_about_capabilities_of_a_new_file(serve: Serve) -> None:
    server = serve()
    (mount,) = server.mounts
    with open(mount / "file", "wb", buffering=0) as file:
        for _ in range(10):
            file.write(b"x")
    assert server.ask("calls", mount, "writev") == 10
    assert server.ask("calls", mount, "getxattr") == 0


def test_a_bug_is_eio_for_that_call_logged_once_and_nothing_more(serve: Serve) -> None:
    server = serve()
    (mount,) = server.mounts
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output") as caught:
            (mount / "bug").stat()
        assert caught.value.errno == errno.EIO
    (mount / "file").write_bytes(b"still here")
    assert (mount / "file").read_bytes() == b"still here"
    log = server.log.read_text()
    assert log.count("RuntimeError: a bug") == 1
    assert "lookup(1, b'bug') raised, answered EIO" in log


def test_requests_that_wait_do_not_hold_up_others(serve: Serve) -> None:
    server = serve()
    (mount,) = server.mounts
    names = [f"slow{number}" for number in range(20)]
    for name in names:
        (mount / name).write_bytes(name.encode())
    subprocess.run(["sync", "-f", mount], check=True)
    drop_pages(*(mount / name for name in names))
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda n=name: found.append((mount / n).read_bytes())) for name in names]
    for thread in threads:
        thread.start()
    for number in range(30):
        (mount / f"other{number}").write_bytes(b"x")
        assert (mount / f"other{number}").read_bytes() == b"x"
    assert found == []
    (mount / "go").touch()
    for thread in threads:
        thread.join(20)
    assert sorted(found) == sorted(name.encode() for name in names)
    (mount / "again").write_bytes(b"one reader is left and reads")


def drop_pages(*paths: Path) -> None:
    """Make the kernel ask for the contents again."""
    for path in paths:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_the_kernel_drops_what_it_knows_beyond_the_limit(serve: Serve) -> None:
    server = serve("--lru", "200")
    (mount,) = server.mounts
    for number in range(1000):
        (mount / f"{number}").touch()
    while server.ask("statistics", mount)["nodes"] > 400:  # a thread asks the kernel, which answers when it has time
        for number in range(1000):
            (mount / f"{number}").stat()
    assert len(os.listdir(mount)) == 1000


def test_what_others_change_is_seen_at_once(serve: Serve) -> None:
    server = serve()
    (mount,) = server.mounts
    file = mount / "file"
    file.write_bytes(b"mine")
    assert (file.read_bytes(), file.stat().st_size) == (b"mine", 4)
    server.ask("overwrite", mount, "file", "of another")
    while file.stat().st_size == 4:  # the notice is on its way
        os.sched_yield()
    assert (file.read_bytes(), file.stat().st_size) == (b"of another", 10)


@pytest.mark.parametrize("lazily", [False, True])
def test_unmounting_ends_the_server_when_nobody_uses_it_any_more(serve: Serve, lazily: bool) -> None:
    server = serve()
    (mount,) = server.mounts
    (mount / "file").write_bytes(b"content")
    if lazily:
        with open(mount / "file", "rb") as file:
            server.ask("detach", mount)
            assert server.lines() == []
            assert file.read() == b"content"
    else:
        server.tell("unmount", mount)
    assert server.wait_ended() == 0


def test_a_busy_mount_is_not_unmounted_but_stopped_and_its_data_written_back(serve: Serve) -> None:
    server = serve("--writeback")
    (mount,) = server.mounts
    fd = os.open(mount / "file", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"gathered")
    server.tell("unmount", mount)
    assert "is in use" in server.line()
    assert server.ask("calls", mount, "writev") == 0
    server.process.terminate()
    assert json.loads(server.line()) == {str(mount): {"file": "gathered"}}
    assert server.wait_ended() == 0
    assert server.lines() == []
    assert "lost to their programs" in server.log.read_text()
    with pytest.raises(OSError, match="not connected"):
        os.close(fd)


def test_a_mount_point_that_is_not_there_is_named(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    words = [str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "missing")]
    for paths in (words[2:], words) if os.geteuid() == 0 else (words[2:],):
        done = run_server(*paths)
        assert f"error: mount point {words[2]} does not exist; create the directory first" in done.stdout
        assert not [path for path in words[:2] if os.path.ismount(path)]


def run_server(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fusemux.fuse.server", *words]
    return subprocess.run(
        command, cwd=mounting.ROOT, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
    )


# -- several volumes in one session -----------------------------------------------------------------------------


@root_only
def test_volumes_of_one_session_have_places_sources_and_contents_of_their_own(serve: Serve) -> None:
    server = serve(count=3)
    assert [words[0] for words in server.lines()] == [f"source\\040{number}" for number in range(3)]
    for number, mount in enumerate(server.mounts):
        (mount / "file").write_bytes(b"%d" % number)
        (mount / "folder").mkdir()
        (mount / "folder" / "deep").write_bytes(b"deep %d" % number)
    for number, mount in enumerate(server.mounts):
        assert (mount / "file").read_bytes() == b"%d" % number
        assert (mount / "folder" / "deep").read_bytes() == b"deep %d" % number
        assert sorted(os.listdir(mount)) == ["file", "folder"]
        assert (mount / "folder" / ".." / "file").read_bytes() == b"%d" % number
        assert os.statvfs(mount).f_bavail == 500
    assert len({os.stat(mount).st_ino for mount in server.mounts}) == 3


@root_only
def test_nothing_moves_or_links_from_one_volume_to_another(serve: Serve) -> None:
    server = serve(count=2)
    one, two = server.mounts
    (one / "file").touch()
    for call in (os.rename, os.link):
        with pytest.raises(OSError, match="cross-device"):
            call(one / "file", two / "file")


@root_only
def test_unmounting_one_volume_leaves_the_others_and_the_last_ends_the_server(serve: Serve) -> None:
    server = serve(count=3)
    first, second, third = server.mounts
    for mount in server.mounts:
        (mount / "file").write_bytes(b"content")
    server.ask("unmount", first)
    subprocess.run(["umount", second], check=True)
    assert (third / "file").read_bytes() == b"content"
    assert not (first / "file").exists()
    server.tell("unmount", third)
    assert server.wait_ended() == 0


@root_only
def test_each_volume_may_be_read_only_by_itself(serve: Serve) -> None:
    server = serve("--read-only", count=2)
    for mount in server.mounts:
        with pytest.raises(OSError, match="Read-only"):
            (mount / "file").touch()


@root_only
def test_sigterm_unmounts_all_volumes_also_busy_ones(serve: Serve) -> None:
    server = serve("--writeback", count=3)
    fd = os.open(server.mounts[1] / "file", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"gathered")
    server.process.terminate()
    assert json.loads(server.line())[str(server.mounts[1])] == {"file": "gathered"}
    assert server.wait_ended() == 0
    assert server.lines() == []
    with pytest.raises(OSError, match="not connected"):
        os.close(fd)


# -- places in directories that change ---------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = _libc.readdir.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long
_libc.telldir.argtypes = _libc.readdir.argtypes = _libc.closedir.argtypes = [ctypes.c_void_p]
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
_NAME_OFFSET = 19  # of d_name in struct dirent


def next_name(stream: int) -> str | None:
    entry = _libc.readdir(stream)
    return ctypes.string_at(entry + _NAME_OFFSET).decode() if entry else None


def test_seekdir_finds_its_place_again_while_entries_come_and_go(serve: Serve) -> None:
    server = serve()
    (mount,) = server.mounts
    for number in range(400):
        (mount / f"{number:04}").touch()
    stream = _libc.opendir(os.fsencode(mount))
    try:
        places = []
        while (name := next_name(stream)) is not None:
            places.append((_libc.telldir(stream), name))
        assert [name for _, name in places] == [".", "..", *(f"{number:04}" for number in range(400))]
        for number in range(1, 400, 2):
            (mount / f"{number:04}").unlink()
            (mount / f"new{number}").touch()
        for place, name in places[2:-2:6]:
            _libc.seekdir(stream, place)
            assert next_name(stream) == f"{int(name) + 2 - int(name) % 2:04}"
    finally:
        _libc.closedir(stream)
