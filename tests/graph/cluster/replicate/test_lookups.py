"""Names and attributes on which the copies do not agree, without any record of why."""

from __future__ import annotations

import errno
import os

import trio

from tests.graph.cluster.replicate.volume import refused, served


def test_a_name_missing_on_one_copy_without_any_record_exists() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            child = volume.replicate.children[0]
            await child.unlink(volume.tick(), volume.graph.itable.root, b"f", await volume.inode("f"))
            assert (await volume.lookup("f")).size == 5
            assert await volume.read("f") == b"hello"

    trio.run(main)


def test_what_a_failed_create_left_on_a_minority_does_not_exist() -> None:
    async def main() -> None:
        async with served(3) as volume:
            child = volume.replicate.children[0]
            root = volume.graph.itable.root
            await child.mknod(volume.tick(), root, b"f", 0o100644, 0, volume.process.new_gfid())
            with refused(errno.ENOENT):
                await volume.lookup("f")

    trio.run(main)


def test_of_copies_that_differ_in_size_without_any_record_the_largest_is_read() -> None:
    async def main() -> None:
        async with served(2, read_subvolume_index="0") as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            await volume.replicate.children[1].writev(volume.tick(), fd, b" world", 5)
            await volume.close(fd)
            await volume.remount(read_subvolume_index="0")
            assert await volume.read("f") == b"hello world"

    trio.run(main)


def test_a_mode_changed_behind_our_back_on_one_copy_does_not_disturb() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            os.chmod(volume.at(1, "f"), 0o640)
            assert (await volume.lookup("f")).mode == 0o100644
            assert await volume.read("f") == b"hello"

    trio.run(main)
