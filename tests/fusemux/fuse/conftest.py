"""Fixtures of the FUSE tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from fusemux.fuse.bridge import Bridge, BridgeOptions
from fusemux.graph.framework.process import Process
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
