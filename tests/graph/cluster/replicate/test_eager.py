"""The dirty mark that outlives a write: set once, cleared by flush, sync, release, time, and the end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fusemux.graph.framework.inode import Fd
from tests.graph.cluster.replicate.volume import Volume, served

DIRTY = {"dirty": (1, 0, 0)}


def counting(volume: Volume) -> Counter[str]:
    """Counts the fops that reach the first child from now on."""
    counts: Counter[str] = Counter()
    child = volume.replicate.children[0]

    def counted(fop: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any) -> Any:
            counts[fop] += 1
            return await method(*args)

        return call

    for fop in ("xattrop", "writev", "fsync", "truncate", "lookup", "create", "unlink", "setattr", "mkdir"):
        setattr(child, fop, counted(fop, getattr(child, fop)))
    return counts


@asynccontextmanager
async def one_file(**options: str) -> AsyncIterator[tuple[Volume, Fd]]:
    async with served(2, **options) as volume:
        await volume.create("f", bytes(10))
        fd = await volume.open("f")
        yield volume, fd
        await volume.close(fd)


async def write(volume: Volume, fd: Fd, data: bytes = b"x", offset: int = 0) -> None:
    await volume.top.writev(volume.tick(), fd, data, offset)


def test_a_steady_writer_sends_no_xattrop_but_the_first_and_the_last() -> None:
    async def main() -> None:
        async with one_file() as (volume, fd):
            counts = counting(volume)
            for n in range(50):
                await write(volume, fd, bytes(10), 10 + n * 10)
            assert volume.blames(0, "f") == DIRTY
            await volume.top.flush(volume.tick(), fd)
            assert volume.blames(0, "f") == volume.blames(1, "f") == {}
            assert counts["writev"] == 50
            assert counts["xattrop"] == 2

    trio.run(main)


def test_names_and_attributes_cost_no_xattrop_while_all_copies_are_there() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.lookup("/")
            counts = counting(volume)
            await volume.create("f")
            await volume.chmod("f", 0o600)
            await volume.mkdir("d")
            await volume.unlink("f")
            assert counts["create"] == counts["setattr"] == counts["mkdir"] == counts["unlink"] == 1
            assert counts["xattrop"] == 0

    trio.run(main)


@pytest.mark.parametrize("end", ["flush", "fsync", "release", "syncfs"])
def test_what_ends_a_series_of_writes_clears_the_mark(end: str) -> None:
    async def main() -> None:
        async with one_file() as (volume, fd):
            await write(volume, fd)
            assert volume.blames(0, "f") == volume.blames(1, "f") == DIRTY
            match end:
                case "flush":
                    await volume.top.flush(volume.tick(), fd)
                case "fsync":
                    await volume.top.fsync(volume.tick(), fd, True)
                case "syncfs":
                    await volume.top.syncfs(volume.tick(), fd.inode)
                case "release":
                    other = await volume.open("f")
                    await volume.top.release(volume.tick(), other)
                    volume.graph.itable.closed(other)
            assert volume.blames(0, "f") == volume.blames(1, "f") == {}

    trio.run(main)


@pytest.mark.parametrize(("delay_s", "still", "gone"), [(1, 0.9, 1.6), (5, 4.9, 5.6)])
def test_when_nothing_is_written_for_a_while_the_mark_is_cleared(delay_s: int, still: float, gone: float) -> None:
    async def main() -> None:
        async with one_file(post_op_delay_secs=str(delay_s)) as (volume, fd):
            await write(volume, fd)
            await trio.sleep(3)
            await write(volume, fd)
            await trio.sleep(still)
            assert volume.blames(0, "f") == DIRTY
            await trio.sleep(gone - still)
            assert volume.blames(0, "f") == volume.blames(1, "f") == {}

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_one_task_serves_all_files_of_all_sets() -> None:
    async def main() -> None:
        async with one_file() as (volume, fd), one_file() as (other, _):
            before = trio.lowlevel.current_statistics().tasks_living
            fds = [await volume.created(f"n{n}") for n in range(20)]
            for one in (*fds, fd):
                await write(volume, one)
            assert trio.lowlevel.current_statistics().tasks_living <= before + 1
            assert volume.replicate.statedump()["dirty-files"] == 21
            await trio.sleep(2)
            assert volume.replicate.statedump()["dirty-files"] == 0
            for one in fds:
                await volume.close(one)
            assert other.replicate.statedump()["dirty-files"] == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_clean_stop_leaves_no_mark() -> None:
    async def main() -> None:
        async with served(3) as volume:
            fd = await volume.created("f")
            await write(volume, fd)
            await volume.truncate("f", 3)
            await volume.graph.stop()
            assert [volume.all_marks(brick) for brick in range(3)] == [{}, {}, {}]

    trio.run(main)


def test_a_process_that_is_killed_leaves_the_mark_and_has_accused_those_that_were_away() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"old")
            await volume.bricks[0].kill()
            fd = await volume.open("f")
            await write(volume, fd, b"new")
            # what a crash would find at this moment
            assert volume.blames(1, "f") == {"client-0": (1, 0, 0), "dirty": (1, 0, 0)}
            await volume.close(fd)

    trio.run(main)


def test_the_mark_is_moved_when_the_copies_that_take_part_change() -> None:
    async def main() -> None:
        async with one_file() as (volume, fd):
            await write(volume, fd)
            await volume.bricks[1].kill()
            await write(volume, fd, b"y", 1)
            assert volume.blames(0, "f") == {"client-1": (1, 0, 0), "dirty": (1, 0, 0)}
            await volume.bricks[1].start()
            await write(volume, fd, b"z", 2)
            assert volume.blames(0, "f") == {"client-1": (1, 0, 0), "dirty": (1, 0, 0)}
            await volume.top.flush(volume.tick(), fd)
            assert volume.blames(0, "f") == {"client-1": (1, 0, 0)}
            assert volume.blames(1, "f") == DIRTY  # it could not be cleared there when the brick went away

    trio.run(main)


def test_what_was_overwritten_is_synced_before_the_mark_is_cleared_and_what_was_appended_is_not() -> None:
    async def main() -> None:
        async with served(2) as volume:
            fd = await volume.created("f")
            counts = counting(volume)
            for n in range(5):
                await write(volume, fd, bytes(10), n * 10)
            await volume.top.flush(volume.tick(), fd)
            assert (counts["fsync"], counts["xattrop"]) == (0, 2)
            await write(volume, fd, bytes(10), 10)
            await volume.top.flush(volume.tick(), fd)
            assert (counts["fsync"], counts["xattrop"]) == (1, 4)
            await volume.truncate("f", 20)
            await write(volume, fd, bytes(10), 20)
            await volume.top.flush(volume.tick(), fd)
            assert (counts["fsync"], counts["xattrop"]) == (1, 6)
            await volume.close(fd)

    trio.run(main)


def test_an_explicit_sync_takes_the_place_of_the_internal_one() -> None:
    async def main() -> None:
        async with one_file() as (volume, fd):
            counts = counting(volume)
            await write(volume, fd)
            await volume.top.fsync(volume.tick(), fd, False)
            assert counts["fsync"] == 1

    trio.run(main)


def test_a_file_without_a_name_is_marked_and_cleared_like_any_other() -> None:
    async def main() -> None:
        async with one_file() as (volume, fd):
            await volume.unlink("f")
            await write(volume, fd)
            await volume.top.flush(volume.tick(), fd)
            assert volume.replicate.statedump()["dirty-files"] == 0
            assert bytes(await volume.top.readv(volume.reader, fd, 1, 0)) == b"x"

    trio.run(main)


def test_opening_with_truncation_truncates_on_all_copies_as_a_transaction() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            await volume.bricks[1].kill()
            fd = await volume.open("f", os.O_WRONLY | os.O_TRUNC)
            await volume.close(fd)
            assert volume.content(0, "f") == b""
            assert volume.blames(0, "f") == {"client-1": (1, 0, 0)}

    trio.run(main)
