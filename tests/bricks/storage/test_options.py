"""Every option of storage/posix, set while the brick runs and observed at the place where it is used."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest
import trio
import trio.testing

from fusemux.bricks import ramdisk
from fusemux.bricks.storage.posix.options import OPTIONS
from fusemux.bricks.storage.posix.remove import RECURSIVE
from fusemux.graph.framework.errors import OptionError
from tests.bricks.serving import Place, Volume, failing, run

TESTED: set[str] = {"directory", "volume-id"}  # wherever a brick is served; see also test_prepare.py


def option(name: str) -> str:
    TESTED.add(name)
    return name


def reconfigure(volume: Volume, **options: str) -> None:
    sections = volume.place.sections()
    for name, value in options.items():
        sections[0].options[name.replace("_", "-")] = value
    volume.brick.graph.reconfigure(sections)


async def mode_of_new(volume: Volume, name: bytes) -> int:
    _, fd, iatt = await volume.create(name, mode=0o777)
    await volume.top.release(volume.frame(), fd, None)
    return int(iatt.mode & 0o7777)


def test_shared_brick_count_divides_statfs(plain: Place) -> None:
    option("shared-brick-count")

    async def scenario(volume: Volume) -> None:
        whole = await volume.top.statfs(volume.frame(), volume.root, None)
        reconfigure(volume, shared_brick_count="3")
        assert (await volume.top.statfs(volume.frame(), volume.root, None)).blocks == whole.blocks // 3

    run(plain, scenario)


def test_huge_pages_are_used_for_large_files_on_ramdisks_of_their_own(tmp_path: Path) -> None:
    option("huge-pages")
    path = tmp_path / "brick"
    ramdisk.provision(str(path), 64 << 20)

    async def scenario(volume: Volume) -> None:
        for on in (True, False):
            reconfigure(volume, huge_pages=str(on))
            assert ramdisk.has_huge_pages(str(path)) is (on and ramdisk.can_mount())
            inode = await volume.file(b"large-%d" % on, data=bytes(3 << 20))
            assert (await volume.top.stat(volume.frame(), inode)).blocks == 3 << 11

    try:
        run(Place(path).prepare(), scenario)
        assert not ramdisk.has_huge_pages(str(path))
    finally:
        ramdisk.remove(str(path))


def test_reserve_stops_users_but_not_the_healer(plain: Place) -> None:
    option("reserve")

    async def scenario(volume: Volume) -> None:
        inode, fd, _ = await volume.create(b"f")
        vfs = os.statvfs(plain.path)
        reconfigure(volume, reserve=f"{vfs.f_blocks * vfs.f_frsize}")
        assert (await volume.top.statfs(volume.frame(), volume.root, None)).bavail == 0
        for call in (
            lambda frame: volume.top.writev(frame, fd, b"x", 0, None),
            lambda frame: volume.top.fallocate(frame, fd, 0, 0, 10, None),
            lambda frame: volume.top.mkdir(frame, volume.root, b"d", 0o755, volume.process.new_gfid(), None),
        ):
            with failing(errno.ENOSPC):
                await call(volume.frame())
            await call(volume.frame(pid=-6))
        reconfigure(volume, reserve="0")
        await volume.top.writev(volume.frame(), fd, b"x", 0, None)
        await volume.unlink(b"f", inode)
        await volume.top.release(volume.frame(), fd, None)

    run(plain, scenario)


def test_ctime_off_answers_the_times_of_the_backing_store(plain: Place) -> None:
    option("ctime")

    async def scenario(volume: Volume) -> None:
        inode, fd, iatt = await volume.create(b"f")
        assert iatt.mtime_ns == volume.now
        reconfigure(volume, ctime="off")
        st = os.stat(plain.path / "f")
        for answer in (await volume.lookup(b"f"), await volume.top.stat(volume.frame(), inode, None)):
            assert (answer.mtime_ns, answer.ctime_ns) == (st.st_mtime_ns, st.st_ctime_ns)
        _, other, _ = await volume.create(b"g")
        assert plain.stored("g", b"trusted.glusterfs.mdata") is None
        reconfigure(volume, ctime="on")
        assert (await volume.lookup(b"f")).mtime_ns == iatt.mtime_ns
        for each in (fd, other):
            await volume.top.release(volume.frame(), each, None)

    run(plain, scenario)


def test_gfid2path_off_records_no_names(plain: Place) -> None:
    option("gfid2path")

    async def scenario(volume: Volume) -> None:
        reconfigure(volume, gfid2path="off")
        inode = await volume.file(b"f")
        await volume.rename(b"f", b"g", inode)
        assert not [name for name in os.listxattr(plain.path / "g") if "gfid2path" in name]
        reconfigure(volume, gfid2path="on")
        await volume.rename(b"g", b"h", inode)
        assert len([name for name in os.listxattr(plain.path / "h") if "gfid2path" in name]) == 1

    run(plain, scenario)


def test_gfid2path_separator_stands_between_paths(plain: Place) -> None:
    option("gfid2path-separator")
    name = b"glusterfs.gfidtopath"

    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f")
        await volume.top.link(volume.frame(), inode, volume.root, b"g", None)
        reconfigure(volume, gfid2path_separator="|")
        value = (await volume.top.getxattr(volume.frame(), inode, name, None))[name]
        assert sorted(value.split(b"|")) == [b"/f", b"/g"]

    run(plain, scenario)


def test_max_hardlinks_limits_the_names_of_a_file(plain: Place) -> None:
    option("max-hardlinks")

    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f")
        reconfigure(volume, max_hardlinks="2")
        await volume.top.link(volume.frame(), inode, volume.root, b"2", None)
        with failing(errno.EMLINK):
            await volume.top.link(volume.frame(), inode, volume.root, b"3", None)
        reconfigure(volume, max_hardlinks="0")
        for i in range(3, 150):
            await volume.top.link(volume.frame(), inode, volume.root, b"%d" % i, None)
        assert (await volume.lookup(b"f")).nlink == 149

    run(plain, scenario)


def test_create_masks_and_forced_modes_shape_new_entries(plain: Place) -> None:
    for name in ("create-mask", "create-directory-mask", "force-create-mode", "force-directory-mode"):
        option(name)

    async def scenario(volume: Volume) -> None:
        reconfigure(volume, create_mask="0750", force_create_mode="0004")
        assert await mode_of_new(volume, b"f") == 0o754
        await volume.mkdir(b"d", mode=0o777)
        assert (await volume.lookup(b"d")).mode & 0o7777 == 0o777
        reconfigure(volume, create_directory_mask="0700", force_directory_mode="0011")
        assert await mode_of_new(volume, b"g") == 0o777
        await volume.mkdir(b"e", mode=0o777)
        assert (await volume.lookup(b"e")).mode & 0o7777 == 0o711
        with pytest.raises(OptionError, match="octal"):
            reconfigure(volume, create_mask="rwx")

    run(plain, scenario)


def test_fips_mode_chooses_the_strong_checksum(plain: Place) -> None:
    option("fips-mode-rchecksum")

    async def scenario(volume: Volume) -> None:
        fd = await volume.open(await volume.file(b"f", data=b"x"))
        reconfigure(volume, fips_mode_rchecksum="off")
        assert (await volume.top.rchecksum(volume.frame(), fd, 0, 1, None))[1] == hashlib.md5(b"x").digest()
        reconfigure(volume, fips_mode_rchecksum="on")
        assert (await volume.top.rchecksum(volume.frame(), fd, 0, 1, None))[1] == hashlib.sha256(b"x").digest()
        await volume.top.release(volume.frame(), fd, None)

    run(plain, scenario)


def test_owner_uid_and_gid_own_the_root(plain: Place) -> None:
    option("owner-uid"), option("owner-gid")

    async def scenario(volume: Volume) -> None:
        reconfigure(volume, owner_uid="1000", owner_gid="1001")
        iatt = await volume.top.stat(volume.frame(), volume.root, None)
        assert (iatt.uid, iatt.gid) == (1000, 1001)

    run(plain, scenario)


@pytest.mark.parametrize(("mode", "suspends"), [("inline", False), ("pool", True), ("auto", False)])
def test_io_mode_decides_where_system_calls_run(plain: Place, mode: str, suspends: bool) -> None:
    option("io-mode")
    plain.options["io-mode"] = mode

    async def scenario(volume: Volume) -> None:
        assert volume.top.suspends is suspends
        await volume.file(b"f")

    run(plain, scenario)


def test_io_mode_auto_takes_the_pool_on_a_disk(tmp_path: object, plain: Place) -> None:
    if os.stat(str(tmp_path)).st_dev == os.stat("/dev/shm").st_dev:
        pytest.skip("the temporary directory is in memory")

    async def scenario(volume: Volume) -> None:
        assert volume.top.suspends

    run(Place(tmp_path / "brick").prepare(), scenario)  # type: ignore[operator]


def break_brick(place: Place) -> None:
    """Make the health check fail: its file cannot be written any more."""
    (place.path / ".glusterfs" / "health_check").unlink(missing_ok=True)
    (place.path / ".glusterfs" / "health_check").mkdir()


@pytest.mark.parametrize("io_mode", ["inline", "pool"])
def test_health_check_interval_decides_when_a_broken_brick_is_noticed(
    plain: Place, io_mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    option("health-check-interval"), option("health-check-timeout")
    plain.options["io-mode"] = io_mode

    async def scenario(volume: Volume) -> None:
        down = trio.Event()
        volume.brick.watch(lambda up: down.set())
        reconfigure(volume, health_check_interval="0")
        break_brick(plain)
        reconfigure(volume, health_check_interval="0.01", health_check_timeout="0.5")
        with trio.fail_after(10):
            await down.wait()
        with failing(errno.ENOTCONN):
            await volume.lookup(b"f")
        (plain.path / ".glusterfs" / "health_check").rmdir()
        await volume.brick.start()
        await volume.file(b"f")

    run(plain, scenario)
    assert "failed its health check" in caplog.text


def test_a_healthy_brick_leaves_a_timestamp(plain: Place) -> None:
    async def scenario(volume: Volume) -> None:
        reconfigure(volume, health_check_interval="0.01")
        place = plain.path / ".glusterfs" / "health_check"
        with trio.fail_after(10):
            while not place.exists():
                await trio.sleep(0.01)
        assert volume.brick.up

    run(plain, scenario)


def test_janitor_sleep_duration_is_how_long_the_landfill_waits(plain: Place) -> None:
    option("janitor-sleep-duration")

    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        await volume.file(b"f", directory)
        reconfigure(volume, janitor_sleep_duration="0")
        await volume.top.rmdir(volume.frame(), volume.root, b"d", directory, {RECURSIVE: b"1"})
        with trio.fail_after(10):
            while os.listdir(plain.path / ".glusterfs" / "landfill"):
                await trio.lowlevel.checkpoint()
        assert not stat.S_ISDIR(0)

    run(plain, scenario)


def test_no_option_is_left_untested() -> None:
    assert {row.name for row in OPTIONS} <= TESTED
