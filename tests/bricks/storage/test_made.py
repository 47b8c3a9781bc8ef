"""A file made lately is removed without looking at it first: whatever happened to its name meanwhile must be known."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable

import pytest

from fusemux.bricks.storage.posix.base import MADE_MAX
from fusemux.bricks.storage.posix.handle import path_of
from fusemux.bricks.storage.posix.remove import RECURSIVE
from fusemux.bricks.storage.posix.rename import RENAME_EXCHANGE
from fusemux.graph.framework.inode import Inode
from tests.bricks.serving import Place, Volume, failing, run


def has_handle(volume: Volume, inode: Inode) -> bool:
    return os.path.lexists(volume.place.path / ".glusterfs" / path_of(inode.gfid))


async def _removed(volume: Volume, inode: Inode) -> None:
    await volume.unlink(b"f", inode)


async def _renamed(volume: Volume, inode: Inode) -> None:
    await volume.rename(b"f", b"elsewhere", inode)


async def _replaced(volume: Volume, inode: Inode) -> None:
    other = await volume.file(b"other")
    await volume.rename(b"other", b"f", other)


async def _exchanged(volume: Volume, inode: Inode) -> None:
    await volume.file(b"other")
    await volume.rename(b"f", b"other", inode, flags=RENAME_EXCHANGE)


@pytest.mark.parametrize("meanwhile", [_removed, _renamed, _replaced, _exchanged])
def test_what_has_the_name_now_is_not_removed(
    brick: Place, meanwhile: Callable[[Volume, Inode], Awaitable[None]]
) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f")
        await meanwhile(volume, inode)
        if meanwhile in (_removed, _renamed):
            await volume.file(b"f")
        now = (await volume.lookup(b"f")).gfid
        with failing(errno.ESTALE):
            await volume.unlink(b"f", inode)
        assert (await volume.lookup(b"f")).gfid == now != inode.gfid

    run(brick, scenario)


def test_a_directory_that_has_the_name_now_is_not_removed(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f")
        await volume.unlink(b"f", inode)
        await volume.mkdir(b"f")
        with failing(errno.EISDIR):
            await volume.unlink(b"f", inode)

    run(brick, scenario)


def test_what_a_directory_made_again_by_healing_holds_is_not_removed(brick: Place) -> None:
    """Healing moves a whole tree away, and may make a directory of the same gfid again."""

    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        inode = await volume.file(b"f", directory)
        await volume.top.rmdir(volume.frame(), volume.root, b"d", directory, {RECURSIVE: b""})
        await volume.top.mkdir(volume.frame(), volume.root, b"d", 0o755, directory.gfid, None)
        other = await volume.mknod(b"f", 0o600, parent=directory)
        with failing(errno.ESTALE):
            await volume.unlink(b"f", inode, directory)
        assert (await volume.lookup(b"f", directory)).gfid == other.gfid

    run(brick, scenario)


@pytest.mark.parametrize("name", [b"f", b"g"])
def test_a_file_that_got_another_name_keeps_it(brick: Place, name: bytes) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f", data=b"kept")
        await volume.top.link(volume.frame(), inode, volume.root, b"g", None)
        await volume.unlink(name, inode)
        assert has_handle(volume, inode)
        (left,) = await volume.names()
        assert (await volume.lookup(left)).nlink == 1
        assert await volume.read(inode) == b"kept"
        await volume.unlink(left, inode)
        assert not has_handle(volume, inode)

    run(brick, scenario)


def test_however_many_were_made_each_goes_with_its_handle(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        made = {b"%d" % number: await volume.file(b"%d" % number) for number in range(MADE_MAX + 10)}
        assert len(volume.store.made) <= MADE_MAX
        for name, inode in made.items():
            await volume.unlink(name, inode)
            assert not has_handle(volume, inode)
        assert await volume.names() == []
        assert volume.store.made == {}

    run(brick, scenario)


def test_an_open_file_lives_on(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode, fd, _ = await volume.create(b"f")
        await volume.unlink(b"f", inode)
        await volume.top.writev(volume.frame(), fd, b"x", 0, None)
        assert bytes(await volume.top.readv(volume.frame(), fd, 10, 0, None)) == b"x"
        await volume.top.release(volume.frame(), fd, None)
        with failing(errno.ESTALE):
            await volume.read(inode)

    run(brick, scenario)
