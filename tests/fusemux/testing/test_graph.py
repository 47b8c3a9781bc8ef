"""`backend="graph"`: the same volume without a kernel, driven by fops in the test's process."""

from __future__ import annotations

import errno
import os

import pytest
import trio

from fusemux.graph.framework.errors import FopError
from fusemux.testing.faults import NotFired
from fusemux.testing.graph import GraphVolume
from fusemux.testing.report import NotHealed

pytestmark = pytest.mark.fusemux(replica=3, backend="graph")


def test_a_write_survives_a_dead_brick_and_is_healed(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await volume.write("/file", b"old")
        async with volume.brick(0).down():
            await volume.write("/file", b"data")
            assert volume.brick(0).read_bytes("/file") == b"old"
        await volume.wait_healed()
        assert volume.bricks_identical()
        assert volume.brick(0).read_bytes("/file") == b"data"

    fusemux_volume.run(scenario)


def test_names_are_made_moved_and_removed(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await volume.mkdir("/dir")
        await volume.write("/dir/a", b"1")
        await volume.write("/dir/b", b"2")
        await volume.rename("/dir/a", "/dir/b")
        assert await volume.read("/dir/b") == b"1"
        await volume.unlink("/dir/b")
        with pytest.raises(FopError) as raised:
            await volume.stat("/dir/b")
        assert raised.value.errno == errno.ENOENT

    fusemux_volume.run(scenario)


def test_a_fault_counts_and_can_be_waited_for(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        fault = await volume.faults.error(fop="writev", path="*.wal", nth=2, errno="ENOSPC")
        await volume.write("/a.wal", b"1")
        with pytest.raises(NotFired):
            await fault.wait_fired(within_s=0)
        with pytest.raises(FopError, match="injected"):
            await volume.write("/a.wal", b"2")
        assert (await fault.wait_fired(), fault.fired, fault.matched) == (1, 1, 2)
        await fault.clear()
        await volume.write("/a.wal", b"3")

    fusemux_volume.run(scenario)
    assert "ENOSPC on writev at mount, path *.wal: matched 2, fired 1" in fusemux_volume.report()
    assert any("writev(" in call for call in fusemux_volume.calls())


def test_a_frozen_brick_lets_others_go_on(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        fault = await volume.brick(1).freeze()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(volume.write, "/file", b"data")
            await fault.wait_fired()
            await volume.brick(1).start()
        assert volume.brick(1).read_bytes("/file") == b"data"

    fusemux_volume.run(scenario)


def test_a_power_cut_takes_what_was_not_synced(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await volume.write("/kept", b"synced", sync=True)
        async with volume.open("/lost", os.O_RDWR | os.O_CREAT) as file:
            await file.write(b"not synced")
            assert volume.brick(0).read_bytes("/lost") == b"not synced"
            await volume.power_cut()
        assert await volume.read("/kept") == b"synced"
        assert await volume.read("/lost") == b""
        await volume.wait_healed()
        assert volume.bricks_identical()

    fusemux_volume.run(scenario)


def test_what_cannot_be_healed_is_said(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        async with volume.brick(2).down():
            await volume.write("/file", b"data")
            with pytest.raises(NotHealed, match=r"b2: down"):
                await volume.wait_healed(within_s=0)

    fusemux_volume.run(scenario)


def test_it_serves_again_what_it_held(fusemux_volume: GraphVolume) -> None:
    async def write(volume: GraphVolume) -> None:
        await volume.write("/file", b"data")

    async def read(volume: GraphVolume) -> bytes:
        return await volume.read("/file")

    fusemux_volume.run(write)
    assert fusemux_volume.run(read) == b"data"


def test_random_choices_replay(fusemux_volume: GraphVolume) -> None:
    async def fired(volume: GraphVolume) -> list[int]:
        fault = await volume.faults.delay(0, fop="stat", rate=0.5)
        root = await volume.lookup("/")
        counts = []
        for _ in range(30):
            await volume.top.stat(volume.frame, root, None)
            counts.append(fault.fired)
        return counts

    first = fusemux_volume.run(fired)
    fusemux_volume.random.seed(fusemux_volume.seed)
    again = fusemux_volume.run(fired)
    fusemux_volume.random.seed(fusemux_volume.seed)
    assert fusemux_volume.run(fired) == again
    assert 0 < first[-1] < 30


def test_a_brick_is_replaced_by_an_empty_one_and_healed(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await volume.write("/file", b"data")
        async with volume.open("/file") as file:
            await volume.brick(2).replace()
            await file.write(b"DATA")
        await volume.wait_healed()
        assert volume.bricks_identical()
        assert volume.brick(2).read_bytes("/file") == b"DATA"

    fusemux_volume.run(scenario)
    fusemux_volume.run(lambda volume: volume.wait_healed())
    assert fusemux_volume.bricks_identical()
