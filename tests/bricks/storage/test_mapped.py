"""Bricks of ordinary users: everything answers as on a root's brick, and what lies on the disk says it all."""

from __future__ import annotations

import errno
import os
import stat
import struct
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from fusemux.bricks.storage.posix.mapped import PREFIX
from fusemux.graph.framework.types import SetAttr
from tests.bricks.serving import Place, Volume, failing, run

NOBODY = 65534
KEPT = struct.Struct(">IIIQ")


def kept(path: Path) -> tuple[int, ...] | None:
    """mode, uid, gid, rdev of user.fusemux.stat."""
    try:
        return KEPT.unpack(os.getxattr(path, PREFIX + b"stat"))
    except OSError as error:
        assert error.errno == errno.ENODATA
        return None


def as_nobody(folder: Path, work: Callable[[], None]) -> None:
    """Run `work` in a process of an unprivileged user."""
    if os.geteuid() != 0:
        work()
        return
    os.chown(folder, NOBODY, NOBODY)
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, "see the traceback above"


@pytest.fixture
def mapped(ram: Path) -> Place:
    return Place(ram / "brick", {"io-mode": "inline"}, mapped=True)


def test_an_ordinary_user_gets_a_brick_that_does_everything(ram: Path) -> None:
    def work() -> None:
        run(Place(ram / "brick").prepare(), everything)

    as_nobody(ram, work)


async def everything(volume: Volume) -> None:
    top = volume.top
    me = volume.frame().uid
    directory = await volume.mkdir(b"d", frame=volume.frame(1000, 1001))
    assert (await volume.lookup(b"d")).uid == 1000
    await top.setattr(volume.frame(), directory, SetAttr(mode=0), None)
    inode, fd, iatt = await volume.create(b"f", directory, 0o400, volume.frame(1000, 1001))
    assert (iatt.uid, iatt.gid, iatt.mode) == (1000, 1001, stat.S_IFREG | 0o400)
    await top.writev(volume.frame(), fd, b"x", 0, None)
    await top.release(volume.frame(), fd, None)
    assert await volume.read(inode) == b"x"
    device = await volume.mknod(b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3), directory)
    iatt = await volume.lookup(b"null", directory)
    assert (iatt.mode, iatt.rdev, iatt.nlink) == (stat.S_IFCHR | 0o666, os.makedev(1, 3), 1)
    link = await volume.symlink(b"l", b"../\xff", directory)
    assert await top.readlink(volume.frame(), link, None) == b"../\xff"
    await top.setattr(volume.frame(), link, SetAttr(uid=7, gid=8, mtime_ns=9), None)
    iatt = await volume.lookup(b"l", directory)
    assert (iatt.mode, iatt.uid, iatt.gid, iatt.mtime_ns, iatt.size) == (stat.S_IFLNK | 0o777, 7, 8, 9, 4)
    await top.setxattr(volume.frame(), device, {b"trusted.x": b"1", b"security.y": b"2"}, 0, None)
    found = dict(await top.getxattr(volume.frame(), device, None, None))
    assert found == {b"trusted.x": b"1", b"security.y": b"2"}
    await volume.rename(b"f", b"g", inode, directory, volume.root)
    await volume.unlink(b"g", inode)
    for name, other in ((b"null", device), (b"l", link)):
        await volume.unlink(name, other, directory)
    await top.rmdir(volume.frame(), volume.root, b"d", directory, None)
    assert me == os.geteuid()


def test_what_the_backing_store_can_say_is_not_said_twice(mapped: Place) -> None:
    mapped.prepare()

    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f", mode=0o640)
        await volume.mkdir(b"d")
        assert kept(mapped.path / "f") is None
        assert kept(mapped.path / "d") is None
        await volume.top.setattr(volume.frame(), inode, SetAttr(mode=0o044), None)
        assert kept(mapped.path / "f") is not None
        assert stat.S_IMODE(os.stat(mapped.path / "f").st_mode) == 0o644, "or its owner could not serve it"
        await volume.top.setattr(volume.frame(), inode, SetAttr(mode=0o640), None)
        assert kept(mapped.path / "f") is None

    run(mapped, scenario)


def test_what_it_cannot_say_lies_in_an_attribute(mapped: Place) -> None:
    mapped.prepare()

    async def scenario(volume: Volume) -> None:
        uid, gid = os.geteuid(), os.getegid()
        _, fd, _ = await volume.create(b"f", frame=volume.frame(5, 6))
        await volume.top.release(volume.frame(), fd, None)
        await volume.mknod(b"b", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
        await volume.symlink(b"l", b"text")
        assert kept(mapped.path / "f") == (stat.S_IFREG | 0o644, 5, 6, 0)
        assert kept(mapped.path / "b") == (stat.S_IFBLK | 0o660, uid, gid, os.makedev(259, 70000))
        assert kept(mapped.path / "l") == (stat.S_IFLNK | 0o777, uid, gid, 0)
        assert (mapped.path / "l").read_bytes() == b"text"
        for name in ("f", "b", "l"):
            names = os.listxattr(mapped.path / name)
            assert "user.fusemux.trusted.gfid" in names
            assert not [name for name in names if name.startswith("trusted.")]

    run(mapped, scenario)


def test_the_bricks_own_attributes_are_out_of_reach(mapped: Place) -> None:
    mapped.prepare()

    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f")
        for name in (PREFIX + b"stat", PREFIX + b"trusted.gfid"):
            with failing(errno.EPERM):
                await volume.top.setxattr(volume.frame(), inode, {name: b"x"}, 0, None)
        assert dict(await volume.top.getxattr(volume.frame(), inode, None, None)) == {}

    run(mapped, scenario)


def test_a_link_text_is_limited_as_on_any_file_system(mapped: Place) -> None:
    mapped.prepare()

    async def scenario(volume: Volume) -> None:
        with failing(errno.ENAMETOOLONG):
            await volume.symlink(b"l", b"x" * 4096)
        with failing(errno.ENOENT):
            await volume.symlink(b"l", b"")
        inode = await volume.symlink(b"l", b"x" * 4095)
        assert len(await volume.top.readlink(volume.frame(), inode, None)) == 4095
        with failing(errno.EINVAL):
            await volume.top.readlink(volume.frame(), await volume.file(b"f"), None)

    run(mapped, scenario)
