"""Files through their life: hard links across subvolumes, files without a name, odd types, copies, dispatch."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

import pytest
import trio

from fusemux.graph.debug.fault import Fault, place
from fusemux.graph.framework.types import Flock

from .invariants import check_bricks
from .test_scenarios import file_at
from .volume import Volume, refused, served


async def temporary(v: Volume) -> tuple[object, object]:
    gfid = v.process.new_gfid()
    inode = v.table.link(gfid, stat.S_IFREG)
    fd = v.table.fd(inode, os.O_RDWR)
    await v.top.tmpfile(v.tick(), v.table.root, os.O_RDWR, 0o600, gfid, fd)
    return inode, fd


def test_hard_links_share_one_file_wherever_their_names_hash() -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("dir")
            first = await file_at(v, 0, 0, "first", b"data")
            names = [first, *(v.name_for(b, start=f"l{b}-") for b in range(3)), f"dir/{v.name_for(2, 'dir')}"]
            for n, name in enumerate(names[1:], 2):
                iatt = await v.link(first, name)
                assert iatt.nlink == n
            fd = await v.open(names[2])
            await v.top.writev(v.tick(), fd, b"DATA!", 0)
            await v.close(fd)
            for name in names:
                assert await v.read(name) == b"DATA!"
                assert (await v.lookup(name)).nlink == 5
            check_bricks(v)
            await v.remount()
            for left, name in zip((4, 3, 2, 1), names[:4], strict=True):
                await v.unlink(name)
                assert v.where(name) == {}
                assert (await v.lookup(names[4])).nlink == left
            assert await v.read(names[4]) == b"DATA!"
            check_bricks(v)

    trio.run(main)


@pytest.mark.parametrize("failing", ["link", "mknod"])
def test_a_link_that_fails_leaves_no_pointer(failing: str) -> None:
    async def main() -> None:
        async with served(2) as v:
            source, name = await file_at(v, 0, 0, "source", b"s"), v.name_for(1)
            for edge in v.dht.children:
                place(edge, Fault("error", fops=frozenset({failing}), times=1))
            with refused(errno.EIO):
                await v.link(source, name)
            assert v.where(name) == {}
            check_bricks(v)

    trio.run(main)


def test_a_link_to_a_taken_name_is_eexist() -> None:
    async def main() -> None:
        async with served(3) as v:
            source = await file_at(v, 0, 0, "source", b"s")
            for hashed in (0, 1):
                for at in (0, 1, 2):
                    taken = await file_at(v, hashed, at, f"taken{hashed}{at}-", b"t")
                    with refused(errno.EEXIST):
                        await v.link(source, taken)
            assert (await v.lookup(source)).nlink == 1
            check_bricks(v)

    trio.run(main)


def test_a_file_without_a_name_gets_one_by_a_link_wherever_that_hashes() -> None:
    async def main() -> None:
        async with served(3) as v:
            for brick in range(3):
                name = v.name_for(brick, start=f"n{brick}-")
                inode, fd = await temporary(v)
                await v.top.writev(v.tick(), fd, b"data", 0)
                iatt = await v.top.link(v.tick(), inode, v.table.root, name.encode())
                assert iatt.nlink == 1
                await v.close(fd)  # type: ignore[arg-type]
                assert await v.read(name) == b"data"
            check_bricks(v)

    trio.run(main)


def test_files_of_every_type_are_placed_found_and_removed() -> None:
    async def main() -> None:
        async with served(3) as v:
            root = v.table.root
            for n, type_ in enumerate((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, stat.S_IFCHR)):
                name, gfid = b"special%d" % n, v.process.new_gfid()
                await v.top.mknod(v.tick(), root, name, type_ | 0o640, os.makedev(1, 3), gfid)
                iatt = await v.lookup(name.decode())
                assert (iatt.gfid, iatt.mode) == (gfid, type_ | 0o640)
                await v.rename(name.decode(), f"moved{n}")
            await v.top.symlink(v.tick(), root, b"link", b"to/somewhere", v.process.new_gfid())
            await v.rename("link", "moved-link")
            assert bytes(await v.top.readlink(v.frame, await v.inode("moved-link"))) == b"to/somewhere"
            check_bricks(v)
            for name in await v.names_in("/"):
                await v.unlink(name)
            assert await v.names_in("/") == []
            check_bricks(v)

    trio.run(main)


def test_an_open_file_lives_on_after_its_name_is_removed() -> None:
    async def main() -> None:
        async with served(3) as v:
            name = await file_at(v, 0, 2, "name", b"data")
            fd = await v.open(name)
            await v.unlink(name)
            assert v.where(name) == {}
            await v.top.writev(v.tick(), fd, b"more", 4)
            assert bytes(await v.top.readv(v.frame, fd, 100, 0)) == b"datamore"
            assert (await v.top.stat(v.frame, fd)).nlink == 0
            await v.close(fd)

    trio.run(main)


def test_the_file_fops_reach_the_file_behind_a_pointer() -> None:
    async def main() -> None:
        async with served(3) as v:
            name = await file_at(v, 0, 1, "name", b"0123456789")
            fd = await v.open(name)
            assert (await v.top.truncate(v.tick(), fd, 5)).size == 5
            assert (await v.top.fallocate(v.tick(), fd, 0, 0, 8)).size == 8
            await v.top.fsync(v.frame, fd, False)
            await v.top.setxattr(v.tick(), fd, {b"user.a": b"1"}, 0)
            assert dict(await v.top.getxattr(v.frame, fd, b"user.a")) == {b"user.a": b"1"}
            await v.top.removexattr(v.tick(), fd, b"user.a")
            assert dict(await v.top.getxattr(v.frame, fd, None)) == {}
            assert len((await v.top.rchecksum(v.frame, fd, 0, 8))[1]) == 32
            with refused(errno.EOPNOTSUPP):  # record locks need features/locks on the brick
                await v.top.lk(v.frame, fd, fcntl.F_GETLK, Flock(fcntl.F_WRLCK, 0, 0))
            await v.close(fd)
            await v.top.syncfs(v.frame, v.table.root)
            directory = await v.open("/", os.O_RDONLY)
            await v.top.fsync(v.frame, directory, True)
            await v.close(directory)

    trio.run(main)


def test_a_copy_inside_one_brick_is_made_there_and_between_bricks_is_exdev() -> None:
    async def main() -> None:
        async with served(2) as v:
            source = await v.open(await file_at(v, 0, 0, "one", b"data"))
            same = await file_at(v, 0, 0, "same", b"1234")
            near, far = await v.open(same), await v.open(await file_at(v, 1, 1, "other", b"5678"))
            assert await v.top.copy_file_range(v.tick(), source, 0, near, 4, 4, 0) == 4
            assert await v.read(same) == b"1234data"
            with refused(errno.EXDEV):
                await v.top.copy_file_range(v.tick(), source, 0, far, 4, 4, 0)
            for fd in (source, near, far):
                await v.close(fd)

    trio.run(main)
