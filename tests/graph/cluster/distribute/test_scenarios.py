"""The rows of GlusterFS's `tests/basic/distribute` that concern distribute itself (not rebalance), one section each."""

from __future__ import annotations

import errno
import itertools
import os
import stat

import pytest
import trio

from fusemux.graph.framework.types import SetAttr

from .invariants import check_bricks
from .volume import LINKTO, Volume, brick_directories, refused, served

MIB = 1 << 20

# -- file-create.t -------------------------------------------------------------------------------------------


def test_file_create_a_file_goes_where_its_name_hashes() -> None:
    async def main() -> None:
        async with served(2) as v:
            for n in range(20):
                await v.create(f"f{n}", b"data")
                assert v.where(f"f{n}") == {v.hashed("/", f"f{n}"): "file"}

    trio.run(main)


def test_file_create_on_a_brick_that_is_too_full_goes_to_the_other_with_a_pointer() -> None:
    async def main() -> None:
        with brick_directories(2, 25 * MIB) as paths:
            async with served(paths, min_free_disk="40%") as v:
                fill, there, elsewhere = v.name_for(0, start="fill"), v.name_for(0), v.name_for(1)
                await v.create(fill, bytes(16 * MIB))
                v.dht.space.forget()  # what was asked a moment ago is out of date
                await v.create(there, b"here")
                await v.create(elsewhere, b"there")
                assert v.where(there) == {0: "->v-client-1", 1: "file"}
                assert v.where(elsewhere) == {1: "file"}
                assert await v.read(there) == b"here"
                assert sorted(await v.names_in("/")) == sorted([fill, there, elsewhere])
                await v.unlink(there)
                assert v.where(there) == {}

    trio.run(main)


def test_file_create_that_runs_into_a_full_brick_goes_to_the_other_at_once() -> None:
    async def main() -> None:
        with brick_directories(2, [4 * MIB, 25 * MIB]) as paths:
            async with served(paths, weighted_rebalance="off", min_free_disk="0", brick={"reserve": "20%"}) as v:
                name, first = v.name_for(0), v.name_for(0, start="first")
                await v.create(first)
                fd = await v.open(first)
                for size in (65536, 4096, 512):  # to the last block that the reserve leaves
                    with refused(errno.ENOSPC):
                        for offset in itertools.count((await v.top.stat(v.frame, fd)).size, size):
                            await v.top.writev(v.tick(), fd, bytes(size), offset)
                await v.close(fd)
                await v.create(name, b"x")
                assert v.where(name) == {0: "->v-client-1", 1: "file"}

    trio.run(main)


@pytest.mark.parametrize("forced", [0, 1, 2])
def test_file_create_a_special_name_suffix_forces_the_brick(forced: int) -> None:
    async def main() -> None:
        async with served(3) as v:
            name = v.name_for(1)
            suffixed = f"{name}@v-dht:v-client-{forced}"
            await v.create(suffixed, b"data")
            assert v.where(suffixed) == {}
            assert v.where(name) == ({1: "file"} if forced == 1 else {1: f"->v-client-{forced}", forced: "file"})
            assert await v.read(name) == await v.read(suffixed) == b"data"
            assert await v.names_in("/") == [name]
            with refused(errno.EEXIST):
                await v.create(f"{name}@v-dht:v-client-{(forced + 1) % 3}")
            check_bricks(v)
            await v.unlink(suffixed)
            assert v.where(name) == {}
            await v.create("name@v-dht:nobody")  # a name like any other
            assert await v.names_in("/") == ["name@v-dht:nobody"]

    trio.run(main)


# -- file-rename.t: data of the source and of the target on the hashed brick or elsewhere ---------------------

# Bricks: s = where the source hashes, d = where the target hashes.  "at" is where the data is.
RENAMES = [
    pytest.param(s, s_at, d, d_at, id=f"source-{s}-at-{s_at}-target-{d}-at-{d_at}")
    for s, s_at, d, d_at in [
        # source's data where it hashes
        (0, 0, 0, None), (0, 0, 1, None), (0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 0, 1, 1), (0, 0, 1, 2),
        # source's data elsewhere, target missing
        (0, 1, 0, None), (0, 1, 1, None), (0, 1, 2, None),
        # source's data elsewhere, target's where it hashes
        (0, 1, 0, 0), (0, 1, 1, 1), (0, 1, 2, 2),
        # both elsewhere
        (0, 1, 0, 1), (0, 1, 0, 2), (0, 1, 1, 0), (0, 1, 2, 1), (0, 1, 2, 3),
    ]
]  # fmt: skip


async def file_at(v: Volume, hashed: int, at: int, start: str, data: bytes) -> str:
    """A file whose name hashes to one brick and whose data is on another (or the same)."""
    name = v.name_for(hashed, start=start)
    origin = v.name_for(at, start=f"{start}-origin")
    await v.create(origin, data)
    if hashed == at:
        await v.rename(origin, name) if origin != name else None
    else:
        await v.rename(origin, name)
    wanted = {at: "file"} if hashed == at else {at: "file", hashed: f"->{v.names[at]}"}
    assert v.where(name) == wanted
    return name


