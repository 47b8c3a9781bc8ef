"""A bridge on a volume with real bricks, without a kernel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fusemux.fuse.bridge import Bridge, BridgeOptions
from fusemux.graph.debug.trace import Trace
from fusemux.graph.framework.graph import Graph
from fusemux.testing.graph import GraphVolume

KINDS = [
    pytest.param(spec, id=spec, marks=pytest.mark.fusemux(backend="graph", **options))
    for spec, options in {"one brick": {}, "distribute": {"distribute": 2}, "2x2": {"distribute": 2, "replica": 2}}.items()
]  # fmt: skip


def _remembered(graph: Graph) -> None:
    """Do not trace what would be answered from memory but for that."""
    for translator in graph.translators.values():
        if isinstance(translator, Trace):
            translator.reconfigure({**translator.given, "exclude-ops": "lookup,stat"})
    graph.relink()


def bridged(volume: GraphVolume, scenario: Callable[[Bridge], Awaitable[None]], **options: Any) -> None:
    """Run it with a bridge, `options` being those of a BridgeOptions."""

    async def main(volume: GraphVolume) -> None:
        _remembered(volume.served.graph)
        bridge = Bridge(volume.served.graph, options=BridgeOptions(**options))
        try:
            await scenario(bridge)
        finally:
            await bridge.disconnect()
            bridge.close()

    volume.run(main)
