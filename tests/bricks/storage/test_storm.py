"""Many callers at once, on few names: whatever each of them is told, the brick stays consistent."""

from __future__ import annotations

import os
import random
import stat

import pytest
import trio

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import SetAttr
from tests.bricks.checking import faults
from tests.bricks.serving import Place, Volume, run

NAMES = [b"a", b"b", b"c", b"d"]


class Caller:
    """Does random things to what it finds."""

    def __init__(self, volume: Volume, seed: int) -> None:
        self.volume = volume
        self.random = random.Random(seed)
        self.done = 0

    async def find(self) -> tuple[Inode, bytes]:
        """A directory not too deep, and a name for it."""
        directory = self.volume.root
        while self.random.random() < 0.5:
            iatt = await self.volume.lookup(self.random.choice(NAMES), directory)
            if not iatt.is_dir:
                break
            directory = self.volume.graph.itable.link(iatt.gfid, stat.S_IFDIR)
        return directory, self.random.choice(NAMES)

    async def at(self, directory: Inode, name: bytes) -> Inode:
        iatt = await self.volume.lookup(name, directory)
        return self.volume.graph.itable.link(iatt.gfid, iatt.type)

    async def create(self, directory: Inode, name: bytes) -> None:
        _, fd, _ = await self.volume.create(name, directory)
        await self.volume.top.writev(self.volume.frame(), fd, name * 100, 0, None)
        await trio.lowlevel.checkpoint()
        await self.volume.top.release(self.volume.frame(), fd, None)

    async def read(self, directory: Inode, name: bytes) -> None:
        inode = await self.at(directory, name)
        if inode.type == stat.S_IFREG:
            data = await self.volume.read(inode)
            assert data in {other * 100 for other in NAMES} | {b""}

    async def mkdir(self, directory: Inode, name: bytes) -> None:
        await self.volume.mkdir(name, directory)

    async def link(self, directory: Inode, name: bytes) -> None:
        inode = await self.at(directory, name)
        other, newname = await self.find()
        await self.volume.top.link(self.volume.frame(), inode, other, newname, None)

    async def remove(self, directory: Inode, name: bytes) -> None:
        inode = await self.at(directory, name)
        fop = self.volume.top.rmdir if inode.type == stat.S_IFDIR else self.volume.top.unlink
        await fop(self.volume.frame(), directory, name, inode, None)

    async def rename(self, directory: Inode, name: bytes) -> None:
        inode = await self.at(directory, name)
        other, newname = await self.find()
        await self.volume.rename(name, newname, inode, directory, other, flags=self.random.choice([0, 0, 1, 2]))

    async def list(self, directory: Inode, name: bytes) -> None:
        await self.volume.list(directory, plus=self.random.random() < 0.5, batch=2)

    async def change(self, directory: Inode, name: bytes) -> None:
        await self.volume.top.setattr(self.volume.frame(), await self.at(directory, name), SetAttr(mode=0o640), None)

    async def run(self, turns: int) -> None:
        calls = [self.create, self.create, self.read, self.mkdir, self.link, self.remove, self.remove, self.rename,
                 self.rename, self.list, self.change]  # fmt: skip
        for _ in range(turns):
            try:
                await self.random.choice(calls)(*await self.find())
                self.done += 1
            except FopError:
                pass


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_callers_leaves_a_consistent_brick(brick: Place, seed: int) -> None:
    async def scenario(volume: Volume) -> None:
        callers = [Caller(volume, seed * 100 + i) for i in range(6)]
        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(caller.run, 120)
        assert sum(caller.done for caller in callers) > 100
        assert volume.brick.up

    run(brick, scenario)
    assert faults(brick) == []


def test_a_storm_with_hardly_any_directory_handles_leaves_a_consistent_brick(brick: Place) -> None:
    from fusemux.bricks.storage.posix.directories import dir_handles

    async def scenario(volume: Volume) -> None:
        dir_handles(volume.process).limit = 2
        async with trio.open_nursery() as nursery:
            for i in range(6):
                nursery.start_soon(Caller(volume, 1000 + i).run, 120)

    run(brick, scenario)
    assert faults(brick) == []


def test_the_check_itself_sees_faults(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        await volume.file(b"f")
        directory = await volume.mkdir(b"d")
        await volume.file(b"g", directory)

    run(brick, scenario)
    assert faults(brick) == []
    os.link(brick.path / "f", brick.path / "second name")
    os.rename(brick.path / "d", brick.path / "e")
    (brick.path / "no gfid").touch()
    (brick.path / ".glusterfs" / "unlink" / "left").touch()
    assert len(faults(brick)) == 4
