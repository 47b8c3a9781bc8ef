"""What a load is put on: directories with the processes that serve them; references that come and go with a `with`.

A reference runs in the same run as what it is compared with, on a tmpfs of its own, because only ratios of one run can be
compared between machines.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from fusemux.bench.accounting import Cost, Memory, cpu_of, memory_of
from fusemux.graph.framework.errors import FusemuxError

__all__ = ["Target", "bindfs", "given", "mounted_below", "plain", "scratch", "stop_server", "wait_until"]

_MS_REMOUNT = 32
_T = TypeVar("_T")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Target:
    """Directories to put a load on; `pids` serve them (none for a plain file system), `mounts` are FUSE mounts."""

    name: str
    directories: list[Path]
    pids: list[int] = field(default_factory=list)
    mounts: list[Path] = field(default_factory=list)

    def cpu(self) -> Cost:
        """CPU used so far.  Raises FusemuxError when a process has died."""
        return self._measured(cpu_of)

    def memory(self) -> Memory:
        """Memory held now.  Raises FusemuxError when a process has died."""
        return self._measured(memory_of)

    def _measured(self, of: Callable[[list[int]], _T]) -> _T:
        try:
            return of(self.pids)
        except OSError:
            raise FusemuxError(
                f"{self.name}: the serving process {self.pids} has died under the load; see its log"
            ) from None

    def go_cold(self) -> bool:
        """Make the kernel forget names, attributes and pages of the mounts; False where that takes root.

        A remount (mount(2), without any change) drops the whole dentry cache of a file system; FUSE inodes go with
        their last dentry, and pages with their inode.  It is the same for every FUSE file system and disturbs no other.
        """
        done = [_libc.mount(None, os.fsencode(mount), None, _MS_REMOUNT, None) == 0 for mount in self.mounts]
        return all(done)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory on a tmpfs: one of its own as root, else a new one below /dev/shm."""
    base = Path("/dev/shm") if os.path.isdir("/dev/shm") else Path(tempfile.gettempdir())
    path = Path(tempfile.mkdtemp(prefix="fusemux-bench-", dir=base))
    mounted = os.geteuid() == 0 and _libc.mount(b"fusemux-bench", os.fsencode(path), b"tmpfs", 0, b"size=75%") == 0
    try:
        yield path
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], check=False)
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def plain(count: int = 1) -> Iterator[Target]:
    """A tmpfs without any FUSE: what the load generator itself and the kernel cost."""
    with scratch() as path:
        yield Target("tmpfs", _subdirectories(path, count))


@contextmanager
def bindfs(count: int = 1) -> Iterator[Target]:
    """bindfs, a pass-through file system in C, on a tmpfs.

    It is measured at its best: with libfuse 2 (as in Debian 12) it splits every write into pages unless `big_writes` is asked for,
    which is twenty times slower; with libfuse 3, which refuses that option, large writes are the rule.
    """
    if shutil.which("bindfs") is None:
        raise FusemuxError(
            "bindfs is not installed; install it (apt install bindfs) or leave it out with --reference tmpfs"
        )
    with ExitStack() as stack:
        backing, mount = stack.enter_context(scratch()), Path(tempfile.mkdtemp(prefix="fusemux-bindfs-"))
        stack.callback(mount.rmdir)
        try:
            server = _start_bindfs(["-o", "big_writes"], backing, mount)
        except FusemuxError:
            server = _start_bindfs([], backing, mount)
        stack.callback(stop_server, server, [mount])
        yield Target("bindfs", _subdirectories(mount, count), [server.pid], [mount])


def _start_bindfs(options: Sequence[str], backing: Path, mount: Path) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(["bindfs", "-f", *options, str(backing), str(mount)])
    wait_until(lambda: os.path.ismount(mount), "bindfs serves", server)
    return server


@contextmanager
def given(directories: Sequence[Path], pids: Sequence[int] = ()) -> Iterator[Target]:
    """Directories that somebody else serves (`pids`, when their cost is asked for); left as they were found."""
    for directory in directories:
        if not directory.is_dir():
            raise FusemuxError(f"{directory} is no directory; --dir takes directories that exist")
    mounts = sorted({_mount_of(directory) for directory in directories} - {Path("/")})
    yield Target("given", list(directories), list(pids), [m for m in mounts if _is_fuse(m)])


def stop_server(server: subprocess.Popen[bytes], mounts: Sequence[Path], limit_s: float = 20.0) -> None:
    """Unmount, then wait for the server's end, then insist.  Nothing stays mounted, not even what a dead server left."""
    for mount in mounts:
        if mount in mounted_below(mount):
            unmount = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
            subprocess.run([*unmount, str(mount)], check=False, capture_output=True)
    try:
        server.wait(limit_s)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def mounted_below(path: Path) -> list[Path]:
    """The mount points at and below `path`, the innermost first; a dead mount is one, too."""
    points = [Path(line.split()[1]) for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in reversed(points) if point.is_relative_to(path)]


def wait_until(ready: Callable[[], bool], what: str, server: subprocess.Popen[bytes], limit_s: float = 60.0) -> None:
    """Poll until `ready()`.  Raises FusemuxError when the server ends before, or the limit is reached."""
    deadline = time.monotonic() + limit_s
    while not ready():
        if server.poll() is not None:
            raise FusemuxError(f"waited until {what}, but process {server.pid} ended with status {server.returncode}")
        if time.monotonic() > deadline:
            raise FusemuxError(f"waited {limit_s:g} s until {what}; gave up")
        time.sleep(0.02)


def _subdirectories(path: Path, count: int) -> list[Path]:
    directories = [path / f"vol{n}" for n in range(count)]
    for directory in directories:
        directory.mkdir()
    return directories


def _mount_of(path: Path) -> Path:
    path = path.resolve()
    while not os.path.ismount(path):
        path = path.parent
    return path


def _is_fuse(mount: Path) -> bool:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if place == str(mount) and kind.startswith("fuse"):
            return True
    return False
