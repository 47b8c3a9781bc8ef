"""Node ids and handles of several volumes in one session."""

from __future__ import annotations

import errno
import os

import pytest
import trio

from fusemux.fuse.bridge import Bridge
from fusemux.fuse.routes import ManyRoutes, SoleRoute, Volume
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.process import Process
from tests.fusemux.fuse.memory import memory_graph
from tests.fusemux.fuse.test_names import ROOT, F, make


async def bridges(process: Process, count: int) -> list[Bridge]:
    return [Bridge(await memory_graph(process, f"memory{number}")) for number in range(count)]


def test_one_volumes_numbers_are_the_bridges() -> None:
    async def scene() -> None:
        async with Process() as process:
            (bridge,) = await bridges(process, 1)
            routes = SoleRoute(Volume(bridge))
            nodeid = await make(bridge, b"file")
            assert routes.node(nodeid) == (routes.volumes[0], nodeid)
            assert routes.show(routes.volumes[0], nodeid) == nodeid
            assert routes.handle(7) == (routes.volumes[0], 7)
            routes.forget(nodeid, 1)
            assert bridge.statistics().nodes == 1

    trio.run(scene)


def test_several_volumes_have_roots_and_handles_of_their_own() -> None:
    async def scene() -> None:
        async with Process() as process:
            routes = ManyRoutes([Volume(bridge) for bridge in await bridges(process, 3)])
            assert len({volume.root for volume in routes.volumes} | {ROOT}) == 4
            for volume in routes.volumes:
                assert routes.node(volume.root) == (volume, ROOT)
                assert routes.show(volume, ROOT) == volume.root
                _, _, fh = await volume.bridge.create(F, ROOT, b"file", os.O_RDWR, 0o644)
                assert routes.handle(routes.show_handle(volume, fh)) == (volume, fh)
                routes.forget(volume.root, 99)
                assert routes.node(volume.root) == (volume, ROOT)
            with pytest.raises(FopError) as caught:
                routes.node(ROOT)
            assert caught.value.errno == errno.EACCES
            with pytest.raises(FopError) as caught:
                routes.node(12345)
            assert caught.value.errno == errno.ESTALE

    trio.run(scene)


def test_volumes_that_share_gfids_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with Process() as process:
            routes = ManyRoutes([Volume(bridge) for bridge in await bridges(process, 3)])
            monkeypatch.setattr(process, "new_gfid", lambda: b"\x11" * 16)
            shown = []
            for volume in routes.volumes:
                nodeid = await make(volume.bridge, b"copy")
                shown.append(routes.show(volume, nodeid))
                assert routes.show(volume, nodeid) == shown[-1]
                assert routes.node(shown[-1]) == (volume, nodeid)
            assert len(set(shown)) == 3
            for volume, number in zip(routes.volumes, shown, strict=True):
                routes.forget(number, 1)
                assert volume.bridge.statistics().nodes == 1
                with pytest.raises(FopError):
                    routes.node(number)
            nodeid, _ = await routes.volumes[2].bridge.lookup(F, ROOT, b"copy")
            assert routes.node(routes.show(routes.volumes[2], nodeid)) == (routes.volumes[2], nodeid)

    trio.run(scene)


def test_a_number_stays_while_the_kernel_holds_a_reference() -> None:
    async def scene() -> None:
        async with Process() as process:
            routes = ManyRoutes([Volume(bridge) for bridge in await bridges(process, 2)])
            volume = routes.volumes[1]
            nodeid = await make(volume.bridge, b"file")
            await volume.bridge.lookup(F, ROOT, b"file")
            shown = routes.show(volume, nodeid)
            routes.forget(shown, 1)
            assert routes.node(shown) == (volume, nodeid)
            routes.forget(shown, 1)
            with pytest.raises(FopError):
                routes.node(shown)
            routes.forget(shown, 1)

    trio.run(scene)
