"""Names: made, linked, looked up, removed; and the names that are special."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from fusemux.bricks.storage.posix.handle import path_of, path_record
from fusemux.bricks.storage.posix.lookup import GFID_REQ
from fusemux.bricks.storage.posix.remove import RECURSIVE
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import ROOT_GFID, SetAttr, gfid_text, ino_of
from tests.bricks.serving import Place, Volume, failing, run


def handle(volume: Volume, gfid: bytes) -> str:
    return str(volume.place.path / ".glusterfs" / path_of(gfid))


def test_create_makes_object_gfid_handle_and_records(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode, fd, iatt = await volume.create(b"f", mode=0o640)
        assert (iatt.gfid, iatt.mode, iatt.nlink, iatt.size) == (inode.gfid, stat.S_IFREG | 0o640, 1, 0)
        assert iatt.ino == ino_of(inode.gfid)
        assert iatt.mtime_ns == iatt.ctime_ns == iatt.atime_ns == volume.now
        assert brick.stored("f", b"trusted.gfid") == inode.gfid
        assert os.path.samefile(brick.path / "f", handle(volume, inode.gfid))
        key, value = path_record(b"trusted.gfid2path.", gfid_text(ROOT_GFID).encode() + b"/", b"f")
        assert brick.stored("f", key) == value
        assert await volume.lookup(b"f") == iatt
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_create_refuses_a_name_that_is_taken(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f", data=b"old")
        with failing(errno.EEXIST):
            await volume.create(b"f")
        assert await volume.read(inode) == b"old"
        await volume.mkdir(b"d")
        with failing(errno.EEXIST):
            await volume.mkdir(b"d")

    run(brick, scenario)


def test_a_create_whose_gfid_is_taken_leaves_nothing_behind(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        first = await volume.file(b"first", data=b"1")
        directory = await volume.mkdir(b"d")
        fd = volume.fd(first)
        with failing(errno.EEXIST):
            await volume.top.create(volume.frame(), volume.root, b"second", os.O_RDWR, 0o644, first.gfid, fd, None)
        with failing(errno.EEXIST):
            await volume.top.mkdir(volume.frame(), volume.root, b"e", 0o755, directory.gfid, None)
        assert await volume.names() == [b"d", b"first"]
        assert await volume.read(first) == b"1"
        assert (await volume.lookup(b"d")).gfid == directory.gfid

    run(brick, scenario)


def test_every_type_of_object_answers_what_it_was_made_as(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        made = {
            b"fifo": await volume.mknod(b"fifo", stat.S_IFIFO | 0o620),
            b"socket": await volume.mknod(b"socket", stat.S_IFSOCK | 0o600),
            b"char": await volume.mknod(b"char", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
            b"block": await volume.mknod(b"block", stat.S_IFBLK | 0o660, os.makedev(7, 300)),
            b"file": await volume.mknod(b"file", stat.S_IFREG | 0o444),
            b"link": await volume.symlink(b"link", b"some/\xff/text"),
            b"dir": await volume.mkdir(b"dir", mode=0o1777),
        }
        modes = {
            b"fifo": 0o620,
            b"socket": 0o600,
            b"char": 0o666,
            b"block": 0o660,
            b"file": 0o444,
            b"link": 0o777,
            b"dir": 0o1777,
        }
        for name, inode in made.items():
            iatt = await volume.lookup(name)
            assert (iatt.gfid, iatt.mode) == (inode.gfid, inode.type | modes[name]), name
            assert iatt.nlink == (2 if name == b"dir" else 1)
            assert await volume.top.stat(volume.frame(), inode, None) == iatt
            assert await volume.top.stat(volume.frame(), Inode(inode.gfid), None) == iatt, (
                "also when its type is not known"
            )
        assert (await volume.lookup(b"block")).rdev == os.makedev(7, 300)
        assert await volume.top.readlink(volume.frame(), made[b"link"], None) == b"some/\xff/text"
        listed = {entry.name: entry for entry in await volume.list(plus=True)}
        assert {name: entry.type for name, entry in listed.items()} == {
            name: inode.type for name, inode in made.items()
        }
        for name, inode in made.items():
            if name != b"dir":
                await volume.unlink(name, inode)
                assert not os.path.lexists(handle(volume, inode.gfid))
        assert await volume.names() == [b"dir"]

    run(brick, scenario)


@pytest.mark.parametrize(
    "name", [b"x" * 255, b"\xff\xfe not utf-8", b" ", b"\n", b"-", b"a\\b", b"...", b".glusterfs2"]
)
def test_any_name_of_up_to_255_bytes_works(brick: Place, name: bytes) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(name)
        inode = await volume.file(name, directory, b"x")
        assert (await volume.lookup(name, directory)).gfid == inode.gfid
        assert await volume.names() == await volume.names(directory) == [name]
        volume.store.drop_dir(directory.gfid)
        assert await volume.names(directory) == [name], "found again through its handle"
        await volume.rename(name, b"y", directory)
        await volume.rename(b"y", name, directory)
        await volume.unlink(name, inode, directory)
        await volume.top.rmdir(volume.frame(), volume.root, name, directory, None)

    run(brick, scenario)


def test_names_of_256_bytes_are_too_long(brick: Place) -> None:
    name = b"x" * 256

    async def scenario(volume: Volume) -> None:
        top = volume.store
        inode = await volume.file(b"f")
        for call in (
            lambda: top.lookup(volume.frame(), volume.root, name),
            lambda: top.mkdir(volume.frame(), volume.root, name, 0o755, volume.process.new_gfid()),
            lambda: top.link(volume.frame(), inode, volume.root, name),
            lambda: top.rename(volume.frame(), volume.root, b"f", volume.root, name, inode, None, 0),
        ):
            with pytest.raises(OSError, match="too long"):
                call()

    run(brick, scenario)


def test_dot_glusterfs_is_hidden_and_cannot_be_touched(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        top, root, name = volume.top, volume.root, b".glusterfs"
        inode, directory = await volume.file(b"f"), await volume.mkdir(b"d")
        assert await volume.names() == [b"d", b"f"]
        with failing(errno.ENOENT):
            await volume.lookup(name)
        with failing(errno.EPERM):
            await top.rmdir(volume.frame(), root, name, directory, None)
        with failing(errno.EPERM):
            await top.unlink(volume.frame(), root, name, inode, None)
        with failing(errno.EPERM):
            await volume.rename(name, b"x", directory)
        with failing(errno.EPERM):
            await volume.rename(b"d", name, directory)
        with failing(errno.EPERM):
            await volume.mkdir(name)
        with failing(errno.EPERM):
            await volume.create(name)
        with failing(errno.EPERM):
            await volume.symlink(name, b"x")
        with failing(errno.EPERM):
            await top.link(volume.frame(), inode, root, name, None)
        inner = await volume.file(name, directory)
        assert await volume.names(directory) == [name], "below the root it is a name like any other"
        await volume.unlink(name, inner, directory)

    run(brick, scenario)


def test_dot_and_dot_dot_lead_to_the_directory_and_its_parent_but_not_out_of_the_brick(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        outer = await volume.mkdir(b"outer")
        inner = await volume.mkdir(b"inner", outer)
        assert (await volume.lookup(b".", inner)).gfid == inner.gfid
        assert (await volume.lookup(b"..", inner)).gfid == outer.gfid
        assert (await volume.lookup(b"..", outer)).gfid == ROOT_GFID
        assert (await volume.lookup(b"..")).gfid == ROOT_GFID
        assert (await volume.lookup(b"")).gfid == ROOT_GFID

    run(brick, scenario)


def test_hard_links_share_one_inode_and_its_records(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"one", data=b"x")
        directory = await volume.mkdir(b"d")
        iatt = await volume.top.link(volume.frame(), inode, directory, b"two", None)
        assert (iatt.gfid, iatt.nlink, iatt.ctime_ns) == (inode.gfid, 2, volume.now)
        assert (await volume.lookup(b"one")).nlink == 2
        paths = await volume.top.getxattr(volume.frame(), inode, b"glusterfs.gfidtopath", None)
        assert sorted(paths[b"glusterfs.gfidtopath"].split(b":")) == [b"/d/two", b"/one"]
        await volume.unlink(b"one", inode)
        assert (await volume.lookup(b"two", directory)).nlink == 1
        paths = await volume.top.getxattr(volume.frame(), inode, b"glusterfs.gfidtopath", None)
        assert paths == {b"glusterfs.gfidtopath": b"/d/two"}
        with failing(errno.EEXIST):
            await volume.top.link(volume.frame(), inode, directory, b"two", None)
        assert (await volume.lookup(b"two", directory)).nlink == 1

    run(brick, scenario)


def test_directories_have_no_second_name(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        for inode in (directory, Inode(directory.gfid)):
            with failing(errno.EPERM):
                await volume.top.link(volume.frame(), inode, volume.root, b"e", None)
        with failing(errno.EPERM):
            await volume.top.mknod(volume.frame(), volume.root, b"e", stat.S_IFREG | 0o644, 0, directory.gfid, None)
        assert await volume.names() == [b"d"]

    run(brick, scenario)


def test_a_file_unlinked_while_open_lives_until_it_is_closed(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode, fd, _ = await volume.create(b"f")
        await volume.top.writev(volume.frame(), fd, b"still here", 0, None)
        await volume.unlink(b"f", inode)
        kept = brick.path / ".glusterfs" / "unlink" / gfid_text(inode.gfid)
        assert kept.exists()
        assert not os.path.lexists(handle(volume, inode.gfid))
        for target in (fd, inode):
            iatt = await volume.top.stat(volume.frame(), target, None)
            assert (iatt.nlink, iatt.size) == (0, 10)
        with failing(errno.ENOENT):
            await volume.top.link(volume.frame(), inode, volume.root, b"again", None)
        again = await volume.open(inode)
        await volume.top.release(volume.frame(), fd, None)
        assert bytes(await volume.top.readv(volume.frame(), again, 100, 0, None)) == b"still here"
        await volume.top.setattr(volume.frame(), again, SetAttr(mode=0o600), None)
        await volume.top.release(volume.frame(), again, None)
        assert not kept.exists()
        with failing(errno.ESTALE):
            await volume.open(inode)

    run(brick, scenario)


def test_an_unlinked_name_can_be_made_again_while_the_old_file_is_open(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        old, fd, _ = await volume.create(b"f")
        await volume.unlink(b"f", old)
        new = await volume.file(b"f", data=b"new")
        assert (await volume.lookup(b"f")).gfid == new.gfid
        assert await volume.read(new) == b"new"
        assert bytes(await volume.top.readv(volume.frame(), fd, 10, 0, None)) == b""
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_unlink_refuses_directories_and_rmdir_files(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode, directory = await volume.file(b"f"), await volume.mkdir(b"d")
        with failing(errno.EISDIR):
            await volume.unlink(b"d", directory)
        with failing(errno.ENOTDIR):
            await volume.top.rmdir(volume.frame(), volume.root, b"f", inode, None)
        with failing(errno.ENOENT):
            await volume.unlink(b"absent", inode)
        await volume.file(b"inner", directory)
        with failing(errno.ENOTEMPTY):
            await volume.top.rmdir(volume.frame(), volume.root, b"d", directory, None)
        assert await volume.names(directory) == [b"inner"]

    run(brick, scenario)


def test_what_took_a_name_meanwhile_is_not_removed_in_its_place(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        old = await volume.file(b"f")
        await volume.unlink(b"f", old)
        new = await volume.file(b"f", data=b"precious")
        with failing(errno.ESTALE):
            await volume.unlink(b"f", old)
        with failing(errno.ESTALE):
            await volume.rename(b"f", b"g", old)
        assert await volume.read(new) == b"precious"

    run(brick, scenario)


def test_a_removed_directory_answers_those_who_sit_in_it(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        fd = volume.fd(directory)
        await volume.top.opendir(volume.frame(), directory, fd, None)
        await volume.top.rmdir(volume.frame(), volume.root, b"d", directory, None)
        assert (await volume.top.stat(volume.frame(), fd, None)).nlink == 0
        assert (await volume.top.stat(volume.frame(), directory, None)).nlink == 0
        assert await volume.top.readdir(volume.frame(), fd, 10, 0, True, None) == []
        with failing(errno.ENOENT):
            await volume.create(b"f", directory)
        with failing(errno.ESTALE):
            await volume.lookup(b"", directory)
        await volume.top.release(volume.frame(), fd, None)
        await volume.top.mkdir(volume.frame(), volume.root, b"again", 0o755, directory.gfid, None)
        await volume.file(b"f", directory)
        assert await volume.names(directory) == [b"f"]

    run(brick, scenario)


def test_a_file_without_a_name_can_be_given_one(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        gfid = volume.process.new_gfid()
        inode = volume.graph.itable.link(gfid, stat.S_IFREG)
        fd = volume.fd(inode)
        iatt = await volume.top.tmpfile(volume.frame(), volume.root, os.O_RDWR, 0o600, gfid, fd, None)
        assert (iatt.gfid, iatt.nlink, iatt.mode) == (gfid, 0, stat.S_IFREG | 0o600)
        await volume.top.writev(volume.frame(), fd, b"tmp", 0, None)
        assert await volume.names() == []
        assert (await volume.top.link(volume.frame(), inode, volume.root, b"named", None)).nlink == 1
        await volume.top.release(volume.frame(), fd, None)
        assert await volume.read(inode) == b"tmp"
        assert os.path.samefile(brick.path / "named", handle(volume, gfid))
        assert os.listdir(brick.path / ".glusterfs" / "unlink") == []

    run(brick, scenario)


def test_a_file_without_a_name_goes_with_its_last_descriptor(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        gfid = volume.process.new_gfid()
        fd = volume.fd(volume.graph.itable.link(gfid, stat.S_IFREG))
        await volume.top.tmpfile(volume.frame(), volume.root, os.O_RDWR, 0o600, gfid, fd, None)
        await volume.top.release(volume.frame(), fd, None)
        assert os.listdir(brick.path / ".glusterfs" / "unlink") == []

    run(brick, scenario)


def test_mknod_of_a_gfid_that_exists_gives_the_file_another_name(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f", data=b"x")
        await volume.top.mknod(volume.frame(), volume.root, b"g", stat.S_IFREG | 0o644, 0, inode.gfid, None)
        assert (await volume.lookup(b"g")).gfid == inode.gfid
        assert (await volume.lookup(b"f")).nlink == 2

    run(brick, scenario)


def test_xattrs_that_come_with_a_create_are_set_with_it(brick: Place) -> None:
    xdata = {b"trusted.glusterfs.dht.linkto": b"v-replicate-1\0", b"trusted.glusterfs.dht": None}

    async def scenario(volume: Volume) -> None:
        _, fd, _ = await volume.create(b"f", xdata=xdata)
        await volume.top.release(volume.frame(), fd, None)
        directory = await volume.mkdir(b"d", xdata={b"trusted.glusterfs.dht": bytes(16)})
        assert brick.stored("f", b"trusted.glusterfs.dht.linkto") == b"v-replicate-1\0"
        assert brick.stored("d", b"trusted.glusterfs.dht") == bytes(16)
        asked = {b"trusted.glusterfs.dht": None, b"trusted.glusterfs.dht.linkto": None, b"trusted.absent": None}
        answer = await volume.lookup(b"f", xdata=asked)
        assert dict(answer.xdata or {}) == {b"trusted.glusterfs.dht.linkto": b"v-replicate-1\0"}
        answer = await volume.top.stat(volume.frame(), directory, asked)
        assert dict(answer.xdata or {}) == {b"trusted.glusterfs.dht": bytes(16)}
        listed = await volume.list_with(asked)
        assert dict(listed[b"d"].xdata or {}) == {b"trusted.glusterfs.dht": bytes(16)}

    run(brick, scenario)


def test_heal_can_move_a_whole_tree_out_of_the_way(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        inner = await volume.mkdir(b"inner", directory)
        inode = await volume.file(b"f", inner, b"x")
        linked = await volume.file(b"linked", directory, b"y")
        await volume.top.link(volume.frame(), linked, volume.root, b"kept", None)
        await volume.top.rmdir(volume.frame(), volume.root, b"d", directory, {RECURSIVE: b"1"})
        assert await volume.names() == [b"kept"]
        assert os.listdir(brick.path / ".glusterfs" / "landfill") == [gfid_text(directory.gfid)]
        for _ in range(100):
            if not volume.store.step(volume.store.raze()):
                break
        assert os.listdir(brick.path / ".glusterfs" / "landfill") == []
        for gone in (directory, inner, inode):
            assert not os.path.lexists(handle(volume, gone.gfid))
        assert await volume.read(linked) == b"y"

    run(brick, scenario)


def test_a_brick_may_end_right_after_a_tree_was_moved_out_of_the_way(
    brick: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        await volume.file(b"f", directory)
        await volume.top.rmdir(volume.frame(), volume.root, b"d", directory, {RECURSIVE: b"1"})
        await volume.brick.kill()
        await volume.brick.start()

    run(brick, scenario)
    assert not caplog.records


def test_a_lookup_can_offer_a_gfid_to_a_name_that_has_none(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        (brick.path / "foreign").write_text("data")
        (brick.path / "folder").mkdir()
        with failing(errno.ENODATA):
            await volume.lookup(b"foreign")
        for name in (b"foreign", b"folder"):
            gfid = volume.process.new_gfid()
            assert (await volume.lookup(name, xdata={GFID_REQ: gfid})).gfid == gfid
            assert (await volume.lookup(name)).gfid == gfid
            assert os.path.lexists(handle(volume, gfid))
        inode = volume.graph.itable.link((await volume.lookup(b"foreign")).gfid, stat.S_IFREG)
        assert await volume.read(inode) == b"data"
        (brick.path / "third").write_text("")
        with failing(errno.ESTALE):
            await volume.lookup(b"third", xdata={GFID_REQ: inode.gfid})

    run(brick, scenario)
