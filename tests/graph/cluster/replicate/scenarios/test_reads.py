"""Which copy is read, what it says of data, holes and times; and a heal where there is no room."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from fusemux.graph.debug.fault import Fault, place
from fusemux.graph.framework.inode import Fd
from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused, served

# -- afr-read-hash-mode.t ------------------------------------------------------------------------------------------


def _reads(volume: Volume, delay_s: float = 0) -> list[Fault]:
    """Counts the reads that reach each brick; with `delay_s` they take that long."""
    counters = [Fault("delay", fops=frozenset({"readv"}), delay_s=delay_s) for _ in volume.replicate.children]
    for edge, counter in zip(volume.replicate.children, counters, strict=True):
        place(edge, counter)
    return counters


def test_afr_read_hash_mode() -> None:
    """By default one file is read from one data brick, and each of the two has files to serve."""

    async def main() -> None:
        async with served(3, arbiter_count="1", choose_local="off") as volume:
            counters = _reads(volume)
            for n in range(20):
                await volume.create(f"f{n}", b"hello")
                before = [counter.fired for counter in counters]
                for _ in range(3):
                    assert await volume.read(f"f{n}") == b"hello"
                reads = [counter.fired - count for counter, count in zip(counters, before, strict=True)]
                assert sorted(reads) == [0, 0, 3]
            assert counters[2].fired == 0
            assert all(counter.fired for counter in counters[:2])

    trio.run(main)


@pytest.mark.parametrize("mode", ["3", "5"])
def test_afr_read_hash_mode_by_load_spreads_the_reads_of_one_file(mode: str) -> None:
    async def main() -> None:
        async with served(3, arbiter_count="1", choose_local="off", read_hash_mode=mode) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f", os.O_RDONLY)
            counters = _reads(volume, delay_s=1)
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    for _ in range(6):
                        nursery.start_soon(volume.top.readv, volume.reader, fd, 5, 0)
            assert counters[2].fired == 0
            assert sum(counter.fired for counter in counters) == 18
            assert all(counter.fired for counter in counters[:2])
            await volume.close(fd)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    "options", [{}, {"choose_local": "off"}, {"read_subvolume_index": "2"}, {"read_hash_mode": "4"}]
)
def test_afr_read_hash_mode_never_reads_the_arbiter(options: dict[str, str]) -> None:
    """Whatever the policy: neither contents nor attributes nor listings."""

    async def main() -> None:
        async with served(3, arbiter_count="1", **options) as volume:
            counters = _reads(volume)
            for n in range(20):
                await volume.create(f"f{n}", b"hello")
            for n in range(20):
                assert await volume.read(f"f{n}") == b"hello"
                assert (await volume.lookup(f"f{n}")).size == 5
            assert all(entry.iatt is None or entry.iatt.size == 5 for entry in await volume.listing("/", plus=True))
            assert counters[2].fired == 0

    trio.run(main)


# -- afr-seek.t ----------------------------------------------------------------------------------------------------

BLOCK = 1 << 16


@contextmanager
def _same_file_beside(volume: Volume) -> Iterator[int]:
    """A plain file on the bricks' file system: data, a hole, data."""
    with tempfile.TemporaryFile(dir=os.path.dirname(volume.bricks[0].path)) as file:
        for offset in (0, 2 * BLOCK):
            os.pwrite(file.fileno(), b"d" * BLOCK, offset)
        yield file.fileno()


@pytest.mark.parametrize("away", [(), (0,), (1,)])
def test_afr_seek(away: tuple[int, ...]) -> None:
    """Data, a hole, data: at the edges, inside, at the end and behind it the answers of the file system below."""

    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"d" * BLOCK)
            await volume.write("f", b"d" * BLOCK, 2 * BLOCK)
            with _same_file_beside(volume) as beside:
                async with without(volume, *away):
                    fd = await volume.open("f")
                    for edge in range(0, 4 * BLOCK, BLOCK):
                        for offset in (edge - 1, edge, edge + 1, edge + BLOCK // 2):
                            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                                await _compare(volume, fd, beside, offset, whence)
                    await volume.close(fd)

    trio.run(main)


async def _compare(volume: Volume, fd: Fd, beside: int, offset: int, whence: int) -> None:
    try:
        expected = os.lseek(beside, offset, whence)
    except OSError as error:
        assert error.errno == errno.ENXIO
        with refused(errno.ENXIO):
            await volume.top.seek(volume.reader, fd, offset, whence)
        return
    assert await volume.top.seek(volume.reader, fd, offset, whence) == expected, (offset, whence)


# -- heal-quota.t --------------------------------------------------------------------------------------------------

MIB = 1 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make file systems")
def test_heal_quota() -> None:
    """A limit stops users and no heal.

    There is no quota yet.  What limits users in the same way is the reserve of a brick (option reserve): while one brick is away,
    a write breaks off part of the way; the heal is then done on a brick where users find no room at all.
    """

    async def main() -> None:
        async with volume_of(2, sizes={0: 32 * MIB, 1: 32 * MIB}, brick={"reserve": "16MB"}) as volume:
            await volume.create("f", b"x" * (7 * MIB))
            async with without(volume, 0):
                fd = await volume.open("f")
                with refused(errno.ENOSPC):
                    for offset in range(7 * MIB, 24 * MIB, MIB):
                        await volume.top.writev(volume.tick(), fd, b"y" * MIB, offset)
                await volume.close(fd)
                with open(volume.at(0, ".glusterfs/ballast"), "wb") as ballast:
                    ballast.write(bytes(10 * MIB))
            size = (await volume.lookup("f")).size
            assert 7 * MIB < size < 24 * MIB
            fd = await volume.open("f")
            with refused(errno.ENOSPC):
                await volume.replicate.children[0].writev(volume.tick(), fd, b"z", 0)
            await volume.close(fd)
            await healed(volume)
            assert volume.content(0, "f") == volume.content(1, "f") == b"x" * (7 * MIB) + b"y" * (size - 7 * MIB)

    trio.run(main)


# -- tarissue.t ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
def test_tarissue(count: int) -> None:
    """Times do not differ by which copy tells them: not of a file just written, and not of its directory."""

    async def main() -> None:
        async with served(count) as volume:
            await volume.mkdir("d")
            for n in range(3):
                await volume.create(f"d/f{n}", b"hello")
                await volume.append(f"d/f{n}", b" world")
            seen = []
            for copy in range(count):
                await volume.remount(read_subvolume_index=str(copy))
                paths = ["d", *(f"d/{name}" for name in await volume.names_in("d"))]
                stats = [await volume.top.stat(volume.reader, await volume.inode(path)) for path in paths]
                looks = [await volume.lookup(path) for path in paths]
                seen += [[(iatt.atime_ns, iatt.mtime_ns, iatt.ctime_ns) for iatt in one] for one in (stats, looks)]
            assert all(one == seen[0] for one in seen)

    trio.run(main)
