"""Ramdisk bricks: made with a size of their own, found again, removed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fusemux.bricks import ramdisk
from fusemux.bricks.prepare import prepare
from fusemux.graph.framework.errors import FusemuxError
from tests.bricks.serving import VOLUME_ID, Place, Volume, failing, run
from tests.bricks.storage.test_mapped import as_nobody

ROOT = pytest.mark.skipif(not ramdisk.can_mount(), reason="mounting needs root")


@ROOT
def test_a_ramdisk_is_a_file_system_of_its_own_size(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "a b\\c" / "brick")
    assert not ramdisk.exists(path)
    ramdisk.provision(path, 8 << 20)
    try:
        vfs = os.statvfs(path)
        assert vfs.f_blocks * vfs.f_frsize == 8 << 20
        assert vfs.f_flag & os.ST_NOATIME
        ramdisk.use_huge_pages(path, on=True)
        assert os.statvfs(path).f_flag & os.ST_NOATIME
        assert ramdisk.exists(path)
        with pytest.raises(FusemuxError, match="already"):
            ramdisk.provision(path)
    finally:
        ramdisk.remove(path)
    assert not ramdisk.exists(path)
    assert not os.path.exists(path)
    ramdisk.remove(path)


@ROOT
def test_a_full_ramdisk_says_so_and_works_on(tmp_path: Path) -> None:
    path = tmp_path / "brick"
    ramdisk.provision(str(path), 4 << 20)
    try:
        run(Place(path).prepare(), fill)
    finally:
        ramdisk.remove(str(path))


async def fill(volume: Volume) -> None:
    inode, fd, _ = await volume.create(b"f")
    with failing(errno.ENOSPC):
        for block in range(100):
            await volume.top.writev(volume.frame(), fd, bytes(65536), block * 65536, None)
    assert not volume.top.suspends
    await volume.top.release(volume.frame(), fd, None)
    await volume.unlink(b"f", inode)
    again = await volume.file(b"g", data=b"x")
    assert await volume.read(again) == b"x"


@ROOT
def test_what_a_killed_process_left_is_removed_from_the_path_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "brick")
    ramdisk.provision(path, 1 << 20)
    held = os.open(path, os.O_RDONLY)
    try:
        prepare(path, str(VOLUME_ID))
        ramdisk.remove(path)
        assert not ramdisk.exists(path)
    finally:
        os.close(held)


def test_ordinary_users_get_a_folder_in_memory(ram: Path) -> None:
    def work() -> None:
        path = str(ram / "run" / "brick")
        ramdisk.provision(path, 1 << 20)
        folder = os.readlink(path)
        assert folder.startswith("/dev/shm/")
        assert ramdisk.exists(path)
        run(Place(Path(path)).prepare(), small)
        ramdisk.remove(path)
        assert not os.path.lexists(path)
        assert not os.path.exists(folder)

    as_nobody(ram, work)


async def small(volume: Volume) -> None:
    inode = await volume.file(b"f", data=b"x")
    assert await volume.read(inode) == b"x"


def test_somebody_elses_directory_or_link_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("folder", "link"):
        assert not ramdisk.exists(str(tmp_path / name))
        ramdisk.remove(str(tmp_path / name))
    assert (tmp_path / "folder" / "file").exists()
    assert (tmp_path / "link").is_symlink()