@pytest.mark.parametrize(("s", "s_at", "d", "d_at"), RENAMES)
@pytest.mark.parametrize("known", [True, False], ids=["target-known", "target-not-known"])
def test_file_rename_case(s: int, s_at: int, d: int, d_at: int | None, known: bool) -> None:
    async def main() -> None:
        async with served(4) as v:
            source = await file_at(v, s, s_at, "source", b"source")
            target = v.name_for(d, start="target") if d_at is None else await file_at(v, d, d_at, "target", b"target")
            inode = await v.inode(source)
            replaced = await v.inode(target) if d_at is not None and known else None
            root = v.table.root
            iatt = await v.top.rename(v.tick(), root, source.encode(), root, target.encode(), inode, replaced, 0)
            assert (iatt.gfid, iatt.nlink, iatt.size) == (inode.gfid, 1, 6)
            wanted = {s_at: "file"} if d == s_at else {s_at: "file", d: f"->{v.names[s_at]}"}
            assert v.where(target) == wanted
            assert v.where(source) == {}
            assert await v.read(target) == b"source"
            assert await v.names_in("/") == [target]
            await v.remount()
            assert await v.read(target) == b"source"
            assert not await v.exists(source)

    trio.run(main)


# -- lookup.t ------------------------------------------------------------------------------------------------


def test_lookup_of_a_missing_name_is_enoent_and_of_one_made_by_another_mount_succeeds() -> None:
    async def main() -> None:
        async with served(3) as v:
            with refused(errno.ENOENT):
                await v.lookup("missing")
            await v.mkdir("dir")
            with refused(errno.ENOENT):
                await v.lookup("dir/missing")
            await v.create("dir/file", b"1")
            await v.remount()
            assert (await v.lookup("dir/file")).size == 1

    trio.run(main)


# -- non-root-unlink-stale-linkto.t --------------------------------------------------------------------------


def test_non_root_unlink_stale_linkto_an_unprivileged_lookup_cleans_it_up_and_finds_the_file() -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("dir")
            name = v.name_for(0, "dir")
            origin = v.name_for(1, "dir", "origin")
            await v.create(f"dir/{origin}", b"data")
            await v.rename(f"dir/{origin}", f"dir/{name}")
            # the file moves behind our back, its pointer stays
            await v.remount()
            os.setxattr(v.brick_path(0, f"dir/{name}"), LINKTO, b"v-client-2\0")
            v.frame.uid = v.frame.gid = 1000
            assert await v.read(f"dir/{name}") == b"data"
            assert v.where(f"dir/{name}") == {0: "->v-client-1", 1: "file"}

    trio.run(main)


def test_non_root_unlink_stale_linkto_one_whose_file_is_gone_is_removed_and_the_name_is_free() -> None:
    async def main() -> None:
        async with served(2) as v:
            await v.mkdir("dir")
            name, origin = v.name_for(0, "dir"), v.name_for(1, "dir", "origin")
            await v.create(f"dir/{origin}")
            await v.rename(f"dir/{origin}", f"dir/{name}")
            os.unlink(v.brick_path(1, f"dir/{name}"))
            await v.remount()
            v.frame.uid = v.frame.gid = 1000
            with refused(errno.ENOENT):
                await v.lookup(f"dir/{name}")
            assert v.where(f"dir/{name}") == {}

    trio.run(main)


# -- brick-down.t --------------------------------------------------------------------------------------------


def test_brick_down_mkdir_that_hashes_there_fails_and_works_after_it_is_up_without_remount() -> None:
    async def main() -> None:
        async with served(3) as v:
            name, other = v.name_for(1), v.name_for(2)
            await v.bricks[1].kill()
            await v.remount()
            with refused(errno.ENOTCONN):
                await v.mkdir(name)
            await v.mkdir(other)
            assert v.where(other) == {0: "dir", 2: "dir"}
            await v.bricks[1].start()
            await v.mkdir(name)
            assert v.where(name) == dict.fromkeys(range(3), "dir")
            assert sorted(await v.names_in("/")) == sorted([name, other])

    trio.run(main)


# -- dir-heal.t ----------------------------------------------------------------------------------------------


def test_dir_heal_folders_made_while_a_brick_was_down_are_made_there_with_mode_and_xattrs() -> None:
    async def main() -> None:
        async with served(3) as v:
            name = v.name_for(0)
            await v.bricks[2].kill()
            inode = await v.mkdir(name)
            await v.top.setattr(v.tick(), inode, SetAttr(mode=0o751, uid=12, gid=34))
            await v.top.setxattr(v.tick(), inode, {b"user.colour": b"red"}, 0)
            before = await v.lookup(name)
            await v.bricks[2].start()
            after = await v.lookup(name)
            assert (after.mode, after.uid, after.gid) == (stat.S_IFDIR | 0o751, 12, 34)
            assert (after.mtime_ns, after.ctime_ns) == (before.mtime_ns, before.ctime_ns)
            assert v.where(name) == dict.fromkeys(range(3), "dir")
            st = os.stat(v.brick_path(2, name))
            assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o751, 12, 34)
            assert v.xattr(2, name, "user.colour") == b"red"
            assert v.shares(name)[2] == bytes(16).hex()  # it is there, and has no hash

    trio.run(main)


