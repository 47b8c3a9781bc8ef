"""Files that are open while bricks die and come back."""

from __future__ import annotations

import os

import trio
from trio.testing import MockClock

from tests.graph.cluster.replicate.changes import slow
from tests.graph.cluster.replicate.volume import served


def test_a_brick_that_dies_in_the_middle_of_a_write_is_accused() -> None:
    async def main() -> None:
        async with served(2, brick={"io-mode": "pool"}) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            slow(volume, "writev", 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(volume.top.writev, volume.tick(), fd, b"HE", 0)
                await trio.sleep(1)
                await volume.bricks[0].kill()
            await volume.close(fd)
            assert volume.blames(1, "f") == {"client-0": (1, 0, 0)}
            assert await volume.read("f") == b"HEllo"

    trio.run(main, clock=MockClock(autojump_threshold=0.05))


def test_a_file_is_written_on_a_brick_that_came_back_while_it_was_open() -> None:
    async def main() -> None:
        async with served(2) as volume:
            fd = await volume.created("f")
            await volume.top.writev(volume.tick(), fd, b"aaaa", 0)
            await volume.bricks[0].kill()
            await volume.top.writev(volume.tick(), fd, b"bbbb", 4)
            await volume.bricks[0].start()
            await volume.top.writev(volume.tick(), fd, b"cccc", 8)
            await volume.close(fd)
            assert volume.content(0, "f") == b"aaaa\0\0\0\0cccc"  # the middle is for healing
            assert volume.blames(1, "f") == {"client-0": (1, 0, 0)}
            assert await volume.read("f") == b"aaaabbbbcccc"

    trio.run(main)


def test_a_file_opened_while_a_brick_was_away_is_opened_there_before_it_is_written() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"aaaa")
            await volume.bricks[1].kill()
            fd = await volume.open("f", os.O_RDWR)
            await volume.bricks[1].start()
            await volume.top.writev(volume.tick(), fd, b"bb", 1)
            await volume.close(fd)
            assert volume.tree(0) == volume.tree(1)
            assert volume.all_marks(0) == volume.all_marks(1) == {}

    trio.run(main)


def test_many_writers_open_a_file_only_once_on_a_brick_that_came_back() -> None:
    async def main() -> None:
        async with served(2, brick={"io-mode": "pool"}) as volume:
            await volume.create("f", bytes(1000))
            fd = await volume.open("f")
            await volume.bricks[0].kill()
            await volume.bricks[0].start()
            async with trio.open_nursery() as nursery:
                for n in range(10):
                    nursery.start_soon(volume.top.writev, volume.tick(), fd, b"x" * 100, n * 100)
                nursery.start_soon(volume.top.readv, volume.reader, fd, 10, 0)
            await volume.close(fd)
            assert volume.content(0, "f") == volume.content(1, "f") == b"x" * 1000
        # leaving `served` checks that no brick holds an open file

    trio.run(main)
