"""Contents of files: read, written, resized, holed, copied, synchronised."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zlib

import pytest

from fusemux.graph.framework.inode import Fd
from tests.bricks.serving import Place, Volume, failing, run

KEEP_SIZE, PUNCH, ZERO = 1, 2, 16
BLOCK = 65536


async def content(volume: Volume, fd: Fd) -> bytes:
    return bytes(await volume.top.readv(volume.frame(stamped=False), fd, 1 << 22, 0, None))


def test_writes_go_where_the_offset_says_and_reads_end_with_the_file(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        _, fd, _ = await volume.create(b"f")
        assert await volume.top.writev(volume.frame(), fd, b"world", 6, None) == 5
        assert await volume.top.writev(volume.frame(), fd, memoryview(b"hello"), 0, None) == 5
        assert await content(volume, fd) == b"hello\0world"
        assert bytes(await volume.top.readv(volume.frame(), fd, 5, 6, None)) == b"world"
        assert bytes(await volume.top.readv(volume.frame(), fd, 5, 11, None)) == b""
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


@pytest.mark.parametrize(
    "flags", [os.O_WRONLY, os.O_RDWR | os.O_APPEND, os.O_RDWR | os.O_DIRECT, os.O_RDWR | os.O_DSYNC]
)
def test_flags_that_are_not_the_bricks_business_do_not_disturb(brick: Place, flags: int) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f", data=b"0123456789")
        fd = await volume.open(inode, flags)
        await volume.top.writev(volume.frame(), fd, b"abc", 1, None)
        assert await content(volume, fd) == b"0abc456789"
        await volume.top.fsync(volume.frame(), fd, False, None)
        await volume.top.fsync(volume.frame(), fd, True, None)
        await volume.top.flush(volume.frame(), fd, None)
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_open_can_truncate(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f", data=b"x" * 100)
        first = await volume.open(inode)
        second = await volume.open(inode, os.O_RDWR | os.O_TRUNC)
        iatt = await volume.top.stat(volume.frame(stamped=False), first, None)
        assert (iatt.size, iatt.mtime_ns) == (0, volume.now)
        await volume.top.release(volume.frame(), first, None)
        await volume.top.release(volume.frame(), second, None)

    run(brick, scenario)


def test_truncate_takes_open_and_closed_files_both_ways(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f", data=b"x" * 10)
        iatt = await volume.top.truncate(volume.frame(), inode, 4, None)
        assert (iatt.size, iatt.mtime_ns, iatt.ctime_ns) == (4, volume.now, volume.now)
        fd = await volume.open(inode)
        assert (await volume.top.truncate(volume.frame(), fd, 6, None)).size == 6
        assert await content(volume, fd) == b"xxxx\0\0"
        assert (await volume.top.truncate(volume.frame(), inode, 0, None)).size == 0
        with failing(errno.EINVAL):
            await volume.top.truncate(volume.frame(), fd, -1, None)
        await volume.top.release(volume.frame(), fd, None)
        directory = await volume.mkdir(b"d")
        with failing(errno.EISDIR):
            await volume.top.truncate(volume.frame(), directory, 0, None)

    run(brick, scenario)


def test_fallocate_reserves_punches_and_zeroes(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        _, fd, _ = await volume.create(b"f")
        iatt = await volume.top.fallocate(volume.frame(), fd, 0, 0, 4 * BLOCK, None)
        assert (iatt.size, iatt.mtime_ns) == (4 * BLOCK, volume.now)
        assert iatt.blocks * 512 >= 4 * BLOCK
        await volume.top.writev(volume.frame(), fd, b"x" * 4 * BLOCK, 0, None)
        punched = await volume.top.fallocate(volume.frame(), fd, PUNCH | KEEP_SIZE, BLOCK, BLOCK, None)
        assert punched.blocks < iatt.blocks
        assert punched.size == 4 * BLOCK
        await volume.top.fallocate(volume.frame(), fd, ZERO | KEEP_SIZE, 3 * BLOCK, BLOCK // 2, None)
        assert await content(volume, fd) == b"".join(
            (b"x" * BLOCK, bytes(BLOCK), b"x" * BLOCK, bytes(BLOCK // 2), b"x" * (BLOCK // 2))
        )
        kept = await volume.top.fallocate(volume.frame(), fd, KEEP_SIZE, 4 * BLOCK, BLOCK, None)
        assert kept.size == 4 * BLOCK
        assert (await volume.top.fallocate(volume.frame(), fd, ZERO, 4 * BLOCK, BLOCK, None)).size == 5 * BLOCK
        with failing(errno.EINVAL):
            await volume.top.fallocate(volume.frame(), fd, 0, 0, 0, None)
        with failing(errno.EOPNOTSUPP):
            await volume.top.fallocate(volume.frame(), fd, PUNCH, 0, BLOCK, None)
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_seek_finds_data_and_holes(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        _, fd, _ = await volume.create(b"f")
        await volume.top.writev(volume.frame(), fd, b"x" * BLOCK, 4 * BLOCK, None)
        seek = volume.top.seek
        assert await seek(volume.frame(), fd, 0, os.SEEK_DATA, None) == 4 * BLOCK
        assert await seek(volume.frame(), fd, 0, os.SEEK_HOLE, None) == 0
        assert await seek(volume.frame(), fd, 4 * BLOCK, os.SEEK_HOLE, None) == 5 * BLOCK
        with failing(errno.ENXIO):
            await seek(volume.frame(), fd, 5 * BLOCK, os.SEEK_DATA, None)
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_copy_file_range_copies_inside_the_brick(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        source = await volume.open(await volume.file(b"source", data=bytes(range(256)) * 64))
        _, target, _ = await volume.create(b"target")
        done = await volume.top.copy_file_range(volume.frame(), source, 100, target, 50, 1000, 0, None)
        assert done == 1000
        assert await content(volume, target) == bytes(50) + (bytes(range(256)) * 64)[100:1100]
        assert (await volume.top.stat(volume.frame(stamped=False), target, None)).mtime_ns == volume.now
        assert await volume.top.copy_file_range(volume.frame(), source, 1 << 20, target, 0, 10, 0, None) == 0
        for fd in (source, target):
            await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_rchecksum_is_computed_where_the_data_lies(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        fd = await volume.open(await volume.file(b"f", data=b"abc" * 1000))
        weak, strong = await volume.top.rchecksum(volume.frame(), fd, 3, 300, None)
        assert (weak, strong) == (zlib.adler32(b"abc" * 100, 0), hashlib.sha256(b"abc" * 100).digest())
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_only_files_can_be_opened(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory, fifo = await volume.mkdir(b"d"), await volume.mknod(b"fifo", stat.S_IFIFO | 0o600)
        link = await volume.symlink(b"l", b"d")
        for inode in (directory, fifo, link):
            with failing(errno.EISDIR, errno.ENXIO, errno.ELOOP):
                await volume.open(inode)
        inode = await volume.file(b"f")
        with failing(errno.ENOTDIR):
            fd = volume.fd(inode)
            await volume.top.opendir(volume.frame(), inode, fd, None)

    run(brick, scenario)


@pytest.mark.skipif(os.geteuid() != 0, reason="other users' writes need root")
@pytest.mark.parametrize("change", ["write", "truncate", "fallocate"])
def test_a_write_by_others_takes_set_id_bits_away(brick: Place, change: str) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f", data=b"x", mode=0o6755)
        assert (await volume.lookup(b"f")).mode & 0o7777 == 0o6755
        fd = await volume.open(inode)

        async def apply(uid: int) -> int:
            frame = volume.frame(uid, uid)
            if change == "write":
                await volume.top.writev(frame, fd, b"y", 0, None)
            elif change == "truncate":
                await volume.top.truncate(frame, fd, 0, None)
            else:
                await volume.top.fallocate(frame, fd, 0, 0, 100, None)
            iatt = await volume.top.stat(volume.frame(), fd, None)
            return int(iatt.mode & 0o7777)

        assert await apply(0) == 0o6755, "root may keep them"
        assert await apply(1000) == 0o755
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_statfs_divides_by_the_bricks_that_share_the_file_system(brick: Place) -> None:
    found = []

    async def scenario(volume: Volume) -> None:
        found.append(await volume.top.statfs(volume.frame(), volume.root, None))
        await volume.top.syncfs(volume.frame(), volume.root, None)

    run(brick, scenario)
    brick.options["shared-brick-count"] = "4"
    run(brick, scenario)
    assert found[1].blocks == found[0].blocks // 4
    assert found[1].files == found[0].files // 4
    assert found[0].bavail <= os.statvfs(brick.path).f_bavail
    assert found[0].namemax == 255
