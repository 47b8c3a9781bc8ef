"""Attributes: mode, owner, xattrs, counters, and what new entries inherit."""

from __future__ import annotations

import errno
import os
import stat
import struct

import pytest

from fusemux.bricks.storage.posix.xattrop import (
    ADD_ARRAY,
    ADD_ARRAY64,
    ADD_ARRAY64_WITH_DEFAULT,
    ADD_ARRAY_WITH_DEFAULT,
    GET_AND_SET,
)
from fusemux.graph.framework.types import SetAttr
from tests.bricks.serving import Place, Volume, failing, run

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="owners can be kept without root only in mapped bricks")


def acl(
    owner: int, *, named: tuple[int, int] | None = None, group: int = 5, mask: int | None = None, other: int = 0
) -> bytes:
    """An ACL xattr: version 2, then (tag, permissions, id)."""
    none = 0xFFFFFFFF
    entries = [(1, owner, none)]
    if named is not None:
        entries.append((2, named[1], named[0]))
    entries.append((4, group, none))
    if mask is not None:
        entries.append((16, mask, none))
    entries.append((32, other, none))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_mode_and_owner_are_changed_and_kept(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        owner = (1000, 100) if os.geteuid() == 0 or brick.mapped else (-1, -1)
        made = [await volume.file(b"f"), await volume.mkdir(b"d"), await volume.mknod(b"p", stat.S_IFIFO | 0o600)]
        for inode, name in zip(made, (b"f", b"d", b"p"), strict=True):
            for mode in (0o0, 0o7777, 0o1750, 0o444, 0o644):
                iatt = await volume.top.setattr(volume.frame(), inode, SetAttr(mode=mode), None)
                assert iatt.mode == inode.type | mode
                assert iatt.ctime_ns == volume.now
                assert await volume.lookup(name) == iatt
            if owner[0] >= 0:
                iatt = await volume.top.setattr(volume.frame(), inode, SetAttr(uid=owner[0], gid=owner[1]), None)
                assert (iatt.uid, iatt.gid, iatt.mode) == (*owner, inode.type | 0o644)
                iatt = await volume.top.setattr(volume.frame(), inode, SetAttr(gid=7), None)
                assert (iatt.uid, iatt.gid) == (1000, 7)
                assert await volume.lookup(name) == iatt
        await volume.file(b"inner", made[1])
        assert await volume.read(made[0]) == b""

    run(brick, scenario)


def test_a_symbolic_link_has_an_owner_but_no_mode(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        link = await volume.symlink(b"l", b"nowhere")
        with failing(errno.EOPNOTSUPP):
            await volume.top.setattr(volume.frame(), link, SetAttr(mode=0o600), None)
        iatt = await volume.top.setattr(
            volume.frame(), link, SetAttr(uid=os.geteuid(), gid=os.getegid(), mtime_ns=5), None
        )
        assert (iatt.mode, iatt.mtime_ns) == (stat.S_IFLNK | 0o777, 5)
        assert await volume.top.readlink(volume.frame(), link, None) == b"nowhere"

    run(brick, scenario)


@ROOT_ONLY
def test_changing_the_owner_takes_set_id_bits_away(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode, directory = await volume.file(b"f", mode=0o6755), await volume.mkdir(b"d", mode=0o755)
        await volume.top.setattr(volume.frame(), directory, SetAttr(mode=0o2755), None)
        iatt = await volume.top.setattr(volume.frame(), inode, SetAttr(uid=1000), None)
        assert iatt.mode & 0o7777 == 0o755
        iatt = await volume.top.setattr(volume.frame(), inode, SetAttr(uid=1001, mode=0o4755), None)
        assert iatt.mode & 0o7777 == 0o4755, "a mode given with it stands"
        assert (await volume.top.setattr(volume.frame(), directory, SetAttr(uid=1000), None)).mode & 0o7777 == 0o2755

    run(brick, scenario)


@ROOT_ONLY
def test_new_entries_belong_to_the_caller_and_to_the_group_of_a_set_group_id_directory(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        plain, shared = await volume.mkdir(b"plain", mode=0o777), await volume.mkdir(b"shared", mode=0o777)
        await volume.top.setattr(volume.frame(), shared, SetAttr(gid=50, mode=0o2777), None)
        for parent, gid, bit in ((plain, 1001, 0), (shared, 50, 0o2000)):
            frame = volume.frame(1000, 1001, 0o027)
            _, fd, iatt = await volume.create(b"f", parent, 0o666, frame)
            assert (iatt.uid, iatt.gid, iatt.mode & 0o7777) == (1000, gid, 0o640)
            await volume.top.release(volume.frame(), fd, None)
            await volume.mkdir(b"d", parent, 0o777, frame)
            iatt = await volume.lookup(b"d", parent)
            assert (iatt.uid, iatt.gid, iatt.mode & 0o7777) == (1000, gid, 0o750 | bit)
            await volume.top.mknod(frame, parent, b"p", stat.S_IFIFO | 0o666, 0, volume.process.new_gfid(), None)
            await volume.top.symlink(frame, parent, b"l", b"x", volume.process.new_gfid(), None)
            for name in (b"p", b"l"):
                iatt = await volume.lookup(name, parent)
                assert (iatt.uid, iatt.gid) == (1000, gid)
        await volume.top.setattr(volume.frame(), shared, SetAttr(mode=0o777), None)
        _, fd, iatt = await volume.create(b"g", shared, 0o666, volume.frame(1000, 1001))
        assert iatt.gid == 1001, "the directory's mode has changed since"
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


@ROOT_ONLY
def test_set_id_bits_survive_a_create_for_another_owner(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        _, fd, iatt = await volume.create(b"f", mode=0o6755, frame=volume.frame(1000, 1000))
        assert iatt.mode & 0o7777 == 0o6755
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_the_umask_applies_unless_the_directory_has_a_default_acl(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")

        async def modes() -> tuple[int, int]:
            _, fd, iatt = await volume.create(b"f", directory, 0o666, volume.frame(umask=0o077))
            await volume.top.release(volume.frame(), fd, None)
            inner = await volume.mkdir(b"e", directory, 0o777, volume.frame(umask=0o077))
            await volume.unlink(b"f", volume.graph.itable.link(iatt.gfid, stat.S_IFREG), directory)
            mode = (await volume.lookup(b"e", directory)).mode
            await volume.top.rmdir(volume.frame(), directory, b"e", inner, None)
            return iatt.mode & 0o7777, mode & 0o7777

        assert await modes() == (0o600, 0o700)
        default = {b"system.posix_acl_default": acl(7, named=(1234, 7), group=5, mask=7, other=4)}
        await volume.top.setxattr(volume.frame(), directory, default, 0, None)
        assert await modes() == (0o664, 0o774)
        inner = await volume.mkdir(b"g", directory)
        inherited = await volume.top.getxattr(volume.frame(), inner, b"system.posix_acl_default", None)
        assert inherited == default
        await volume.top.removexattr(volume.frame(), directory, b"system.posix_acl_default", None)
        assert await modes() == (0o600, 0o700)

    run(brick, scenario)


@pytest.mark.parametrize("own", [0, 0o022, 0o777])
def test_the_umask_of_the_serving_process_does_not_matter(brick: Place, own: int) -> None:
    async def scenario(volume: Volume) -> None:
        shared = await volume.mkdir(b"shared", mode=0o777)
        await volume.top.setattr(volume.frame(), shared, SetAttr(mode=0o2777), None)
        for parent, bit in ((volume.root, 0), (shared, 0o2000)):
            _, fd, iatt = await volume.create(b"f", parent, 0o666)
            await volume.top.release(volume.frame(), fd, None)
            assert iatt == await volume.lookup(b"f", parent)
            assert iatt.mode & 0o7777 == 0o666
            await volume.mkdir(b"d", parent, 0o1777)
            assert (await volume.lookup(b"d", parent)).mode & 0o7777 == 0o1777 | bit
            await volume.mknod(b"p", stat.S_IFIFO | 0o622, 0, parent)
            assert (await volume.lookup(b"p", parent)).mode & 0o7777 == 0o622
            await volume.mknod(b"r", stat.S_IFREG | 0o626, 0, parent)
            assert (await volume.lookup(b"r", parent)).mode & 0o7777 == 0o626

    before = os.umask(own)
    try:
        run(brick, scenario)
        assert os.umask(own) == own
    finally:
        os.umask(before)


def test_an_access_acl_and_the_mode_follow_each_other(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode, name = await volume.file(b"f"), b"system.posix_acl_access"
        await volume.top.setxattr(volume.frame(), inode, {name: acl(4, named=(1234, 6), group=4, mask=6)}, 0, None)
        assert (await volume.lookup(b"f")).mode & 0o777 == 0o460
        await volume.top.setattr(volume.frame(), inode, SetAttr(mode=0o040), None)
        value = (await volume.top.getxattr(volume.frame(), inode, name, None))[name]
        assert value == acl(0, named=(1234, 6), group=4, mask=4)
        assert (await volume.lookup(b"f", xdata={name: None})).xdata == {name: value}
        assert await volume.read(inode) == b""

    run(brick, scenario)


def test_xattrs_are_set_listed_and_removed(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        top = volume.top
        for inode in (await volume.file(b"f"), await volume.mkdir(b"d")):
            values = {b"user.a": b"1", b"trusted.b": b"\0\xff", b"user.empty": b""}
            await top.setxattr(volume.frame(), inode, values, 0, None)
            assert (await top.stat(volume.frame(stamped=False), inode, None)).ctime_ns == volume.now
            assert await top.getxattr(volume.frame(), inode, b"trusted.b", None) == {b"trusted.b": b"\0\xff"}
            assert dict(await top.getxattr(volume.frame(), inode, None, None)) == values
            with failing(errno.EEXIST):
                await top.setxattr(volume.frame(), inode, {b"user.a": b"2"}, os.XATTR_CREATE, None)
            with failing(errno.ENODATA):
                await top.setxattr(volume.frame(), inode, {b"user.c": b"2"}, os.XATTR_REPLACE, None)
            await top.removexattr(volume.frame(), inode, b"user.a", None)
            for call in (top.removexattr, top.getxattr):
                with failing(errno.ENODATA):
                    await call(volume.frame(), inode, b"user.a", None)

    run(brick, scenario)


def test_special_files_carry_trusted_xattrs(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        for inode in (await volume.symlink(b"l", b"x"), await volume.mknod(b"p", stat.S_IFIFO | 0o600)):
            await volume.top.setxattr(volume.frame(), inode, {b"trusted.afr.dirty": bytes(12)}, 0, None)
            found = await volume.top.getxattr(volume.frame(), inode, None, None)
            assert dict(found) == {b"trusted.afr.dirty": bytes(12)}

    run(brick, scenario)


@pytest.mark.parametrize(
    "name",
    [
        b"trusted.gfid",
        b"trusted.glusterfs.volume-id",
        b"trusted.glusterfs.mdata",
        b"trusted.gfid2path.0123456789abcdef",
    ],
)
def test_what_the_brick_keeps_its_books_in_cannot_be_changed(brick: Place, name: bytes) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f")
        with failing(errno.EPERM):
            await volume.top.setxattr(volume.frame(), inode, {name: b"x"}, 0, None)
        with failing(errno.EPERM):
            await volume.top.removexattr(volume.frame(), inode, name, None)
        assert (await volume.lookup(b"f", xdata={b"trusted.gfid": None})).xdata == {b"trusted.gfid": inode.gfid}

    run(brick, scenario)


def test_bookkeeping_of_the_translators_above_does_not_touch_the_times(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f")
        before = await volume.lookup(b"f")
        await volume.top.setxattr(volume.frame(), inode, {b"trusted.glusterfs.dht.linkto": b"x\0"}, 0, None)
        await volume.top.xattrop(
            volume.frame(), inode, ADD_ARRAY, {b"trusted.afr.dirty": struct.pack(">3i", 1, 0, 0)}, None
        )
        assert await volume.lookup(b"f") == before

    run(brick, scenario)


def test_xattrop_adds_answers_and_stores(brick: Place) -> None:
    dirty, pending = b"trusted.afr.dirty", b"trusted.afr.v-client-1"

    async def scenario(volume: Volume) -> None:
        inode, fd, _ = await volume.create(b"f")
        one = struct.pack(">3i", 1, 0, 2)
        for times, target in ((1, inode), (2, fd)):
            answer = await volume.top.xattrop(volume.frame(), target, ADD_ARRAY, {dirty: one, pending: bytes(12)}, None)
            assert answer == {dirty: struct.pack(">3i", times, 0, 2 * times), pending: bytes(12)}
        assert brick.stored("f", dirty) == struct.pack(">3i", 2, 0, 4)
        assert brick.stored("f", pending) is None, "adding nothing stores nothing"
        minus = struct.pack(">3i", -3, 0, 0)
        answer = await volume.top.xattrop(volume.frame(), fd, ADD_ARRAY, {dirty: minus}, None)
        assert answer == {dirty: struct.pack(">3i", -1, 0, 4)}
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_xattrop_knows_64_bits_defaults_and_get_and_set(brick: Place) -> None:
    key = b"trusted.ec.version"

    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f")

        async def op(number: int, value: bytes) -> bytes:
            return (await volume.top.xattrop(volume.frame(), inode, number, {key: value}, None))[key]  # type: ignore[no-any-return]

        assert await op(ADD_ARRAY64, struct.pack(">2Q", 1 << 40, 1)) == struct.pack(">2Q", 1 << 40, 1)
        assert await op(ADD_ARRAY64, struct.pack(">2q", 1, -2)) == struct.pack(">2q", (1 << 40) + 1, -1)
        assert await op(GET_AND_SET, b"abc") == struct.pack(">2q", (1 << 40) + 1, -1)
        assert await op(GET_AND_SET, b"") == b"abc"
        assert await op(ADD_ARRAY_WITH_DEFAULT, struct.pack(">4i", 1, 1, 5, 7)) == struct.pack(">2i", 6, 8)
        assert await op(ADD_ARRAY_WITH_DEFAULT, struct.pack(">4i", 1, 1, 5, 7)) == struct.pack(">2i", 7, 9)
        assert (await op(ADD_ARRAY64_WITH_DEFAULT, struct.pack(">6q", 0, 0, 0, 0, 0, 9)))[-8:] == struct.pack(">q", 9)
        for number, value in ((2, bytes(4)), (3, bytes(4)), (ADD_ARRAY, bytes(5)), (99, bytes(4))):
            with failing(errno.EINVAL):
                await op(number, value)

    run(brick, scenario)


def test_where_an_object_lies_can_be_asked(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        outer = await volume.mkdir(b"outer")
        inner = await volume.mkdir(b"inner", outer)
        inode, fd, _ = await volume.create(b"f", inner)

        async def ask(target: object, name: bytes) -> bytes:
            return (await volume.top.getxattr(volume.frame(), target, name, None))[name]  # type: ignore[no-any-return]

        assert await ask(inner, b"glusterfs.ancestry.path") == b"/outer/inner"
        assert await ask(volume.root, b"glusterfs.ancestry.path") == b"/"
        assert await ask(inode, b"glusterfs.gfidtopath") == b"/outer/inner/f"
        assert (await ask(fd, b"trusted.glusterfs.pathinfo")).endswith(f"{brick.path}/outer/inner/f>".encode())
        assert await ask(inode, b"glusterfs.open-fd-count") == b"1"
        answer = await volume.lookup(b"f", inner, {b"glusterfs.open-fd-count": None})
        assert answer.xdata == {b"glusterfs.open-fd-count": b"1"}
        await volume.top.release(volume.frame(), fd, None)
        assert await ask(inode, b"glusterfs.open-fd-count") == b"0"

    run(brick, scenario)
