"""debug/volatile: what a power cut takes, and what it must leave."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable

import pytest

from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.testing.graph import GraphFile, GraphVolume

pytestmark = pytest.mark.fusemux("1", backend="graph")
OLD = bytes(range(256)) * 64  # 16 KiB
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE = 1, 2

Change = Callable[[GraphVolume, GraphFile], Awaitable[object]]


async def after_power_cut(volume: GraphVolume, *changes: Change, sync: bool = False) -> bytes:
    """What is left of a synced file of OLD that is then changed."""
    await volume.write("/file", OLD, sync=True)
    async with volume.open("/file") as file:
        for change in changes:
            await change(volume, file)
        if sync:
            await file.sync()
        changed = await volume.read("/file")
        await volume.power_cut()
    left = await volume.read("/file")
    assert left == (changed if sync else OLD)
    assert changed != OLD
    return left


async def copy(volume: GraphVolume, file: GraphFile) -> None:
    await volume.top.copy_file_range(volume.frame, file.fd, 0, file.fd, 9000, 3000, 0, None)


CHANGES: dict[str, Change] = {
    "write": lambda volume, file: file.write(b"new" * 100, 5000),
    "append": lambda volume, file: file.write(b"new" * 3000, len(OLD)),
    "write past the end": lambda volume, file: file.write(b"new", 100_000),
    "shrink": lambda volume, file: volume.top.truncate(volume.frame, file.fd, 5000, None),
    "grow": lambda volume, file: volume.top.truncate(volume.frame, file.fd, 50_000, None),
    "empty and refill": lambda volume, file: volume.write("/file", b"short"),
    "allocate": lambda volume, file: volume.top.fallocate(volume.frame, file.fd, 0, 10_000, 20_000, None),
    "punch a hole": lambda volume, file: volume.top.fallocate(
        volume.frame, file.fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 100, 9000, None
    ),
    "copy inside": copy,
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_not_synced_is_put_back(fusemux_volume: GraphVolume, what: str) -> None:
    fusemux_volume.run(lambda volume: after_power_cut(volume, CHANGES[what]))


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_synced_stays(fusemux_volume: GraphVolume, what: str) -> None:
    fusemux_volume.run(lambda volume: after_power_cut(volume, CHANGES[what], sync=True))


def test_changes_upon_changes_are_put_back_to_the_last_sync(fusemux_volume: GraphVolume) -> None:
    random_ = random.Random(fusemux_volume.seed)
    some = [CHANGES[random_.choice(list(CHANGES))] for _ in range(20)]
    last = CHANGES["write past the end"]  # so that something differs
    fusemux_volume.run(lambda volume: after_power_cut(volume, *some, last))


def test_a_failed_sync_keeps_nothing(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await volume.write("/file", OLD, sync=True)
        brick = next(iter(volume.process.bricks.values()))
        async with volume.open("/file") as file:
            await file.write(b"1")
            posix = brick.posix.store
            failing, posix.fsync = posix.fsync, _fails
            try:
                with pytest.raises(FopError):
                    await file.sync()
            finally:
                posix.fsync = failing
            await file.write(b"2", 8000)
            await volume.power_cut()
        assert await volume.read("/file") == OLD

    fusemux_volume.run(scenario)


def _fails(*args: object) -> None:
    raise FopError(5, "injected")


def test_a_synchronous_write_lasts(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        async with volume.open("/file", os.O_RDWR | os.O_CREAT | os.O_DSYNC) as file:
            await file.write(b"data")
            await volume.power_cut()
        assert await volume.read("/file") == b"data"

    fusemux_volume.run(scenario)


def test_everything_lasts_after_syncfs(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        for name in ("/a", "/b"):
            await volume.write(name, b"data")
        await volume.top.syncfs(volume.frame, await volume.lookup("/"), None)
        await volume.power_cut()
        assert [await volume.read(name) for name in ("/a", "/b")] == [b"data"] * 2

    fusemux_volume.run(scenario)


def test_names_last_and_a_new_file_is_empty(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await volume.write("/old", b"old", sync=True)
        await volume.write("/new", b"new")
        await volume.rename("/new", "/old")
        await volume.mkdir("/dir")
        await volume.power_cut()
        assert await volume.read("/old") == b"", "renamed without a sync: the classic bug"
        await volume.stat("/dir")

    fusemux_volume.run(scenario)


def test_a_brick_that_is_only_killed_keeps_everything(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await volume.write("/file", b"data")
        async with volume.brick(0).down():
            pass
        assert await volume.read("/file") == b"data"
        await volume.power_cut()
        assert await volume.read("/file") == b"data", "it counts as written back by then"

    fusemux_volume.run(scenario)


@pytest.mark.fusemux("1", backend="graph", options={"debug.volatile-memory": "8KB"})
def test_beyond_its_memory_the_oldest_file_counts_as_written_back(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        for name in ("/a", "/b"):
            await volume.write(name, OLD, sync=True)
        for name in ("/a", "/b"):
            async with volume.open(name) as file:
                await file.write(b"new" * 2000)
        await volume.power_cut()
        assert (await volume.read("/a"))[:3] == b"new"
        assert await volume.read("/b") == OLD

    fusemux_volume.run(scenario)


@pytest.mark.fusemux("1", backend="graph", options={"debug.volatile": "locks"})
def test_elsewhere_than_above_posix_it_is_refused(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None: ...

    with pytest.raises(FusemuxError, match="belongs right above storage/posix"):
        fusemux_volume.run(scenario)


def test_a_file_that_loses_its_name_while_it_is_open_is_put_back(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await volume.write("/file", OLD, sync=True)
        async with volume.open("/file") as file:
            path = volume.brick(0).path / ".glusterfs/unlink"
            await volume.unlink("/file")
            await file.write(b"new")
            kept = os.open(next(path.iterdir()), os.O_RDONLY)
            await volume.power_cut()
        assert os.pread(kept, len(OLD), 0) == OLD
        os.close(kept)

    fusemux_volume.run(scenario)
