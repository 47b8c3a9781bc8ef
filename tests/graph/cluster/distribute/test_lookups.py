"""Lookups: misplaced files, linkto files that lie, users' own odd modes, what is shown and what is not."""

from __future__ import annotations

import errno
import os
import shutil
import stat

import pytest
import trio

from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import SetAttr

from .invariants import check_bricks
from .volume import LAYOUT, LINKTO, Volume, refused, served


def displace(v: Volume, path: str, source: int, target: int) -> None:
    """Move a file's data to another brick behind the graph's back, as a crash in a rebalance leaves it."""
    old, new = v.brick_path(source, path), v.brick_path(target, path)
    shutil.copyfile(old, new)
    for name in os.listxattr(old):
        os.setxattr(new, name, os.getxattr(old, name))
    shutil.copystat(old, new)
    gfid = os.getxattr(old, "trusted.gfid").hex()
    handle = f".glusterfs/{gfid[:2]}/{gfid[2:4]}/{gfid[:8]}-{gfid[8:12]}-{gfid[12:16]}-{gfid[16:20]}-{gfid[20:]}"
    os.makedirs(os.path.dirname(v.brick_path(target, handle)), exist_ok=True)
    os.link(new, v.brick_path(target, handle))
    os.unlink(old)
    os.unlink(v.brick_path(source, handle))


async def misplaced(v: Volume, directory: str, start: str = "n") -> str:
    """A file in `directory` whose name hashes to brick 0 and whose data is on brick 1, without a linkto file."""
    name = v.name_for(0, directory, start)
    path = f"{directory}/{name}".strip("/")
    await v.create(path, b"data")
    displace(v, path, 0, 1)
    return path


def test_a_misplaced_file_in_a_directory_without_a_trusted_commit_hash_is_found_and_gets_a_linkto() -> None:
    async def main() -> None:
        async with served(2) as v:
            path = await misplaced(v, "")  # the root has commit hash 1
            await v.remount()
            assert await v.read(path) == b"data"
            assert v.where(path) == {0: "->v-client-1", 1: "file"}
            check_bricks(v)

    trio.run(main)


def test_a_commit_hash_that_vouches_ends_the_search_and_lookup_optimize_off_ignores_it() -> None:
    async def main() -> None:
        async with served(2) as v:
            await v.mkdir("dir")
            path = await misplaced(v, "dir")
            await v.remount()
            with refused(errno.ENOENT):
                await v.lookup(path)
            await v.remount(lookup_optimize="off", lookup_unhashed="off")
            with refused(errno.ENOENT):
                await v.lookup(path)
            await v.remount(lookup_optimize="off", lookup_unhashed="auto")
            with refused(errno.ENOENT):  # the layout spans all subvolumes
                await v.lookup(path)
            await v.remount(lookup_optimize="off", lookup_unhashed="on")
            assert await v.read(path) == b"data"

    trio.run(main)


def test_lookup_unhashed_auto_searches_where_the_layout_does_not_span_all() -> None:
    async def main() -> None:
        async with served(2, directory_layout_spread="1") as v:
            names = (f"d{n}" for n in range(100))
            directory = next(n for n in names if (v.dht.hash_once(b"/" + n.encode())) % 2 == 0)
            await v.mkdir(directory)
            path = await misplaced(v, directory)
            await v.remount(lookup_optimize="off", lookup_unhashed="auto")
            assert await v.read(path) == b"data"

    trio.run(main)


def test_a_volume_commit_hash_is_read_from_the_root_and_given_to_new_directories() -> None:
    async def main() -> None:
        async with served(2) as v:
            for brick in range(2):
                os.setxattr(v.brick_path(brick, ""), "trusted.glusterfs.dht.commithash", b"3735928559\0")
            await v.remount()
            await v.mkdir("dir")
            assert [share[:8] for share in v.shares("dir") if share] == ["deadbeef"] * 2
            path = await misplaced(v, "dir")
            with refused(errno.ENOENT):
                await v.lookup(path)

    trio.run(main)


