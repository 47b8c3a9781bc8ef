"""Mount volumes for tests, each server in a process of its own, and leave nothing behind.

A `Place` is a folder for one test (or one session): the run and state directories of every fusemux process that is started
with its environment, and mount points.  Closing it unmounts what is mounted below it, waits for its processes (they are
known by the environment they were given) and kills what does not end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FUSEMUX = (sys.executable, "-m", "fusemux")
BINDINGS = ("kernel", "pyfuse3")
PREFIX = f"fusemux-test-{os.getpid()}-"  # of every folder that this process makes for tests


def why_not_mount() -> str:
    """Why this user cannot mount here, or nothing."""
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "fusermount3 is not installed, and this is not root"
    return ""


class Place:
    """Where the fusemux processes of one test keep what is theirs."""

    def __init__(self) -> None:
        # Not below pytest's tmp_path: its names are too long for the path of a unix socket.
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.environment = {"FUSEMUX_RUN_DIR": str(self.root / "run"), "FUSEMUX_STATE_DIR": str(self.root / "state")}
        self._count = 0

    @property
    def env(self) -> dict[str, str]:
        """For processes that are started here; the import path is the checkout's."""
        return os.environ | self.environment | {"PYTHONPATH": str(ROOT)}

    def run(self, *command: str | Path, check: bool = True, **more: object) -> subprocess.CompletedProcess[str]:
        """Run a command in this place; with `check` a failure shows what it wrote."""
        done = subprocess.run(  # type: ignore[call-overload]
            [str(word) for word in command], env=self.env, capture_output=True, text=True, timeout=60, **more
        )
        assert not check or done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def fusemux(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `fusemux WORDS` in this place, where nobody answers its questions."""
        return self.run(*FUSEMUX, *words, check=check, stdin=subprocess.DEVNULL)

    def answer(self, *words: str | Path) -> Any:
        """What `fusemux WORDS --json` says."""
        return json.loads(self.fusemux(*words, "--json").stdout)

    def mount(self, spec: str, *options: str, point: Path | None = None) -> Path:
        """Mount `spec` in the background and return where; it serves when this returns."""
        self._count += 1
        where = point or self.root / f"mnt{self._count}"
        if point is None:  # one that is given may hold a stale mount
            where.mkdir(exist_ok=True)
        log = self.root / f"{where.name}.log"
        words = ",".join([f"log-file={log}", "log-level=warning", *options])
        self.run(sys.executable, "-m", "fusemux.mount", spec, where, "-o", words)
        return where

    def mount_at_places(self, spec: str, *options: str, places: int = 2) -> list[Path]:
        """One volume at several places, served by one process in the background."""
        found = []
        for _ in range(places):
            self._count += 1
            found.append(self.root / f"mnt{self._count}")
            found[-1].mkdir()
        words = ",".join([f"log-file={self.root / f'{found[0].name}.log'}", "log-level=warning", *options])
        mounts = [f"{spec}:{where}" for where in found]
        self.fusemux("serve", "--daemon", "-o", words, *mounts)
        return found

    def log(self, where: Path) -> str:
        """What the server of a mount had to warn of."""
        path = self.root / f"{where.name}.log"
        return path.read_text() if path.exists() else ""

    def umount(self, where: Path) -> None:
        """Unmount and wait until the server has ended."""
        self.run(*(("umount",) if os.geteuid() == 0 else ("fusermount3", "-u")), where)
        self.wait_ended()

    # -- processes and mounts of this place -----------------------------------------------------------------

    def servers(self) -> list[int]:
        """Processes that were started with this place's environment, zombies and this process not counted."""
        mark = f"FUSEMUX_RUN_DIR={self.environment['FUSEMUX_RUN_DIR']}".encode()
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                        found.append(int(name))
        return found

    def wait_ended(self, limit_s: float = 15) -> None:
        deadline = time.monotonic() + limit_s
        while servers := self.servers():
            assert time.monotonic() < deadline, f"servers {servers} did not end within {limit_s} s after the unmount"
            time.sleep(0.01)

    def mounts(self) -> list[str]:
        """Mount points below this place, the innermost first."""
        return mounts_below(str(self.root))

    def close(self) -> None:
        """Unmount, end, remove; never raises for what the test has broken."""
        for point in self.mounts():
            if not point.startswith(str(self.root / "run")):  # bricks are unmounted by their server
                lazily_unmount(point)
        try:
            self.wait_ended()
        except AssertionError:
            for pid in self.servers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for point in self.mounts():
            lazily_unmount(point)
        shutil.rmtree(self.root, ignore_errors=True)


def mounts_below(top: str) -> list[str]:
    """Mount points at or below `top`, the innermost first."""
    top = top.rstrip("/")
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
        points = [line.split(" ")[1] for line in table]
    return sorted((point for point in points if point == top or point.startswith(f"{top}/")), key=len, reverse=True)


def lazily_unmount(point: str) -> None:
    unmounter = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    subprocess.run([*unmounter, point], capture_output=True, check=False)


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """A place that is closed whatever happens."""
    made = Place()
    try:
        yield made
    finally:
        made.close()


def remove_all(folder: Path) -> None:
    """Also what its owner may not enter."""
    for where, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(where, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder)


@contextlib.contextmanager
def tmpfs_mounted() -> Iterator[Path]:
    """A plain tmpfs to compare with: one of its own without access times for root, a folder on /dev/shm for others."""
    if os.geteuid() != 0:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/dev/shm"))
        try:
            yield folder
        finally:
            remove_all(folder)
        return
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noatime,mode=755", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()
