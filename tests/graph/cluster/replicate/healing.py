"""What tests of healing need: a set that heals when told to, copies that are made different, and a look at what was healed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.graph.cluster.replicate.volume import Volume, served

__all__ = ["PARKING", "down", "healed", "split", "up", "volume_of", "without"]

PARKING = ".glusterfs-anonymous-inode-"  # how the name of the hidden directory begins


@asynccontextmanager
async def volume_of(count: int = 2, **given: Any) -> AsyncIterator[Volume]:
    """A set that heals when told to; `given` is what `served` takes."""
    wanted = {"self_heal_daemon": "off", "granular_entry_heal": "on", **given}
    async with served(count, on_bricks=("features/index",), **wanted) as volume:
        yield volume


async def down(volume: Volume, *bricks: int) -> None:
    for brick in bricks:
        await volume.bricks[brick].kill()


async def up(volume: Volume, *bricks: int) -> None:
    for brick in bricks:
        await volume.bricks[brick].start()


@asynccontextmanager
async def without(volume: Volume, *bricks: int) -> AsyncIterator[None]:
    await down(volume, *bricks)
    yield
    await up(volume, *bricks)


async def healed(volume: Volume) -> None:
    """Heal, and check all that healing promises."""
    progress = await volume.replicate.healer.sweep()
    assert (progress.failed, progress.split_brain) == (0, 0)
    count = len(volume.bricks)
    for brick in range(1, count):
        ours, first = volume.tree(brick), volume.tree(0)
        assert ours.keys() == first.keys()
        for path in ours:
            assert ours[path] == first[path], path
    assert [volume.all_marks(brick) for brick in range(count)] == [{}] * count
    assert await volume.replicate.healer.listed() == set()
    for brick in range(count):  # of directories that were removed, too
        left = os.listdir(volume.at(brick, ".glusterfs/indices/entry-changes"))
        assert [name for name in left if not name.startswith("entry-changes-")] == []


async def split(volume: Volume, path: str, ours: bytes, theirs: bytes, **options: str) -> None:
    """Give the two copies of a file different contents, each made while the other was away."""
    async with without(volume, 1):
        await volume.write(path, ours)
    await volume.bricks[0].kill()
    await volume.remount(**{"self_heal_daemon": "off", **options})
    await volume.write(path, theirs)
    await volume.bricks[0].start()