def test_a_small_directory_without_a_trusted_hash_is_looked_through_once_and_then_vouched_for() -> None:
    async def main() -> None:
        async with served(2) as v:
            await v.create("file")
            name = v.name_for(0, start="missing")
            with refused(errno.ENOENT):
                await v.lookup(name)
            asked: list[bytes] = []
            lookup = v.dht.children[1].lookup

            async def spy(frame: object, inode: Inode, name: bytes, xdata: object = None) -> object:
                asked.append(name)
                return await lookup(frame, inode, name, xdata)

            v.dht.children[1].lookup = spy  # type: ignore[method-assign]
            root = v.table.root
            for n in range(10):
                with refused(errno.ENOENT):
                    await v.top.lookup(v.frame, root, v.name_for(0, start=f"other{n}-").encode())
            assert asked == []

    trio.run(main)


def test_a_linkto_file_that_names_nobody_or_a_subvolume_without_the_file_is_replaced() -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("d")
            name, origin = v.name_for(0, "d"), v.name_for(1, "d", "origin")
            await v.create(f"d/{origin}", b"data")
            await v.rename(f"d/{origin}", f"d/{name}")
            for lie in (b"v-client-2\0", b"nobody\0", b"v-client-0\0"):
                os.setxattr(v.brick_path(0, f"d/{name}"), LINKTO, lie)
                await v.remount()
                assert await v.read(f"d/{name}") == b"data"
                assert v.where(f"d/{name}") == {0: "->v-client-1", 1: "file"}

    trio.run(main)


def test_a_stale_linkto_file_does_not_keep_its_name_from_being_used() -> None:
    async def main() -> None:
        async with served(2) as v:
            await v.mkdir("d")
            root = await v.inode("d")
            for make in ("create", "mkdir", "link", "symlink"):
                name, origin = v.name_for(0, "d", make), v.name_for(1, "d", f"origin{make}")
                await v.create(f"d/{origin}")
                await v.rename(f"d/{origin}", f"d/{name}")
                os.unlink(v.brick_path(1, f"d/{name}"))
                # no lookup before: the kernel may know for sure that the name is free
                match make:
                    case "create" | "mkdir":
                        parent, last = await v.parent(f"d/{name}")
                        gfid = v.process.new_gfid()
                        if make == "mkdir":
                            await v.top.mkdir(v.tick(), parent, last, 0o755, gfid)
                        else:
                            fd = v.table.fd(v.table.link(gfid, stat.S_IFREG), os.O_RDWR)
                            await v.top.create(v.tick(), parent, last, os.O_RDWR, 0o644, gfid, fd)
                            await v.close(fd)
                    case "link":
                        inode = await v.create("d/plain")
                        await v.top.link(v.tick(), inode, root, name.encode())
                    case _:
                        await v.top.symlink(v.tick(), root, name.encode(), b"text", v.process.new_gfid())
                assert await v.exists(f"d/{name}")
            check_bricks(v)

    trio.run(main)


@pytest.mark.parametrize("mode", [0o1000, 0o1644, 0o2644, 0o3644, 0o3777])
def test_a_users_own_sticky_and_set_group_id_bits_are_shown_and_make_no_linkto_file(mode: int) -> None:
    async def main() -> None:
        async with served(2) as v:
            inode = await v.create("file")
            iatt = await v.top.setattr(v.tick(), inode, SetAttr(mode=mode))
            assert stat.S_IMODE(iatt.mode) == mode
            assert stat.S_IMODE((await v.top.stat(v.frame, inode)).mode) == mode
            assert stat.S_IMODE((await v.lookup("file")).mode) == mode
            assert await v.names_in("/") == ["file"]
            await v.remount()
            assert stat.S_IMODE((await v.lookup("file")).mode) == mode

    trio.run(main)


def test_the_marks_of_a_running_migration_are_not_shown() -> None:
    async def main() -> None:
        async with served(2) as v:
            inode = await v.create("file", mode=0o640)
            place = v.hashed("/", "file")
            os.chmod(v.brick_path(place, "file"), 0o3640)
            os.setxattr(v.brick_path(place, "file"), LINKTO, f"v-client-{1 - place}\0".encode())
            assert stat.S_IMODE((await v.lookup("file")).mode) == 0o640
            assert stat.S_IMODE((await v.top.stat(v.frame, inode)).mode) == 0o640
            assert stat.S_IMODE((await v.top.truncate(v.tick(), inode, 5)).mode) == 0o640

    trio.run(main)


