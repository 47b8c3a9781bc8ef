"""Making, removing and healing directories; what crashes leave of them."""

from __future__ import annotations

import errno
import os
import stat

import pytest
import trio

from fusemux.graph.debug.fault import Fault, lift, place
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import SetAttr

from .invariants import check_bricks
from .volume import LAYOUT, Volume, brick_directories, refused, served

MIB = 1 << 20


def make_copy(v: Volume, place: int, name: str, gfid: bytes) -> None:
    """A directory on one brick only."""
    os.mkdir(v.brick_path(place, name))
    os.setxattr(v.brick_path(place, name), "trusted.gfid", gfid)


def test_mkdir_of_a_name_that_is_taken_is_eexist_whatever_has_it() -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.create("file")
            await v.mkdir("dir")
            for name in ("file", "dir"):
                with refused(errno.EEXIST):
                    await v.mkdir(name)
            check_bricks(v)

    trio.run(main)


def test_mkdir_applies_mode_umask_and_owner_on_every_brick() -> None:
    async def main() -> None:
        async with served(3) as v:
            v.frame.uid, v.frame.gid, v.frame.umask = 12, 34, 0o027
            await v.mkdir("dir", 0o777)
            for brick in range(3):
                st = os.stat(v.brick_path(brick, "dir"))
                assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o750, 12, 34)

    trio.run(main)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.ENOTCONN])
def test_mkdir_that_fails_on_another_brick_divides_the_hashes_among_the_others(number: int) -> None:
    async def main() -> None:
        async with served(3) as v:
            name = v.name_for(0)
            fault = Fault("error", fops=frozenset({"mkdir"}), errno=number)
            place(v.dht.children[1], fault)
            await v.mkdir(name)
            assert v.where(name) == {0: "dir", 2: "dir"}
            for n in range(10):
                await v.create(f"{name}/f{n}")
            lift(v.dht.children[1], fault)
            await v.remount()
            assert await v.names_in(name) == [f"f{n}" for n in range(10)]
            check_bricks(v)

    trio.run(main)


def test_mkdir_that_fails_where_it_hashes_makes_nothing() -> None:
    async def main() -> None:
        async with served(3) as v:
            name = v.name_for(0)
            place(v.dht.children[0], Fault("error", fops=frozenset({"mkdir"}), times=1))
            with refused(errno.EIO):
                await v.mkdir(name)
            assert v.where(name) == {}

    trio.run(main)


def test_mkdir_gives_no_share_to_a_brick_that_is_too_full() -> None:
    async def main() -> None:
        with brick_directories(2, 8 * MIB) as paths:
            async with served(paths, min_free_disk="50%") as v:
                await v.create(v.name_for(0), bytes(5 * MIB))
                v.dht.space.forget()
                await v.mkdir("dir")
                assert v.shares("dir") == [bytes(16).hex(), "0000000000000000" + "00000000ffffffff"]

    trio.run(main)


@pytest.mark.parametrize("leftover", ["empty", "linkto-free file inside"])
def test_a_leftover_of_another_directory_on_one_brick_gives_way_when_it_is_empty(leftover: str) -> None:
    async def main() -> None:
        async with served(2) as v:
            await v.mkdir("d")  # its commit hash vouches, so nobody looks for names elsewhere
            name = v.name_for(0, "d")
            make_copy(v, 1, f"d/{name}", bytes(range(16)))
            if leftover != "empty":
                os.mkdir(v.brick_path(1, f"d/{name}/below"))
            await v.mkdir(f"d/{name}")
            there = v.xattr(1, f"d/{name}", "trusted.gfid") == v.xattr(0, f"d/{name}", "trusted.gfid")
            assert there is (leftover == "empty")
            if leftover == "empty":
                check_bricks(v)

    trio.run(main)


@pytest.mark.parametrize("copies", [[0], [1], [0, 2], [1, 2]])
def test_a_mkdir_or_rmdir_that_crashed_half_way_is_completed_by_a_lookup(copies: list[int]) -> None:
    async def main() -> None:
        async with served(3) as v:
            name = v.name_for(0)
            for brick in copies:
                make_copy(v, brick, name, bytes(range(16)))
            iatt = await v.lookup(name)  # in the root, where names are searched everywhere
            assert iatt.gfid == bytes(range(16))
            assert await v.names_in("/") == [name]
            await v.create(f"{name}/file")
            check_bricks(v)
            assert {share[:8] for share in v.shares(name) if share} == {"00000001"}

    trio.run(main)


def test_a_layout_with_a_hole_or_an_overlap_is_divided_anew_and_keeps_its_files() -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("dir")
            for n in range(20):
                await v.create(f"dir/f{n}", b"%d" % n)
            for damage in ("", "0000000000000000" + "00000000ffffffff"):
                path = v.brick_path(1, "dir")
                os.setxattr(path, LAYOUT, bytes.fromhex(damage)) if damage else os.removexattr(path, LAYOUT)
                await v.remount()
                await v.lookup("dir")
                check_bricks(v, linktos=False)
                for n in range(20):
                    assert await v.read(f"dir/f{n}") == b"%d" % n
            check_bricks(v)

    trio.run(main)


def test_a_layout_that_was_made_by_hand_is_left_as_it_is() -> None:
    async def main() -> None:
        async with served(2) as v:
            await v.mkdir("dir")
            for brick, share in enumerate(("00000000000000010000000010000000", "000000000000000110000001ffffffff")):
                os.setxattr(v.brick_path(brick, "dir"), LAYOUT, bytes.fromhex(share))
            await v.remount()
            before = v.shares("dir")
            inode = await v.inode("dir")
            await v.top.setxattr(v.tick(), inode, {b"distribute.fix.layout": b"yes"}, 0)
            assert v.shares("dir") == before

    trio.run(main)


