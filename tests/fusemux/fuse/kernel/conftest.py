"""Fixtures: file systems in memory, mounted by a server in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]


class Server:
    """A server process and its mount points."""

    def __init__(self, base: Path, count: int, options: tuple[str, ...]) -> None:
        self.mounts = [base / f"fusemux-m{number}" for number in range(count)]
        for mount in self.mounts:
            mount.mkdir(exist_ok=True)
        self.log = base / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fusemux.fuse.kernel.server", *options, *map(str, self.mounts)],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said == "ready\n", f"{said}\n{self.log.read_text()}"

    @property
    def mount(self) -> Path:
        return self.mounts[0]

    def tell(self, *words: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline() or "{}")

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                self.tell("stop")
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        for mount in self.mounts:
            if is_mounted(mount):
                subprocess.run(["umount", "-l", mount], check=False)


def is_mounted(path: Path) -> bool:
    with open("/proc/self/mountinfo") as lines:
        return any(line.split()[4] == str(path) for line in lines)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`serve(*options, count=1)` starts a server; every warning in its log fails the test unless it is expected."""
    servers: list[Server] = []
    if os.geteuid() != 0:
        pytest.skip("needs root")

    def start(*options: str, count: int = 1) -> Server:
        base = tmp_path / str(len(servers))
        base.mkdir()
        servers.append(Server(base, count, options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def mounted(serve: Callable[..., Server]) -> Iterator[Server]:
    """One mounted file system, whose server must have nothing to complain of."""
    server = serve()
    yield server
    log = server.log.read_text()
    assert "WARNING" not in log, log
    assert "ERROR" not in log, log