def test_unhashed_sticky_bit_shows_which_files_are_not_where_they_hash() -> None:
    async def main() -> None:
        async with served(2, unhashed_sticky_bit="on") as v:
            name, origin = v.name_for(0), v.name_for(1, start="origin")
            await v.create(origin)
            assert not (await v.lookup(origin)).mode & stat.S_ISVTX
            await v.rename(origin, name)
            assert (await v.lookup(name)).mode & stat.S_ISVTX

    trio.run(main)


def test_a_name_that_is_a_file_here_and_a_directory_there_is_eio() -> None:
    async def main() -> None:
        async with served(2) as v:
            name = v.name_for(0)
            await v.create(name)
            os.mkdir(v.brick_path(1, name))
            os.setxattr(v.brick_path(1, name), "trusted.gfid", bytes(range(16)))
            os.unlink(v.brick_path(0, name))
            await v.create("unrelated")
            with open(v.brick_path(0, f"{name}x"), "w"):
                pass
            os.rename(v.brick_path(0, f"{name}x"), v.brick_path(0, name))
            os.setxattr(v.brick_path(0, name), "trusted.gfid", bytes(range(1, 17)))
            await v.remount()
            assert stat.S_ISREG((await v.lookup(name)).mode)  # the hashed subvolume's word counts
            os.unlink(v.brick_path(0, name))
            other = v.name_for(0, start="third")
            os.mkdir(v.brick_path(1, other))
            os.setxattr(v.brick_path(1, other), "trusted.gfid", bytes(range(2, 18)))
            os.mkdir(v.brick_path(0, other))
            os.setxattr(v.brick_path(0, other), "trusted.gfid", bytes(range(3, 19)))
            await v.remount()
            with refused(errno.EIO):
                await v.lookup(other)

    trio.run(main)


def test_a_gfid_alone_leads_to_file_and_directory_without_their_linkto_files() -> None:
    async def main() -> None:
        async with served(3) as v:
            name, origin = v.name_for(0), v.name_for(1, start="origin")
            file = await v.create(origin, b"data")
            await v.rename(origin, name)
            directory = await v.mkdir("dir")
            await v.remount()
            for gfid, type_ in ((file.gfid, stat.S_IFREG), (directory.gfid, stat.S_IFDIR)):
                inode = v.table.link(gfid, 0)
                iatt = await v.top.lookup(v.frame, inode, b"")
                assert (iatt.gfid, iatt.type) == (gfid, type_)
            inode = v.table.link(file.gfid, stat.S_IFREG)
            assert (await v.top.stat(v.frame, inode)).size == 4
            with refused(errno.ESTALE):
                await v.top.lookup(v.frame, v.table.link(bytes(range(16)), 0), b"")

    trio.run(main)


def test_a_file_that_somebody_has_moved_is_followed_by_whoever_has_it_open() -> None:
    async def main() -> None:
        async with served(3) as v:
            name = v.name_for(0)
            await v.create(name, b"data")
            inode = await v.inode(name)
            displace(v, name, 0, 1)
            assert (await v.top.stat(v.frame, inode)).size == 4
            fd = await v.open(name)
            displace(v, name, 1, 2)
            await v.bricks[1].kill()  # so that it cannot go on with the file that it holds open
            await v.bricks[1].start()
            assert bytes(await v.top.readv(v.frame, fd, 10, 0)) == b"data"
            await v.top.writev(v.tick(), fd, b"DATA", 0)
            await v.close(fd)
            with open(v.brick_path(2, name), "rb") as moved:
                assert moved.read() == b"DATA"

    trio.run(main)


def test_xattrs_asked_for_with_a_lookup_are_answered_and_distributes_own_are_not_shown() -> None:
    async def main() -> None:
        async with served(2) as v:
            inode = await v.mkdir("dir")
            await v.top.setxattr(v.tick(), inode, {b"user.a": b"1"}, 0)
            await v.create("file")
            for name in (b"dir", b"file"):
                iatt = await v.top.lookup(v.frame, v.table.root, name, {b"user.a": None, b"user.b": None})
                assert dict(iatt.xdata or {}) == ({b"user.a": b"1"} if name == b"dir" else {})
            assert v.xattr(0, "dir", LAYOUT) is not None

    trio.run(main)
