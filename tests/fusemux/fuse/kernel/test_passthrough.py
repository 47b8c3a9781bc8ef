"""Files that the kernel reads and writes in the brick's file by itself."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import trio

from fusemux.bricks.storage.posix import mdata
from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel.passthrough import Passthrough
from fusemux.fuse.kernel.protocol import OpenFlag
from fusemux.graph.debug.fault import Fault, lift, place
from tests.fusemux.fuse.kernel.passing import Mounted, mounted

# -- the decision, without a kernel --------------------------------------------------------------------------------


class _Files:
    """As much of a bridge as passthrough asks for."""

    def __init__(self) -> None:
        self.passes = True

    def backing(self, fh: int) -> int | None:
        return 100 + fh if self.passes else None

    def unbacked(self, nodes: set[int]) -> set[int]:
        return set() if self.passes else nodes


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What was told to the kernel, which gives out 1, 2, 3 ..."""
    calls: list[tuple[int, int]] = []

    def ioctl(fd: int, request: int, argument: Any, mutate: bool = True) -> int:
        calls.append((request, struct.unpack_from("=i", argument)[0]))
        return sum(request == p.Backing.OPEN for request, _ in calls)

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    return calls


def test_all_opens_of_a_file_are_of_one_kind(registered: list[tuple[int, int]]) -> None:
    files = _Files()
    passthrough = Passthrough(0, files, "test")  # type: ignore[arg-type]
    flags = int(OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH)
    passed = int(OpenFlag.PASSTHROUGH | OpenFlag.NOFLUSH)
    assert passthrough.opened(7, 1, flags) == (passed, 1)
    assert passthrough.opened(7, 2, flags) == (passed, 1)
    assert passthrough.opened(8, 3, flags) == (passed, 2)
    assert passthrough.count == 2
    assert [passthrough.closed(node) for node in (7, 8, 7, 7)] == [False, True, True, False]
    assert passthrough.count == 0
    assert registered == [
        (p.Backing.OPEN, 101), (p.Backing.OPEN, 103), (p.Backing.CLOSE, 2), (p.Backing.CLOSE, 1),
    ]  # fmt: skip


def test_what_was_cached_first_stays_cached(registered: list[tuple[int, int]]) -> None:
    files = _Files()
    passthrough = Passthrough(0, files, "test")  # type: ignore[arg-type]
    files.passes = False
    assert passthrough.opened(7, 1, 2) == (2, 0)
    files.passes = True
    assert passthrough.opened(7, 2, 2) == (2, 0)
    assert not passthrough.closed(7)
    assert not passthrough.closed(7)
    assert passthrough.opened(7, 3, 2) == (int(OpenFlag.PASSTHROUGH), 1)


def test_when_the_graph_must_see_it_later_opens_come_to_us(registered: list[tuple[int, int]]) -> None:
    files = _Files()
    passthrough = Passthrough(0, files, "test")  # type: ignore[arg-type]
    passthrough.opened(7, 1, 2)
    files.passes = False
    flags, backing = passthrough.opened(7, 2, 2)
    assert flags & OpenFlag.DIRECT_IO
    assert backing == 1


def test_while_what_was_revoked_is_open_later_opens_come_to_us(registered: list[tuple[int, int]]) -> None:
    files = _Files()
    passthrough = Passthrough(0, files, "test")  # type: ignore[arg-type]
    passthrough.opened(7, 1, 2)
    passthrough.opened(8, 2, 2)
    assert passthrough.bypassing() == set()
    files.passes = False
    assert passthrough.bypassing() == {7, 8}
    assert passthrough.passed([7, 9]) == [7]
    passthrough.revoked([7, 9])
    assert (passthrough.bypassing(), passthrough.passed([7]), passthrough.count) == ({8}, [], 1)
    files.passes = True
    flags, backing = passthrough.opened(7, 3, 2)
    assert (backing, flags & OpenFlag.DIRECT_IO) == (1, OpenFlag.DIRECT_IO)
    assert [passthrough.closed(node) for node in (7, 7)] == [False, True]
    assert registered == [(p.Backing.OPEN, 101), (p.Backing.OPEN, 102), (p.Backing.CLOSE, 1)]
    assert passthrough.opened(7, 4, 2) == (int(OpenFlag.PASSTHROUGH), 3)


def test_a_kernel_that_refuses_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ioctl(*args: Any) -> int:
        asked.append(args)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    passthrough = Passthrough(0, _Files(), "test")  # type: ignore[arg-type]
    assert [passthrough.opened(node, node, 2) for node in (7, 8)] == [(2, 0), (2, 0)]
    assert len(asked) == 1
    assert "not permitted" in passthrough.refused


# -- with a kernel -------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.mount


