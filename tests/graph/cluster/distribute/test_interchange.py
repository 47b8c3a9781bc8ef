"""Bricks go back and forth between fusemux and a real GlusterFS, where one is installed."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from .invariants import check_bricks
from .volume import TEMPORARY, brick_directories, served

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(shutil.which("glusterfs") is None, reason="glusterfs is not installed"),
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounting needs root and /dev/fuse"
    ),
]


@contextmanager
def mounted_by_glusterfs(bricks: Sequence[str]) -> Iterator[Path]:
    """The volume of `bricks`, its subvolumes called as `served` calls them, mounted by GlusterFS in one process."""
    folder = Path(tempfile.mkdtemp(dir=TEMPORARY))
    blocks = []
    for n, path in enumerate(bricks):
        blocks.append(f"volume p{n}\n type storage/posix\n option directory {path}\nend-volume\n")
        blocks.append(f"volume v-client-{n}\n type features/locks\n subvolumes p{n}\nend-volume\n")
    children = " ".join(f"v-client-{n}" for n in range(len(bricks)))
    blocks.append(f"volume v-dht\n type cluster/distribute\n subvolumes {children}\nend-volume\n")
    (folder / "v.vol").write_text("".join(blocks))
    mount = folder / "mnt"
    mount.mkdir()
    command = ["glusterfs", "-f", folder / "v.vol", "-l", folder / "log", "--pid-file", folder / "pid", mount]
    try:
        subprocess.run(command, check=True, timeout=60)
        process = os.pidfd_open(int((folder / "pid").read_text()))
        try:
            yield mount
        finally:
            subprocess.run(["umount", mount], check=True, timeout=60)
            poll = select.poll()
            poll.register(process, select.POLLIN)
            assert poll.poll(60_000), "glusterfs has not ended after the unmount"
            os.close(process)
    finally:
        shutil.rmtree(folder)


def test_glusterfs_reads_what_fusemux_wrote_and_fusemux_what_glusterfs_then_wrote() -> None:
    with brick_directories(3) as bricks:
        trio.run(write_with_fusemux, bricks)
        with mounted_by_glusterfs(bricks) as mount:
            for n in range(30):
                assert (mount / path_of(n)).read_bytes() == b"content %d" % n
                if n % 5 == 1:
                    assert (mount / f"hard{n}").stat().st_nlink == 2
            assert os.getxattr(mount / "dir", "user.colour") == b"red"
            for n in range(20):
                (mount / f"dir/new{n}").write_bytes(b"new %d" % n)
                (mount / f"dir/new{n}").rename(mount / f"dir/sub/moved{n}")
            (mount / "dir/theirs/below").mkdir(parents=True)
            (mount / "dir/theirs/below/file").write_bytes(b"deep")
            (mount / "dir/sub/moved3").rename(mount / path_of(1))
        trio.run(read_with_fusemux, bricks)


def path_of(n: int) -> str:
    return f"dir/sub/renamed{n}" if n % 3 == 0 else f"dir/f{n}"


async def write_with_fusemux(bricks: Sequence[str]) -> None:
    async with served(bricks) as v:
        await v.mkdir("dir")
        await v.mkdir("dir/sub")
        for n in range(30):
            await v.create(f"dir/f{n}", b"content %d" % n)
            if path_of(n) != f"dir/f{n}":
                await v.rename(f"dir/f{n}", path_of(n))
            if n % 5 == 1:
                await v.link(path_of(n), f"hard{n}")
        await v.top.setxattr(v.tick(), await v.inode("dir"), {b"user.colour": b"red"}, 0)


async def read_with_fusemux(bricks: Sequence[str]) -> None:
    async with served(bricks) as v:
        for n in range(20):
            if n != 3:
                assert await v.read(f"dir/sub/moved{n}") == b"new %d" % n
        assert await v.read(path_of(1)) == b"new 3"
        assert await v.read("dir/theirs/below/file") == b"deep"
        assert len(await v.names_in("dir/sub")) == 10 + 19
        check_bricks(v)
        await v.rename("dir/theirs", "ours")
        assert await v.read("ours/below/file") == b"deep"
        check_bricks(v)
