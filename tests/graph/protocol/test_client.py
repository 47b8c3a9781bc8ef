"""The leaf: what it keeps apart.  (What happens when its brick comes and goes: tests/bricks/test_brick.py.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from fusemux.bricks.brick import Brick
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Frame
from fusemux.graph.framework.volfile import Section
from fusemux.graph.protocol.offsets import decode
from tests.bricks.serving import Place, client_section


def test_several_leaves_hand_out_offsets_that_differ_and_resume_each_its_own(tmp_path: Path) -> None:
    places = [Place(tmp_path / name, {"io-mode": "inline"}).prepare() for name in ("b0", "b1", "b2")]
    for place in places:
        for i in range(20):
            (place.path / f"n{i}").touch()

    async def main() -> None:
        async with Process(strict=True) as process:
            bricks = [await Brick.attach(process, place.sections()) for place in places]
            graph = Graph([client_section(place.path, i) for i, place in enumerate(places)], process)
            await graph.start()
            offsets: set[int] = set()
            for index, leaf in enumerate(graph.translators.values()):
                edge = Edge(leaf)
                edge.bind(strict=True)
                fd = graph.itable.fd(graph.itable.root, os.O_RDONLY)
                await edge.opendir(Frame(), graph.itable.root, fd, None)
                entries = await edge.readdir(Frame(), fd, 100, 0, False, None)
                assert {decode(entry.offset, 3)[0] for entry in entries} == {index}
                assert not offsets & {entry.offset for entry in entries}
                offsets |= {entry.offset for entry in entries}
                rest = await edge.readdir(Frame(), fd, 100, entries[7].offset, False, None)
                assert rest == entries[8:]
                await edge.release(Frame(), fd, None)
            await graph.stop()
            for brick in bricks:
                await brick.detach()

    trio.run(main)


def test_a_leaf_without_a_brick_to_look_for_is_refused() -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            graph = Graph([Section("v-client-0", "protocol/client", {"remote-host": "localhost"})], process)
            with pytest.raises(FusemuxError, match="remote-subvolume is missing"):
                await graph.start()

    trio.run(main)