@pytest.mark.parametrize("fresh_mount", [False, True])
def test_dir_heal_folders_changed_while_a_brick_was_down_are_changed_there(fresh_mount: bool) -> None:
    async def main() -> None:
        async with served(3) as v:
            inode = await v.mkdir(v.name_for(0))
            name = v.name_for(0)
            await v.top.setxattr(v.tick(), inode, {b"user.old": b"1", b"user.colour": b"blue"}, 0)
            await v.bricks[1].kill()
            await v.top.setattr(v.tick(), inode, SetAttr(mode=0o700, uid=5))
            await v.top.setxattr(v.tick(), inode, {b"user.colour": b"red"}, 0)
            await v.top.removexattr(v.tick(), inode, b"user.old")
            await v.bricks[1].start()
            if fresh_mount:
                await v.remount()
            assert stat.S_IMODE((await v.lookup(name)).mode) == 0o700
            st = os.stat(v.brick_path(1, name))
            assert (stat.S_IMODE(st.st_mode), st.st_uid) == (0o700, 5)
            assert v.xattr(1, name, "user.colour") == b"red"
            assert v.xattr(1, name, "user.old") is None
            assert v.xattr(0, name, "trusted.glusterfs.dht.mds") == bytes(4)

    trio.run(main)


def test_dir_heal_nested_folders_are_healed_from_above_when_only_the_lowest_is_used() -> None:
    async def main() -> None:
        async with served(2) as v:
            top = v.name_for(0)
            await v.bricks[1].kill()
            await v.mkdir(top)
            below = v.name_for(0, top)
            inode = await v.mkdir(f"{top}/{below}")
            await v.bricks[1].start()
            # a kernel that caches all names only asks for what it uses
            await v.top.stat(v.frame, inode)
            await v.top.create(
                v.tick(), inode, b"file", os.O_RDWR, 0o600, (gfid := v.process.new_gfid()),
                fd := v.table.fd(v.table.link(gfid, stat.S_IFREG), os.O_RDWR),
            )  # fmt: skip
            await v.close(fd)
            assert v.where(f"{top}/{below}") == {0: "dir", 1: "dir"}

    trio.run(main)


# -- dht_seek_test.t -----------------------------------------------------------------------------------------


def test_dht_seek_holes_are_found_through_the_layer_also_behind_a_pointer() -> None:
    async def main() -> None:
        async with served(2) as v:
            name, origin = v.name_for(0), v.name_for(1, start="origin")
            await v.create(origin)
            await v.rename(origin, name)
            fd = await v.open(name)
            await v.top.writev(v.tick(), fd, b"x" * 4096, 1 * MIB)
            await v.top.truncate(v.tick(), fd, 3 * MIB)
            found = [await v.top.seek(v.frame, fd, at, whence) for at, whence in itertools.product(
                (0, MIB), (os.SEEK_DATA, os.SEEK_HOLE))]  # fmt: skip
            assert found == [MIB, 0, MIB, MIB + 4096]
            with refused(errno.ENXIO):
                await v.top.seek(v.frame, fd, 2 * MIB, os.SEEK_DATA)
            await v.close(fd)

    trio.run(main)


# -- debug-xattrs.t ------------------------------------------------------------------------------------------


def test_debug_xattrs_a_virtual_xattr_tells_the_brick_that_a_name_would_hash_to() -> None:
    async def main() -> None:
        async with served(3) as v:
            inode = await v.mkdir("dir")
            for n in range(10):
                key = b"dht.file.hashed-subvol.f%d" % n
                told = (await v.top.getxattr(v.frame, inode, key))[key]
                await v.create(f"dir/f{n}")
                assert v.where(f"dir/f{n}") == {v.names.index(told.decode()): "file"}

    trio.run(main)


# -- bug-1265677-use-readdirp.t ------------------------------------------------------------------------------


@pytest.mark.parametrize("use_readdirp", ["on", "off"])
def test_use_readdirp_decides_which_listing_request_is_sent_and_not_what_is_listed(use_readdirp: str) -> None:
    async def main() -> None:
        async with served(2, use_readdirp=use_readdirp, above="type debug/trace") as v:
            name, origin = v.name_for(0), v.name_for(1, start="origin")
            await v.create(origin)
            await v.rename(origin, name)
            asked = []
            edge = v.dht.children[0]
            readdir = edge.readdir

            async def spy(frame, fd, count, offset, plus, xdata=None):  # type: ignore[no-untyped-def]
                asked.append(plus)
                return await readdir(frame, fd, count, offset, plus, xdata)

            edge.readdir = spy  # type: ignore[method-assign]
            assert await v.names_in("/") == [name]
            assert set(asked) == {use_readdirp == "on"}

    trio.run(main)
