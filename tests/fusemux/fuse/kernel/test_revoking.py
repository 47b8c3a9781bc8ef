"""Open files that are made to fail because the kernel reads and writes them past a graph that has changed."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio

from fusemux.fuse.kernel import mounting, revoking
from fusemux.graph.debug.fault import Fault, lift, place
from fusemux.graph.framework.errors import FusemuxError
from tests.fusemux.fuse.kernel.passing import Mounted, mounted
from tests.parity import libc

pytestmark = pytest.mark.mount

REFUSED = Fault("error", fops=frozenset({"writev", "readv"}), errno=errno.EDQUOT)


def test_what_is_open_past_a_fault_can_be_revoked(tmp_path: Path) -> None:
    """Also a file that has no name any more; what is mapped stays mapped, and the name leads to the file as before."""

    def scene(m: Mounted) -> None:
        (m.path / "other").write_bytes(b"closed")
        calls: list[Callable[[int], Any]] = [
            lambda fd: os.pread(fd, 1, 0), lambda fd: os.pwrite(fd, b"x", 0), os.fstat, os.fsync, lambda fd: os.ftruncate(fd, 0),
            os.close,
        ]  # fmt: skip
        named, nameless = (os.open(m.path / name, os.O_CREAT | os.O_RDWR) for name in ("named", "nameless"))
        os.write(named, b"passed")
        os.unlink(m.path / "nameless")
        with mmap.mmap(named, 6) as memory:
            assert m.bypassing() == set()
            trio.from_thread.run_sync(place, m.brick.graph.top, REFUSED)
            trio.from_thread.run_sync(m.volume.graph.relink)
            nodes = {os.fstat(fd).st_ino for fd in (named, nameless)}
            assert m.bypassing() == nodes
            assert m.revoke(nodes) == 2
            assert (m.bypassing(), m.passed) == (set(), 0)
            for fd in (named, nameless):
                for call in calls:
                    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                        call(fd)
            assert memory[:] == b"passed"
        with open(m.path / "named", "r+b", buffering=0) as late, pytest.raises(OSError, match="quota"):
            late.write(b"seen")
        assert os.stat(m.path / "named").st_size == 6
        trio.from_thread.run_sync(lift, m.brick.graph.top, REFUSED)
        trio.from_thread.run_sync(m.volume.graph.relink)
        with open(m.path / "named", "r+b", buffering=0) as again:
            assert m.passed == 1
            assert again.read() == b"passed"
        assert sorted(os.listdir(m.path)) == ["named", "other"]
        assert (m.path / "other").read_bytes() == b"closed"

    mounted(tmp_path, "1", scene)


def test_a_file_can_be_revoked_again_and_again(tmp_path: Path) -> None:
    """Each time its name leads to it, also by way of a link, of a listing, and of a handle."""

    def scene(m: Mounted) -> None:
        (m.path / "f").write_bytes(b"there")
        for n in range(4):
            f = os.open(m.path / "f", os.O_RDONLY)
            node = os.fstat(f).st_ino
            assert m.revoke({node}) == 1
            match n:
                case 0:
                    assert (m.path / "f").read_bytes() == b"there"
                case 1:
                    os.link(m.path / "f", m.path / "g")
                    assert (m.path / "g").read_bytes() == b"there"
                case 2:
                    assert [entry.stat().st_ino for entry in os.scandir(m.path)] == [node, node]
            for call in (lambda f: os.read(f, 9), os.close):
                with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                    call(f)
        assert m.revoke({node}) == 0, "nobody has it open"
        assert (m.path / "f").read_bytes() == (m.path / "g").read_bytes() == b"there"
        handle = libc.file_handle(os.fsencode(m.path / "f"))
        root = os.open(m.path, os.O_RDONLY)
        found = libc.open_by_handle(root, handle)
        assert os.read(found, 9) == b"there"
        os.close(found)
        os.close(root)

    mounted(tmp_path, "1", scene)


def test_revoking_does_not_need_the_graph(tmp_path: Path) -> None:
    """Not even to reach the mount; and what is closed meanwhile counts as revoked."""

    def scene(m: Mounted) -> None:
        files = [os.open(m.path / f"f{n}", os.O_CREAT | os.O_WRONLY) for n in range(100)]
        for n in range(50):
            os.unlink(m.path / f"f{n}")
        frozen = Fault("freeze")
        trio.from_thread.run_sync(place, m.brick.graph.top, frozen)
        trio.from_thread.run_sync(m.volume.graph.relink)
        past = m.bypassing()
        with ThreadPoolExecutor(1) as closer:
            closing = closer.submit(lambda: [os.close(f) for f in files[:25]])
            assert 75 <= m.revoke(past) <= len(past) == 100
            with contextlib.suppress(OSError):
                closing.result()
        for f in files[25:]:
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                os.write(f, b"x")
        trio.from_thread.run_sync(lift, m.brick.graph.top, frozen)
        for f in files[25:]:
            with contextlib.suppress(OSError):
                os.close(f)
        with contextlib.suppress(OSError):
            [os.close(f) for f in files[:25]]

    mounted(tmp_path, "1", scene)


def test_who_looks_and_opens_again_during_a_revocation_is_not_hit_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither he nor anybody who opens the file after him, as long as he holds it."""
    held: list[int] = []
    is_bad = revoking._is_bad

    def reopen() -> None:
        held.append(os.open(tmp_path / "fusemux/f", os.O_RDWR))
        assert os.fstat(held[-1]).st_size == 5

    def meanwhile(root: int, node: int, generation: int) -> bool:
        with ThreadPoolExecutor(1) as somebody:
            somebody.submit(reopen).result()  # the old inode, which is still good
            bad = is_bad(root, node, generation)
            somebody.submit(reopen).result()
        return bad

    monkeypatch.setattr(revoking, "_is_bad", meanwhile)

    def scene(m: Mounted) -> None:
        f = os.open(m.path / "f", os.O_CREAT | os.O_RDWR)
        os.write(f, b"there")
        node = os.fstat(f).st_ino
        assert m.revoke({node}) == 1
        for old in (f, held[0]):
            for call in (lambda fd: os.write(fd, b"x"), os.close):
                with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                    call(old)
        assert os.pwrite(held[1], b"T", 0) == 1
        assert os.stat(m.path / "f").st_size == 5
        with open(m.path / "f", "r+b") as another, mmap.mmap(another.fileno(), 0) as memory:
            assert memory[:] == another.read() == b"There"
        os.close(held[1])

    mounted(tmp_path, "1", scene)


