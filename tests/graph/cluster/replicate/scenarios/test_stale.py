"""A copy that comes back is not believed: nothing of it is read, listed or found that the others know better."""

from __future__ import annotations

import errno
import os

import pytest
import trio

from tests.graph.cluster.replicate.healing import down, up
from tests.graph.cluster.replicate.volume import refused, served


@pytest.mark.parametrize("remount", [False, True])
def test_read_subvol_data(remount: bool) -> None:
    """A file grown while the copy that reads are pinned to was away is seen at its new size."""

    async def main() -> None:
        async with served(2, read_subvolume_index="0") as volume:
            await volume.create("f", bytes(1000))
            await down(volume, 0)
            await volume.append("f", bytes(9000))
            await up(volume, 0)
            if remount:
                await volume.remount(read_subvolume_index="0")
            assert (await volume.lookup("f")).size == 10000
            assert (await volume.top.stat(volume.reader, await volume.inode("f"))).size == 10000
            assert len(await volume.read("f")) == 10000

    trio.run(main)


@pytest.mark.parametrize("remount", [False, True])
def test_read_subvol_entry(remount: bool) -> None:
    """An entry made while the copy that reads are pinned to was away is listed as soon as it is back."""

    async def main() -> None:
        async with served(2, read_subvolume_index="0") as volume:
            await volume.mkdir("d")
            await down(volume, 0)
            await volume.create("d/f")
            await up(volume, 0)
            if remount:
                await volume.remount(read_subvolume_index="0")
            assert await volume.names_in("d") == ["f"]
            assert (await volume.lookup("d/f")).size == 0

    trio.run(main)


@pytest.mark.parametrize("remount", [False, True])
def test_stale_file_lookup(remount: bool) -> None:
    """A file deleted while a copy was away stays deleted when that copy comes back with it."""

    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"x")
            await down(volume, 0)
            await volume.unlink("f")
            await up(volume, 0)
            if remount:
                await volume.remount()
            assert os.path.exists(volume.at(0, "f"))
            with refused(errno.ENOENT):
                await volume.lookup("f")

    trio.run(main)
