"""rename: over nothing, over something, exchanging; files, directories, open files, hard links."""

from __future__ import annotations

import errno
import os

import pytest

from fusemux.bricks.storage.posix.handle import link_text, path_of, path_record
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import ROOT_GFID, gfid_text
from tests.bricks.serving import Place, Volume, failing, run

NOREPLACE, EXCHANGE = 1, 2


def records(place: Place, path: str) -> set[bytes]:
    """The values of a file's gfid2path records."""
    names = os.listxattr(place.path / path)
    return {os.getxattr(place.path / path, name) for name in names if "gfid2path." in name}


def link_of(place: Place, gfid: bytes) -> bytes:
    return os.readlink(os.fsencode(place.path) + b"/.glusterfs/" + path_of(gfid).encode())


def text(inode: Inode, name: bytes) -> bytes:
    return gfid_text(inode.gfid).encode() + b"/" + name


def test_rename_moves_a_file_with_its_record(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        inode = await volume.file(b"f", data=b"x")
        iatt = await volume.rename(b"f", b"g", inode, newparent=directory)
        assert (iatt.gfid, iatt.ctime_ns, iatt.nlink) == (inode.gfid, volume.now, 1)
        assert records(brick, "d/g") == {text(directory, b"g")}
        assert await volume.read(inode) == b"x"
        for parent in (volume.root, directory):
            times = await volume.top.stat(volume.frame(stamped=False), parent, None)
            assert times.mtime_ns == times.ctime_ns == iatt.ctime_ns

    run(brick, scenario)


@pytest.mark.parametrize("opened", [False, True])
def test_rename_over_a_file_removes_its_last_link(brick: Place, opened: bool) -> None:
    async def scenario(volume: Volume) -> None:
        new, old = await volume.file(b"new", data=b"new"), await volume.file(b"old", data=b"old")
        fd = await volume.open(old) if opened else None
        await volume.rename(b"new", b"old", new)
        assert await volume.names() == [b"old"]
        assert await volume.read(new) == b"new"
        assert not os.path.lexists(brick.path / ".glusterfs" / path_of(old.gfid))
        if fd is not None:
            assert bytes(await volume.top.readv(volume.frame(), fd, 10, 0, None)) == b"old"
            assert (await volume.top.stat(volume.frame(), fd, None)).nlink == 0
            await volume.top.release(volume.frame(), fd, None)
        assert os.listdir(brick.path / ".glusterfs" / "unlink") == []

    run(brick, scenario)


def test_rename_over_one_of_two_links_leaves_the_other(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        new, old = await volume.file(b"new"), await volume.file(b"old", data=b"old")
        await volume.top.link(volume.frame(), old, volume.root, b"other", None)
        await volume.rename(b"new", b"old", new)
        iatt = await volume.lookup(b"other")
        assert (iatt.gfid, iatt.nlink) == (old.gfid, 1)
        assert records(brick, "other") == {text(volume.root, b"other")}
        assert records(brick, "old") == {text(volume.root, b"old")}
        assert await volume.read(old) == b"old"

    run(brick, scenario)


def test_rename_between_links_of_one_file_does_nothing(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"a")
        await volume.top.link(volume.frame(), inode, volume.root, b"b", None)
        assert (await volume.rename(b"a", b"b", inode)).nlink == 2
        assert await volume.names() == [b"a", b"b"]
        with failing(errno.EEXIST):
            await volume.rename(b"a", b"b", inode, flags=NOREPLACE)

    run(brick, scenario)


def test_rename_of_a_directory_rewrites_its_handle_only(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        a, b = await volume.mkdir(b"a"), await volume.mkdir(b"b")
        inner = await volume.mkdir(b"inner", a)
        inode = await volume.file(b"f", inner, b"x")
        await volume.rename(b"a", b"moved", a, newparent=b)
        assert link_of(brick, a.gfid) == link_text(b.gfid, b"moved")
        assert link_of(brick, inner.gfid) == link_text(a.gfid, b"inner")
        for gfid in (a.gfid, b.gfid, inner.gfid):
            volume.store.drop_dir(gfid)
        assert (await volume.lookup(b"f", inner)).gfid == inode.gfid
        assert (await volume.lookup(b"..", a)).gfid == b.gfid

    run(brick, scenario)


def test_rename_over_an_empty_directory_replaces_it(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        new, old, full = await volume.mkdir(b"new"), await volume.mkdir(b"old"), await volume.mkdir(b"full")
        await volume.file(b"f", full)
        inode = await volume.file(b"file")
        with failing(errno.ENOTEMPTY):
            await volume.rename(b"new", b"full", new)
        with failing(errno.ENOTDIR):
            await volume.rename(b"new", b"file", new)
        with failing(errno.EISDIR):
            await volume.rename(b"file", b"new", inode)
        with failing(errno.EINVAL):
            await volume.rename(b"new", b"x", new, newparent=new)
        await volume.rename(b"new", b"old", new)
        assert await volume.names() == [b"file", b"full", b"old"]
        assert not os.path.lexists(brick.path / ".glusterfs" / path_of(old.gfid))
        with failing(errno.ESTALE):
            await volume.lookup(b"", old)

    run(brick, scenario)


def test_a_failed_rename_over_an_open_file_leaves_it_as_it_was(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        inode, fd, _ = await volume.create(b"f")
        with failing(errno.ENOTDIR):
            await volume.rename(b"d", b"f", directory)
        assert (await volume.lookup(b"f")).nlink == 1
        assert os.path.samefile(brick.path / "f", brick.path / ".glusterfs" / path_of(inode.gfid))
        await volume.top.release(volume.frame(), fd, None)
        assert await volume.read(inode) == b""

    run(brick, scenario)


def test_noreplace_refuses_what_is_there(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        a, b = await volume.file(b"a", data=b"a"), await volume.file(b"b", data=b"b")
        with failing(errno.EEXIST):
            await volume.rename(b"a", b"b", a, flags=NOREPLACE)
        assert (await volume.read(a), await volume.read(b)) == (b"a", b"b")
        await volume.rename(b"a", b"c", a, flags=NOREPLACE)
        assert await volume.names() == [b"b", b"c"]
        assert records(brick, "c") == {text(volume.root, b"c")}

    run(brick, scenario)


def test_exchange_swaps_two_names_of_any_type(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        outer = await volume.mkdir(b"outer")
        directory, inode = await volume.mkdir(b"d", outer), await volume.file(b"f", data=b"x")
        await volume.file(b"inner", directory)
        await volume.rename(b"f", b"d", inode, newparent=outer, flags=EXCHANGE)
        assert (await volume.lookup(b"d", outer)).gfid == inode.gfid
        assert (await volume.lookup(b"f")).gfid == directory.gfid
        assert records(brick, "outer/d") == {text(outer, b"d")}
        assert link_of(brick, directory.gfid) == link_text(ROOT_GFID, b"f")
        volume.store.drop_dir(directory.gfid)
        assert await volume.names(directory) == [b"inner"]
        assert (await volume.lookup(b"f")).ctime_ns == (await volume.lookup(b"d", outer)).ctime_ns
        with failing(errno.ENOENT):
            await volume.rename(b"f", b"absent", directory, flags=EXCHANGE)

    run(brick, scenario)


def test_the_record_of_a_long_name_is_named_by_its_hash(plain: Place) -> None:
    name = b"\xff" * 255

    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"short")
        await volume.rename(b"short", name, inode)
        key, value = path_record(b"trusted.gfid2path.", gfid_text(ROOT_GFID).encode() + b"/", name)
        assert plain.stored(name, key) == value

    run(plain, scenario)
