"""Attributes and xattrs of directories through their metadata server; hidden and virtual xattrs; statfs."""

from __future__ import annotations

import errno
import os
import stat

import pytest
import trio

from fusemux.graph.debug.fault import Fault, place
from fusemux.graph.framework.types import Frame, SetAttr

from .volume import LAYOUT, MDS, brick_directories, refused, served


def test_a_directorys_times_and_links_are_those_of_all_copies_together() -> None:
    async def main() -> None:
        async with served(3) as v:
            inode = await v.mkdir("dir")
            for brick in range(3):
                await v.create(f"dir/{v.name_for(brick, 'dir')}")
                iatt = await v.top.stat(v.frame, inode)
                assert (iatt.mtime_ns, iatt.ctime_ns) == (v.clock, v.clock)
                assert iatt == (await v.lookup("dir"))._replace(xdata=None)
            assert (iatt.nlink, iatt.size, iatt.blocks) == (2, 4096, 8)
            await v.mkdir("dir/below")
            assert (await v.top.stat(v.frame, inode)).nlink == 3

    trio.run(main)


@pytest.mark.parametrize("path", ["", "dir"])
def test_setattr_of_a_directory_reaches_every_copy(path: str) -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("dir")
            inode = await v.inode(path)
            iatt = await v.top.setattr(v.tick(), inode, SetAttr(mode=0o1770, uid=7, gid=8, mtime_ns=5 * 10**9))
            assert (stat.S_IMODE(iatt.mode), iatt.uid, iatt.gid, iatt.mtime_ns) == (0o1770, 7, 8, 5 * 10**9)
            for brick in range(3):
                st = os.stat(v.brick_path(brick, path))
                assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o1770, 7, 8)

    trio.run(main)


def test_a_change_of_xattrs_is_announced_on_the_metadata_server_until_all_have_it() -> None:
    async def main() -> None:
        async with served(3) as v:
            name = v.name_for(0)
            inode = await v.mkdir(name)
            await v.top.setxattr(v.tick(), inode, {b"user.a": b"1"}, 0)
            assert [v.xattr(brick, name, "user.a") for brick in range(3)] == [b"1"] * 3
            assert v.xattr(0, name, MDS) == bytes(4)
            place(v.dht.children[2], Fault("error", fops=frozenset({"setxattr"}), times=1))
            await v.top.setxattr(v.tick(), inode, {b"user.a": b"2"}, 0)
            assert v.xattr(0, name, MDS) == b"\xff\xff\xff\xff"
            await v.lookup(name)
            assert [v.xattr(brick, name, "user.a") for brick in range(3)] == [b"2"] * 3
            assert v.xattr(0, name, MDS) == bytes(4)

    trio.run(main)


def test_a_change_that_the_metadata_server_refuses_is_made_nowhere() -> None:
    async def main() -> None:
        async with served(2) as v:
            name = v.name_for(0)
            inode = await v.mkdir(name)
            await v.top.setxattr(v.tick(), inode, {b"user.a": b"1"}, 0)
            with refused(errno.EEXIST):
                await v.top.setxattr(v.tick(), inode, {b"user.a": b"2"}, os.XATTR_CREATE)
            with refused(errno.ENODATA):
                await v.top.removexattr(v.tick(), inode, b"user.b")
            assert [v.xattr(brick, name, "user.a") for brick in range(2)] == [b"1"] * 2
            assert v.xattr(0, name, MDS) == bytes(4)

    trio.run(main)


def test_while_the_metadata_server_is_down_a_directory_is_not_changed_and_others_may_be_down() -> None:
    async def main() -> None:
        async with served(3) as v:
            name = v.name_for(0)
            inode = await v.mkdir(name)
            await v.bricks[0].kill()
            with refused(errno.ENOTCONN):
                await v.top.setattr(v.tick(), inode, SetAttr(mode=0o700))
            with refused(errno.ENOTCONN):
                await v.top.setxattr(v.tick(), inode, {b"user.a": b"1"}, 0)
            assert v.xattr(1, name, "user.a") is None
            await v.bricks[0].start()
            await v.bricks[1].kill()
            await v.top.setattr(v.tick(), inode, SetAttr(mode=0o700))
            await v.bricks[1].start()
            await v.lookup(name)
            assert {stat.S_IMODE(os.stat(v.brick_path(b, name)).st_mode) for b in range(3)} == {0o700}

    trio.run(main)


def test_a_directory_without_a_metadata_server_gets_one_when_it_is_looked_up() -> None:
    async def main() -> None:
        async with served(2) as v:
            name = v.name_for(1)
            await v.mkdir(name)
            os.removexattr(v.brick_path(1, name), MDS)
            await v.remount()
            await v.lookup(name)
            assert [v.xattr(brick, name, MDS) for brick in range(2)] == [None, bytes(4)]

    trio.run(main)


def test_distributes_own_xattrs_are_neither_shown_nor_set_but_for_internal_callers() -> None:
    async def main() -> None:
        async with served(2) as v:
            inode = await v.mkdir("dir")
            await v.top.setxattr(v.tick(), inode, {b"user.a": b"1"}, 0)
            assert dict(await v.top.getxattr(v.frame, inode, None)) == {b"user.a": b"1"}
            with refused(errno.ENODATA):
                await v.top.getxattr(v.frame, inode, LAYOUT.encode())
            for own in (LAYOUT, MDS):
                with refused(errno.EPERM):
                    await v.top.setxattr(v.frame, inode, {own.encode(): b"x"}, 0)
                with refused(errno.EPERM):
                    await v.top.removexattr(v.frame, inode, own.encode())
            internal = Frame(pid=-3)
            assert len((await v.top.getxattr(internal, inode, LAYOUT.encode()))[LAYOUT.encode()]) == 16

    trio.run(main)


def test_pathinfo_tells_the_way_to_a_files_brick() -> None:
    async def main() -> None:
        with brick_directories(2) as paths:
            async with served(paths) as v:
                inode = await v.create("file")
                key = b"trusted.glusterfs.pathinfo"
                told = (await v.top.getxattr(v.frame, inode, key))[key].decode()
                assert told.startswith("(<DISTRIBUTE:v-dht> <POSIX(")
                assert paths[v.hashed("/", "file")] in told

    trio.run(main)


def test_statfs_adds_up_the_bricks_in_equal_units_and_leaves_out_those_that_are_down() -> None:
    async def main() -> None:
        mib = 1 << 20
        with brick_directories(3, [8 * mib, 16 * mib, 32 * mib]) as paths:
            async with served(paths) as v:
                whole = await v.top.statfs(v.frame, v.table.root)
                assert whole.blocks * whole.frsize == 56 * mib
                await v.bricks[2].kill()
                part = await v.top.statfs(v.frame, v.table.root)
                assert part.blocks * part.frsize == 24 * mib

    trio.run(main)


def test_bricks_that_share_a_file_system_are_counted_once() -> None:
    async def main() -> None:
        with brick_directories(2) as paths:
            st = os.statvfs(paths[0])
            async with served(paths, brick={"shared-brick-count": "2"}) as v:
                whole = await v.top.statfs(v.frame, v.table.root)
                assert abs(whole.blocks * whole.frsize - st.f_blocks * st.f_frsize) <= 2 * st.f_frsize

    trio.run(main)
