"""The bridge's calls on open files, attributes and extended attributes."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from fusemux.fuse.bridge import Bridge
from fusemux.graph.framework.types import Frame, SetAttr
from tests.fusemux.fuse.memory import Memory
from tests.fusemux.fuse.test_names import ROOT, F, Play, fails, make

RW = os.O_RDWR
CREATE = os.O_RDWR | os.O_CREAT


def test_what_is_written_is_read(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        _, iatt, fh = await bridge.create(F, ROOT, b"file", CREATE | os.O_EXCL, 0o640)
        assert iatt.mode == stat.S_IFREG | 0o640
        assert await bridge.write(F, fh, 3, memoryview(b"abcdef")) == 6
        assert bytes(await bridge.read(F, fh, 0, 100)) == b"\0\0\0abcdef"
        assert bytes(await bridge.read(F, fh, 4, 2)) == b"bc"
        await bridge.fsync(F, fh, False)
        await bridge.flush(F, fh)
        await bridge.release(F, fh)
        assert bridge.statistics().open_files == 0

    play(scene)


def test_a_handle_that_is_not_open_is_ebadf(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await fails(errno.EBADF, bridge.read(F, 9, 0, 1))
        await fails(errno.EBADF, bridge.write(F, 9, 0, b"x"))
        await fails(errno.EBADF, bridge.flush(F, 9))
        await fails(errno.EBADF, bridge.fsync(F, 9, True))
        await fails(errno.EBADF, bridge.readdir(F, 9, 0, 1))
        await bridge.release(F, 9)
        await bridge.releasedir(F, 9)

    play(scene)


def test_create_opens_what_somebody_else_has_just_made_unless_it_must_be_new(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file", data=b"contents")
        await fails(errno.EEXIST, bridge.create(F, ROOT, b"file", CREATE | os.O_EXCL, 0o644))
        same, iatt, fh = await bridge.create(F, ROOT, b"file", CREATE, 0o600)
        assert (same, iatt.size) == (nodeid, 8)
        assert bytes(await bridge.read(F, fh, 0, 10)) == b"contents"
        await bridge.release(F, fh)
        _, iatt, fh = await bridge.create(F, ROOT, b"file", CREATE | os.O_TRUNC, 0o600)
        assert iatt.size == 0
        await bridge.release(F, fh)
        bridge.forget(nodeid, 3)
        await bridge.mkdir(F, ROOT, b"dir", 0o755)
        await fails(errno.EISDIR, bridge.create(F, ROOT, b"dir", CREATE, 0o644))
        assert bridge.statistics() == (2, 1, 0, 0, 0, 0, 3)

    play(scene)


def test_a_failed_create_or_open_leaves_nothing_behind(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid, _ = await bridge.mkdir(F, ROOT, b"dir", 0o755)
        await bridge.rmdir(F, ROOT, b"dir")
        await fails(errno.ESTALE, bridge.create(F, nodeid, b"file", CREATE, 0o644))
        await fails(errno.ESTALE, bridge.open(F, nodeid, RW))
        bridge.forget(nodeid, 1)
        assert bridge.statistics() == (1, 0, 0, 0, 0, 0, 1)

    play(scene)


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY, os.O_RDONLY])
def test_open_truncates_when_asked(play: Play, flags: int) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file", data=b"contents")
        fh = await bridge.open(F, nodeid, flags)
        assert (await bridge.getattr(F, nodeid)).size == 8
        await bridge.release(F, fh)
        fh = await bridge.open(F, nodeid, flags | os.O_TRUNC)
        assert (await bridge.getattr(F, nodeid)).size == 0
        await bridge.release(F, fh)

    play(scene)


def test_appending_is_left_to_the_kernel_and_writing_only_becomes_reading_too_with_the_writeback_cache(
    play: Play,
) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file")
        fh = await bridge.open(F, nodeid, os.O_WRONLY | os.O_APPEND | os.O_DIRECT)
        wanted = os.O_RDWR if bridge.writeback_cache else os.O_WRONLY
        assert bridge.files[fh].fd.flags == wanted
        await bridge.release(F, fh)

    play(scene, writeback_cache=True)
    play(scene, writeback_cache=False)


def test_a_file_that_was_unlinked_while_open_stays_whole(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid, _, fh = await bridge.create(F, ROOT, b"file", CREATE, 0o644)
        await bridge.write(F, fh, 0, b"contents")
        await bridge.unlink(F, ROOT, b"file")
        assert (await bridge.getattr(F, nodeid)).nlink == 0
        assert (await bridge.getattr(F, nodeid, fh)).size == 8
        assert (await bridge.setattr(F, nodeid, fh, 4, SetAttr())).size == 4
        assert (await bridge.setattr(F, nodeid, 0, 3, SetAttr())).size == 3
        assert (await bridge.setattr(F, nodeid, 0, None, SetAttr(mode=0o600))).mode == stat.S_IFREG | 0o600
        await bridge.setxattr(F, nodeid, b"user.a", b"1", 0)
        assert await bridge.getxattr(F, nodeid, b"user.a") == b"1"
        assert bytes(await bridge.read(F, fh, 0, 10)) == b"con"
        bridge.forget(nodeid, 1)  # may come before the release
        await bridge.release(F, fh)
        assert bridge.statistics() == (1, 0, 0, 0, 0, 0, 1)

    play(scene)


def test_an_unlinked_file_that_nobody_has_open_is_gone(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file")
        await bridge.unlink(F, ROOT, b"file")
        await fails(errno.ESTALE, bridge.getattr(F, nodeid))
        fh = await bridge.opendir(F, ROOT)
        await fails(errno.ESTALE, bridge.setattr(F, nodeid, 0, 1, SetAttr()))
        await bridge.releasedir(F, fh)
        assert memory.calls["stat"] + memory.calls["truncate"] == 0

    play(scene)


def test_a_file_that_lost_one_of_two_names_is_not_gone(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"one")
        await bridge.link(F, nodeid, ROOT, b"two")
        await bridge.unlink(F, ROOT, b"two")
        assert (await bridge.setattr(F, nodeid, 0, None, SetAttr(mtime_ns=5))).mtime_ns == 5

    play(scene)


def test_a_nameless_file_can_be_linked_into_being(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid, iatt, fh = await bridge.tmpfile(F, ROOT, RW, 0o600)
        assert iatt.nlink == 0
        await bridge.write(F, fh, 0, b"x")
        assert (await bridge.getattr(F, nodeid)).size == 1
        await bridge.release(F, fh)

    play(scene)


def test_setattr_sets_size_and_everything_else_in_one_call(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file", data=b"12345")
        iatt = await bridge.setattr(F, nodeid, 0, 2, SetAttr(0o4711, 5, 6, 111, 222, 333))
        assert (iatt.size, iatt.mode, iatt.uid, iatt.gid) == (2, stat.S_IFREG | 0o4711, 5, 6)
        assert (iatt.atime_ns, iatt.mtime_ns, iatt.ctime_ns) == (111, 222, 333)
        before = memory.calls["setattr"]
        assert await bridge.setattr(F, nodeid, 0, None, SetAttr()) == iatt
        assert memory.calls["setattr"] == before

    play(scene)


def test_a_file_may_be_written_while_somebody_has_it_open_for_writing(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid, _, writer = await bridge.create(F, ROOT, b"file", CREATE, 0o644)
        reader = await bridge.open(F, nodeid, os.O_RDONLY)
        assert bridge.may_be_written(nodeid)
        await bridge.release(F, writer)
        assert not bridge.may_be_written(nodeid)
        await bridge.release(F, reader)

    play(scene)


def test_ranges_space_and_syncing(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid, _, fh = await bridge.create(F, ROOT, b"file", CREATE, 0o644)
        await bridge.fallocate(F, fh, 0, 0, 100)
        assert await bridge.lseek(F, fh, 10, os.SEEK_HOLE) == 100
        await fails(errno.ENXIO, bridge.lseek(F, fh, 100, os.SEEK_DATA))
        await fails(errno.ENXIO, bridge.lseek(F, fh, -1, os.SEEK_HOLE))
        await fails(errno.EINVAL, bridge.lseek(F, fh, 0, os.SEEK_SET))
        assert await bridge.copy_file_range(F, fh, 0, fh, 100, 50, 0) == 50
        await fails(errno.EINVAL, bridge.copy_file_range(F, fh, 0, fh, 100, 50, 1))
        assert (await bridge.getattr(F, nodeid)).size == 150
        assert (await bridge.statfs(F, ROOT)).bavail == 500
        await bridge.syncfs(F, ROOT)
        await bridge.release(F, fh)

    play(scene)


@pytest.mark.parametrize(
    ("uid", "gid", "mask", "granted"),
    [
        (0, 0, os.R_OK | os.W_OK, True),
        (0, 0, os.X_OK, False),
        (1000, 5, os.R_OK | os.W_OK, True),
        (1000, 5, os.X_OK, False),
        (5, 100, os.R_OK, True),
        (5, 100, os.W_OK, False),
        (5, 5, os.R_OK, False),
        (5, 5, os.F_OK, True),
    ],
)
def test_access_goes_by_the_mode(play: Play, uid: int, gid: int, mask: int, granted: bool) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file")
        await bridge.setattr(F, nodeid, 0, None, SetAttr(mode=0o640))
        caller = Frame(uid, gid, 2**22 + 1)  # a process that cannot be
        if granted:
            await bridge.access(caller, nodeid, mask)
        else:
            await fails(errno.EACCES, bridge.access(caller, nodeid, mask))

    play(scene)


def test_xattrs_are_set_listed_read_and_removed(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file")
        await bridge.setxattr(F, nodeid, b"user.a", b"1", os.XATTR_CREATE)
        await fails(errno.EEXIST, bridge.setxattr(F, nodeid, b"user.a", b"2", os.XATTR_CREATE))
        await bridge.setxattr(F, nodeid, b"user.a", b"", os.XATTR_REPLACE)
        await fails(errno.ENODATA, bridge.setxattr(F, nodeid, b"user.b", b"", os.XATTR_REPLACE))
        await fails(errno.EINVAL, bridge.setxattr(F, nodeid, b"user.b", b"", 4))
        assert await bridge.listxattr(F, nodeid) == [b"user.a"]
        assert await bridge.getxattr(F, nodeid, b"user.a") == b""
        await bridge.removexattr(F, nodeid, b"user.a")
        await fails(errno.ENODATA, bridge.removexattr(F, nodeid, b"user.a"))
        await fails(errno.ENODATA, bridge.getxattr(F, nodeid, b"user.a"))

    play(scene)


@pytest.mark.parametrize(
    "name",
    [b"trusted.gfid", b"trusted.gfid2path.0123456789abcdef", b"trusted.glusterfs.mdata", b"trusted.afr.dirty",
     b"trusted.ec.size", b"glusterfs.anything"],
)  # fmt: skip
def test_internal_xattrs_are_there_for_nobody(play: Play, name: bytes) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file")
        memory.things[bridge.known[nodeid].gfid].xattrs[name] = b"kept"
        root = Frame()
        assert await bridge.listxattr(root, nodeid) == []
        await fails(errno.ENODATA, bridge.getxattr(root, nodeid, name))
        await fails(errno.EPERM, bridge.setxattr(root, nodeid, name, b"", 0))
        await fails(errno.EPERM, bridge.removexattr(root, nodeid, name))
        assert memory.things[bridge.known[nodeid].gfid].xattrs[name] == b"kept"

    play(scene)


def test_trusted_xattrs_are_there_for_root_alone(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file")
        root = Frame()
        await bridge.setxattr(root, nodeid, b"trusted.mine", b"1", 0)
        assert await bridge.listxattr(root, nodeid) == [b"trusted.mine"]
        assert await bridge.getxattr(root, nodeid, b"trusted.mine") == b"1"
        assert await bridge.listxattr(F, nodeid) == []
        await fails(errno.ENODATA, bridge.getxattr(F, nodeid, b"trusted.mine"))
        await fails(errno.EPERM, bridge.setxattr(F, nodeid, b"trusted.mine", b"2", 0))
        await fails(errno.EPERM, bridge.removexattr(F, nodeid, b"trusted.mine"))

    play(scene)


@pytest.mark.parametrize("name", [b"nonsense", b"nonsense.a", b"USER.a", b"user", b"system.nonsense"])
def test_other_namespaces_do_not_exist(play: Play, name: bytes) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await fails(errno.EOPNOTSUPP, bridge.getxattr(Frame(), ROOT, name))
        await fails(errno.EOPNOTSUPP, bridge.setxattr(Frame(), ROOT, name, b"", 0))
        await fails(errno.EOPNOTSUPP, bridge.removexattr(Frame(), ROOT, name))

    play(scene)


def test_a_request_without_a_caller_is_its_openers(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        _, _, fh = await bridge.create(F, ROOT, b"file", CREATE, 0o644)
        frame = bridge.opener(fh)
        assert (frame.uid, frame.gid, frame.pid) == (1000, 100, 4242)
        assert frame is not bridge.opener(fh)
        await bridge.release(F, fh)
        assert bridge.opener(fh).uid == 0

    play(scene)
