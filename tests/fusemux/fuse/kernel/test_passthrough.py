"""Files that the kernel reads and writes in the brick's file by itself."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio

from fusemux.bricks.brick import Brick
from fusemux.bricks.storage.posix import mdata
from fusemux.fuse.binding import MountOptions, MountPoint
from fusemux.fuse.bridge import BridgeOptions
from fusemux.fuse.kernel import KernelBinding, mounting, revoking
from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel.passthrough import Passthrough
from fusemux.fuse.kernel.protocol import OpenFlag
from fusemux.graph.debug.fault import Fault, lift, place
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.process import Process
from fusemux.serve.volume import ServedVolume
from fusemux.volume.source import DefinedSource
from fusemux.volume.spec import read_short
from tests.parity import libc

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


def passthrough_works() -> bool:
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    return os.geteuid() == 0 and release >= (6, 9)


class Mounted:
    def __init__(self, volume: ServedVolume, binding: KernelBinding, path: Path) -> None:
        self.volume, self.binding, self.path = volume, binding, path
        self.loop = trio.lowlevel.current_trio_token()

    @property
    def _session(self) -> dict[str, Any]:
        (session,) = trio.from_thread.run_sync(self.binding.statistics, trio_token=self.loop).values()
        return session

    @property
    def passed(self) -> int:
        return int(self._session["passed"])

    def bypassing(self) -> set[int]:
        return trio.from_thread.run_sync(self.binding.bypassing, str(self.path))

    def revoke(self, nodes: set[int]) -> int:
        return trio.from_thread.run(self.binding.revoke, str(self.path), nodes, trio_token=self.loop)

    @property
    def requests(self) -> int:
        return int(self._session["requests"])

    @property
    def brick(self) -> Brick:
        return self.volume.bricks[0]


def mounted(
    tmp_path: Path, spec: str, scene: Callable[[Mounted], Any], io_mode: str = "inline", **options: Any
) -> None:
    """Serve and mount `spec`, and run `scene` in a thread: it may make any call on the mount."""
    if not passthrough_works():
        pytest.skip("needs root and Linux 6.9")
    path = tmp_path / "fusemux"
    path.mkdir()

    async def main() -> None:
        async with Process() as process:
            source = DefinedSource(read_short(f"{spec},size=64M", tmp_path / "ramdisks"), {"storage.io-mode": io_mode})
            volume = ServedVolume(process, source, options=BridgeOptions(writeback_cache=False, sole_writer=True))
            await volume.start()
            binding = KernelBinding()
            try:
                await binding.mount([MountPoint(volume.bridge, str(path), "v", MountOptions(**options))])
                with trio.fail_after(60):
                    await trio.to_thread.run_sync(scene, Mounted(volume, binding, path))
            finally:
                await binding.stop()
                await volume.stop()

    trio.run(main)


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