def test_fix_layout_takes_in_a_new_brick_and_all_files_are_found_where_they_were() -> None:
    async def main() -> None:
        with brick_directories(3) as paths:
            async with served(paths[:2]) as v:
                await v.mkdir("dir")
                for n in range(30):
                    await v.create(f"dir/f{n}", b"%d" % n)
            async with served(paths) as v:
                inode = await v.inode("dir")
                assert v.shares("dir")[2] == bytes(16).hex()
                await v.top.setxattr(v.tick(), inode, {b"distribute.fix.layout": b"yes"}, 0)
                assert all(share is not None and share[16:] != "0" * 16 for share in v.shares("dir"))
                for n in range(30):
                    assert await v.read(f"dir/f{n}") == b"%d" % n
                assert await v.names_in("dir") == sorted(f"f{n}" for n in range(30))
                check_bricks(v)

    trio.run(main)


# -- rmdir ---------------------------------------------------------------------------------------------------


def test_rmdir_of_a_directory_with_a_file_on_any_brick_is_enotempty_and_nothing_is_lost() -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("dir")
            for brick in range(3):
                name = v.name_for(brick, "dir")
                await v.create(f"dir/{name}")
                with refused(errno.ENOTEMPTY):
                    await v.rmdir("dir")
                check_bricks(v)
                await v.unlink(f"dir/{name}")
            await v.rmdir("dir")
            assert v.where("dir") == {}

    trio.run(main)


@pytest.mark.parametrize("optimize", ["on", "off"])
def test_rmdir_removes_linkto_files_whose_files_are_gone(optimize: str) -> None:
    async def main() -> None:
        async with served(3, rmdir_optimize=optimize) as v:
            await v.mkdir("dir")
            name, origin = v.name_for(0, "dir"), v.name_for(1, "dir", "origin")
            await v.create(f"dir/{origin}")
            await v.rename(f"dir/{origin}", f"dir/{name}")
            with refused(errno.ENOTEMPTY):
                await v.rmdir("dir")
            assert v.where(f"dir/{name}") == {0: "->v-client-1", 1: "file"}
            os.unlink(v.brick_path(1, f"dir/{name}"))
            asked: list[bytes] = []
            lookup = v.dht.children[1].lookup

            async def spy(frame: object, inode: Inode, name: bytes, xdata: object = None) -> object:
                asked.append(name)
                return await lookup(frame, inode, name, xdata)

            parent, inode = await v.inode(""), await v.inode("dir")
            v.dht.children[1].lookup = spy  # type: ignore[method-assign]
            await v.top.rmdir(v.tick(), parent, b"dir", inode)
            assert v.where("dir") == {}
            assert (name.encode() in asked) is (optimize == "off")

    trio.run(main)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_rmdir_that_fails_on_one_brick_leaves_the_directory_whole_with_all_it_had(failing: int) -> None:
    async def main() -> None:
        async with served(3) as v:
            name = v.name_for(0)
            inode = await v.mkdir(name)
            await v.top.setattr(v.tick(), inode, SetAttr(mode=0o711, uid=3))
            await v.top.setxattr(v.tick(), inode, {b"user.a": b"1"}, 0)
            shares = v.shares(name)
            place(v.dht.children[failing], Fault("error", fops=frozenset({"rmdir"}), times=1))
            with refused(errno.EIO):
                await v.rmdir(name)
            assert v.shares(name) == shares
            for brick in range(3):
                st = os.stat(v.brick_path(brick, name))
                assert (stat.S_IMODE(st.st_mode), st.st_uid, v.xattr(brick, name, "user.a")) == (0o711, 3, b"1")
            check_bricks(v)
            await v.rmdir(name)

    trio.run(main)


def test_rmdir_is_refused_while_a_brick_is_down() -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("dir")
            await v.bricks[1].kill()
            with refused(errno.ENOTCONN):
                await v.rmdir("dir")
            await v.bricks[1].start()
            await v.rmdir("dir")
            assert v.where("dir") == {}

    trio.run(main)


# -- a brick is down -----------------------------------------------------------------------------------------


def test_with_a_brick_down_files_on_others_go_on_and_names_that_hash_there_are_refused_not_denied() -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("dir")
            names = [v.name_for(brick, "dir") for brick in range(3)]
            for name in names:
                await v.create(f"dir/{name}", name.encode())
            await v.bricks[1].kill()
            for fresh in (False, True):
                if fresh:
                    await v.remount()
                for brick in (0, 2):
                    assert await v.read(f"dir/{names[brick]}") == names[brick].encode()
                    await v.create(f"dir/{v.name_for(brick, 'dir', f'new{fresh}')}")
                with refused(errno.ENOTCONN):
                    await v.lookup(f"dir/{names[1]}")
                with refused(errno.ENOTCONN):
                    await v.exists(f"dir/{v.name_for(1, 'dir', 'missing')}")
                assert names[1] not in await v.names_in("dir")
                assert names[0] in await v.names_in("dir")
            await v.bricks[1].start()
            assert await v.read(f"dir/{names[1]}") == names[1].encode()
            check_bricks(v)

    trio.run(main)


def test_a_directory_is_listed_though_the_brick_that_should_list_it_is_down() -> None:
    async def main() -> None:
        async with served(3) as v:
            names = [v.name_for(brick) for brick in range(3)]
            for name in names:
                await v.mkdir(name)
            for brick in range(3):
                await v.bricks[brick].kill()
                assert await v.names_in("/") == sorted(names)
                await v.bricks[brick].start()
            assert await v.names_in("/") == sorted(names)

    trio.run(main)