def test_two_revocations_at_once_end_every_file_between_them(tmp_path: Path) -> None:
    def scene(m: Mounted) -> None:
        files = [os.open(m.path / f"f{n}", os.O_CREAT | os.O_WRONLY) for n in range(100)]
        nodes = {os.fstat(f).st_ino for f in files}
        with ThreadPoolExecutor(2) as callers:
            first, second = callers.submit(m.revoke, nodes), callers.submit(m.revoke, nodes)
            assert first.result() + second.result() == 100
        for f in files:
            for call in (lambda fd: os.write(fd, b"x"), os.close):
                with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                    call(f)

    mounted(tmp_path, "1", scene)


def test_a_volume_that_is_not_at_its_place_any_more_is_not_revoked(tmp_path: Path) -> None:
    def scene(m: Mounted) -> None:
        with open(m.path / "f", "wb", buffering=0) as f:
            node = os.fstat(f.fileno()).st_ino
            mounting.unmount(str(m.path), lazy=True)
            with pytest.raises(FusemuxError, match="is not revoked: the volume is not there any more"):
                m.revoke({node})
            assert f.write(b"goes on") == 7
            assert m.passed == 1

    mounted(tmp_path, "1", scene)


def test_a_try_that_failed_changes_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    def scene(m: Mounted) -> None:
        f = os.open(m.path / "f", os.O_CREAT | os.O_WRONLY)
        node = os.fstat(f).st_ino
        subprocess.run(["mount", "-t", "tmpfs", "over", m.path], check=True)
        try:
            with pytest.raises(FusemuxError, match="or something is mounted over it"):
                m.revoke({node})
            assert os.write(f, b"goes on") == 7
        finally:
            subprocess.run(["umount", m.path], check=True)
        assert m.passed == 1
        assert m.revoke({node}) == 1
        for call in (lambda fd: os.write(fd, b"x"), os.close):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                call(f)

    mounted(tmp_path, "1", scene)


def test_a_mount_that_cannot_be_reached_in_time_is_given_up_and_nothing_of_it_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, let_go = threading.Event(), threading.Event()
    opened = revoking._Root._opened

    def late(root: revoking._Root) -> int:
        reached.set()
        let_go.wait()
        return opened(root)

    monkeypatch.setattr(revoking, "_WITHIN_S", 0.1)
    monkeypatch.setattr(revoking._Root, "_opened", late)

    def scene(m: Mounted) -> None:
        f = os.open(m.path / "f", os.O_CREAT | os.O_WRONLY)
        node = os.fstat(f).st_ino
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(FusemuxError, match="has not answered within"):
            m.revoke({node})
        assert reached.is_set()
        let_go.set()
        monkeypatch.setattr(revoking._Root, "_opened", opened)
        monkeypatch.setattr(revoking, "_WITHIN_S", 10)
        assert m.revoke({node}) == 1
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.close(f)
        while any(_leads_to(fd, m.path) for fd in set(os.listdir("/proc/self/fd")) - before):
            os.stat(m.path)  # what was given up ends by and by

    mounted(tmp_path, "1", scene)


def _leads_to(fd: str, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == str(path)
    except FileNotFoundError:
        return False


def test_only_what_lies_on_the_brick_with_a_fault_goes_past_it(tmp_path: Path) -> None:
    def scene(m: Mounted) -> None:
        files = [open(m.path / f"f{n}", "w+b", buffering=0) for n in range(20)]  # noqa: SIM115
        bricks = [[f for f in files if Path(brick.path, Path(f.name).name).exists()] for brick in m.volume.bricks]
        assert all(bricks)
        assert m.passed == 20
        trio.from_thread.run_sync(place, m.brick.graph.top, REFUSED)
        trio.from_thread.run_sync(m.volume.graph.relink)
        lost = {os.fstat(f.fileno()).st_ino for f in bricks[1]} ^ m.bypassing()
        assert len(lost) == 20 == len(m.bypassing()) + len(bricks[1])
        late = open(m.path / Path(bricks[1][0].name).name, "r+b", buffering=0)  # noqa: SIM115
        late.write(b"the kernel asks for capabilities first")
        before = m.requests
        late.write(b"and then nobody")
        assert m.requests == before
        late.close()
        assert m.revoke(m.bypassing()) == len(bricks[0])
        for f in bricks[0]:
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                f.write(b"x")
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                f.close()
        for f in bricks[1]:
            f.close()

    mounted(tmp_path, "2", scene)
