"""Directories deeper than the kernel follows symbolic links, and longer than a path may be."""

from __future__ import annotations

import errno
import os
import stat

from fusemux.bricks.storage.posix.directories import dir_handles
from fusemux.bricks.storage.posix.handle import path_of
from fusemux.graph.framework.inode import Inode
from tests.bricks.serving import Place, Volume, failing, run

DEPTH = 120
NAME = b"a-name-of-forty-characters-or-thereabouts"


async def descend(volume: Volume) -> list[Inode]:
    chain = [volume.root]
    for _ in range(DEPTH):
        chain.append(await volume.mkdir(NAME, chain[-1]))
    return chain


def forget(volume: Volume) -> None:
    for gfid in [gfid for gfid, known in volume.store.dirs.items() if known is not volume.store.root]:
        volume.store.drop_dir(gfid)


def test_a_directory_of_any_depth_is_found_by_its_gfid(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        chain = await descend(volume)
        assert len(NAME) * DEPTH > 4096, "longer than PATH_MAX"
        forget(volume)
        inode = await volume.file(b"f", chain[-1], b"deep")
        forget(volume)
        assert (await volume.lookup(b"f", chain[-1])).gfid == inode.gfid
        assert await volume.read(inode) == b"deep"
        forget(volume)
        await volume.rename(b"f", b"g", inode, chain[-1], chain[1])
        iatt = await volume.rename(NAME, b"moved", chain[60], chain[59], volume.root)
        assert iatt.gfid == chain[60].gfid
        forget(volume)
        assert await volume.names(chain[-1]) == []
        assert await volume.names(chain[59]) == []
        path = await volume.top.getxattr(volume.frame(), chain[-1], b"glusterfs.ancestry.path", None)
        assert path[b"glusterfs.ancestry.path"] == b"/moved" + (b"/" + NAME) * (DEPTH - 60)
        for parent, child in zip(chain[60:-1][::-1], chain[61:][::-1], strict=True):
            await volume.top.rmdir(volume.frame(), parent, NAME, child, None)

    run(brick, scenario)


def test_few_descriptors_are_enough_for_many_directories(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        handles = dir_handles(volume.process)
        handles.limit = 3
        chain = await descend(volume)
        side = [await volume.mkdir(b"%d" % i) for i in range(20)]
        for inode in (*chain, *side):
            await volume.file(b"f", inode)
        for inode in (*side, *chain):
            assert b"f" in await volume.names(inode)
        for one, other in zip(chain[1:21], side, strict=True):
            file = volume.graph.itable.link((await volume.lookup(b"f", one)).gfid, stat.S_IFREG)
            await volume.rename(b"f", b"moved", file, one, other)
        assert len(handles) <= 3
        assert len(volume.store.dirs) <= 4, "these, and the root"

    run(brick, scenario)


def test_handles_that_run_in_a_circle_are_an_error_not_a_loop(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        a = await volume.mkdir(b"a")
        b = await volume.mkdir(b"b", a)
        forget(volume)
        gl = brick.path / ".glusterfs"
        text = os.readlink(gl / path_of(b.gfid)).replace(path_of(a.gfid), path_of(b.gfid))
        os.unlink(gl / path_of(a.gfid))
        os.symlink(text, gl / path_of(a.gfid))
        with failing(errno.ELOOP):
            await volume.names(b)

    run(brick, scenario)