@pytest.mark.parametrize(("spec", "io_mode"), [("1", "inline"), ("2", "inline"), ("1", "pool")])
def test_bytes_and_times_are_the_bricks_own(tmp_path: Path, spec: str, io_mode: str) -> None:
    def scene(m: Mounted) -> None:
        assert m.brick.posix.pooled == (io_mode == "pool")
        fd = os.open(m.path / "f", os.O_CREAT | os.O_WRONLY)
        assert m.passed == 1
        before = os.fstat(fd)
        for n in range(100):
            os.write(fd, b"%03d" % n)
        after = os.fstat(fd)
        assert after.st_size == 300
        assert after.st_mtime_ns > before.st_mtime_ns
        assert after.st_ctime_ns > before.st_ctime_ns
        os.close(fd)
        (found,) = [path for brick in m.volume.bricks for path in [Path(brick.path, "f")] if path.exists()]
        assert found.read_bytes() == b"".join(b"%03d" % n for n in range(100)) == (m.path / "f").read_bytes()
        while m.passed:  # the release is not waited for
            os.stat(m.path)
        times = mdata.unpack(os.getxattr(found, "trusted.glusterfs.mdata"))
        assert times is not None
        assert times[1] == (m.path / "f").stat().st_mtime_ns == after.st_mtime_ns

    mounted(tmp_path, spec, scene, io_mode)


def test_writes_and_reads_ask_nobody(tmp_path: Path) -> None:
    def scene(m: Mounted) -> None:
        with open(m.path / "f", "w+b", buffering=0) as f:
            f.write(b"x")
            before = m.requests
            for _ in range(50):
                f.write(b"y" * 5000)
            f.seek(0)
            assert len(f.read()) == 250_001
            assert m.requests - before < 10

    mounted(tmp_path, "1", scene)


def test_stores_to_memory_show_in_the_times(tmp_path: Path) -> None:
    def scene(m: Mounted) -> None:
        (m.path / "f").write_bytes(bytes(8192))
        with open(m.path / "f", "r+b") as f, mmap.mmap(f.fileno(), 0) as memory:
            before = os.stat(m.path / "f").st_mtime_ns
            os.utime(m.path / "f", ns=(1, 1))
            assert os.stat(m.path / "f").st_mtime_ns == 1
            memory[4096] = 1
            memory.flush()
            assert os.stat(m.path / "f").st_mtime_ns >= before
            assert Path(m.brick.path, "f").read_bytes()[4096] == 1
        assert (m.path / "f").read_bytes()[4096] == 1

    mounted(tmp_path, "1", scene)


def test_other_operations_go_together_with_it(tmp_path: Path) -> None:
    def scene(m: Mounted) -> None:
        with open(m.path / "f", "w+b", buffering=0) as f:
            f.write(b"0123456789")
            f.truncate(5)
            assert os.fstat(f.fileno()).st_size == 5
            os.utime(f.fileno(), ns=(10**9, 10**9))
            assert os.fstat(f.fileno()).st_mtime_ns == 10**9
            f.seek(0, os.SEEK_END)
            f.write(b"abc")
            assert os.fstat(f.fileno()).st_mtime_ns > 10**18
            os.fsync(f.fileno())
            os.unlink(m.path / "f")
            assert os.pread(f.fileno(), 100, 0) == b"01234abc"
            assert os.fstat(f.fileno()).st_nlink == 0
        assert os.listdir(m.path) == []
        tmp = os.open(m.path, os.O_TMPFILE | os.O_RDWR)
        os.write(tmp, b"nameless")
        os.link(f"/proc/self/fd/{tmp}", m.path / "named", src_dir_fd=tmp)  # with a descriptor it follows the link
        os.close(tmp)
        assert (m.path / "named").read_bytes() == b"nameless"

    mounted(tmp_path, "1", scene)


def test_setuid_files_are_not_passed_through(tmp_path: Path) -> None:
    def scene(m: Mounted) -> None:
        (m.path / "f").touch()
        os.chmod(m.path / "f", 0o4755)
        while m.passed:
            os.stat(m.path)
        with open(m.path / "f", "ab") as f:
            assert m.passed == 0
            f.write(b"x")

    mounted(tmp_path, "1", scene)


@pytest.mark.parametrize(("spec", "options"), [("1", {"passthrough": False}), ("replica=2", {})])
def test_it_is_off_where_it_is_unwanted_or_impossible(tmp_path: Path, spec: str, options: dict[str, Any]) -> None:
    def scene(m: Mounted) -> None:
        with open(m.path / "f", "wb") as f:
            f.write(b"x")
            assert m.passed == 0

    mounted(tmp_path, spec, scene, **options)


def test_a_fault_that_is_placed_sees_what_is_opened_from_then_on(tmp_path: Path) -> None:
    def scene(m: Mounted) -> None:
        with open(m.path / "f", "w+b", buffering=0) as early:
            early.write(b"passed")
            fault = Fault("error", fops=frozenset({"writev", "readv"}), errno=errno.EDQUOT)
            trio.from_thread.run_sync(place, m.brick.graph.top, fault)
            trio.from_thread.run_sync(m.volume.graph.relink)
            with open(m.path / "f", "r+b", buffering=0) as late, pytest.raises(OSError, match="quota"):
                late.write(b"seen")
            with open(m.path / "g", "wb", buffering=0) as other, pytest.raises(OSError, match="quota"):
                other.write(b"seen")
            trio.from_thread.run_sync(lift, m.brick.graph.top, fault)
            trio.from_thread.run_sync(m.volume.graph.relink)
            with open(m.path / "f", "r+b", buffering=0) as late:
                late.write(b"PASS")
            assert os.pread(early.fileno(), 10, 0) == b"PASSed"

    mounted(tmp_path, "1", scene)
