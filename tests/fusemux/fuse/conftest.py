"""Fixtures of the FUSE tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from fusemux.fuse.bridge import Bridge, BridgeOptions
from fusemux.graph.framework.process import Process
from tests import mounting
from tests.fusemux.fuse.memory import Memory, memory_graph

Scene = Callable[[Bridge, Memory], Awaitable[None]]


@pytest.fixture
def play() -> Callable[..., None]:
    """`play(scene, **options)` runs `scene(bridge, memory)` on a bridge over a strict in-memory graph, closes
    everything and checks that nothing leaked that the scene did not leave open."""

    def run(scene: Scene, **options: Any) -> None:
        async def main() -> None:
            async with Process(strict=True) as process:
                graph = await memory_graph(process)
                bridge = Bridge(graph, options=BridgeOptions(**options))
                memory = graph.top.translator
                assert isinstance(memory, Memory)
                await scene(bridge, memory)
                bridge.close()
                await graph.stop()

        trio.run(main)

    return run


class Server:
    """A process of `server.py`.  `mounts` are its places; `ask` a command and get what it answers."""

    def __init__(self, folder: Path, options: Sequence[str], count: int) -> None:
        self.mounts = [folder / f"mount{number}" for number in range(count)]
        for mount in self.mounts:
            mount.mkdir()
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fusemux.fuse.server", *options, *map(str, self.mounts)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=mounting.ROOT,
            )  # fmt: skip

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server has ended:\n{self.log.read_text()}"
        return line.strip()

    def tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        self.process.stdin.flush()

    def ask(self, *words: object) -> Any:
        self.tell(*words)
        answer = json.loads(self.line())
        assert "error" not in answer, answer["error"]
        return answer["ok"]

    def lines(self) -> list[list[str]]:
        """What /proc/self/mounts has of these mounts, in words."""
        table = Path("/proc/self/mounts").read_text().splitlines()
        return [words for words in map(str.split, table) if Path(words[1]) in self.mounts]

    def wait_ended(self) -> int:
        return self.process.wait(20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        left = self.lines()
        for words in left:
            mounting.lazily_unmount(words[1])
        assert not left, "the server left its mounts behind"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`serve(*options, count=1)` is a running `Server`; its log must stay empty but for what the test reads."""
    servers: list[Server] = []

    def start(*options: str, count: int = 1) -> Server:
        folder = tmp_path / f"server{len(servers)}"
        folder.mkdir()
        servers.append(Server(folder, options, count))
        assert servers[-1].line() == "ready", servers[-1].log.read_text()
        return servers[-1]

    yield start
    for server in servers:
        server.close()
