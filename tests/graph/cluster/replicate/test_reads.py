"""Reading: from good copies only, from another when one fails."""

from __future__ import annotations

import errno
import os

import pytest
import trio
import trio.testing

from fusemux.graph.debug.fault import Fault, place
from fusemux.graph.framework.types import DirEntry
from tests.graph.cluster.replicate.volume import Volume, refused, served


def reads_of(volume: Volume, child: int) -> Fault:
    """Counts the reads that reach a child, and does nothing to them."""
    counter = Fault("delay", fops=frozenset({"readv"}), delay_s=0)
    place(volume.replicate.children[child], counter)
    return counter


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOTCONN, errno.ENOENT, errno.ESTALE, errno.EBADF])
def test_a_read_that_fails_on_one_copy_is_answered_by_another(error: int) -> None:
    async def main() -> None:
        async with served(3) as volume:
            await volume.create("f", b"hello")
            for child in (0, 1):
                place(volume.replicate.children[child], Fault("error", fops=frozenset({"readv", "stat"}), errno=error))
            fd = await volume.open("f", os.O_RDONLY)
            assert bytes(await volume.top.readv(volume.reader, fd, 100, 0)) == b"hello"
            assert (await volume.top.stat(volume.reader, fd)).size == 5
            assert (await volume.top.stat(volume.reader, fd.inode)).size == 5
            await volume.close(fd)

    trio.run(main)


def test_when_no_copy_can_be_read_the_error_is_that_of_the_copies() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            for edge in volume.replicate.children:
                place(edge, Fault("error", fops=frozenset({"readv"}), errno=errno.EIO))
            with refused(errno.EIO):
                await volume.read("f")

    trio.run(main)


def test_an_error_about_the_request_itself_is_not_asked_of_other_copies() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            inode = await volume.inode("f")
            other = Fault("error", fops=frozenset({"getxattr"}), errno=errno.EIO)
            place(volume.replicate.children[1], other)
            with refused(errno.ENODATA):
                await volume.top.getxattr(volume.reader, inode, b"user.absent")
            assert other.fired == 0

    trio.run(main)


def test_a_copy_that_failed_a_write_is_not_read_afterwards() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            place(volume.replicate.children[0], Fault("error", fops=frozenset({"writev"}), times=1))
            await volume.top.writev(volume.tick(), fd, b"HE", 0)
            assert bytes(await volume.top.readv(volume.reader, fd, 100, 0)) == b"HEllo"
            await volume.close(fd)
            assert volume.content(0, "f") == b"hello"

    trio.run(main)


def test_a_file_opened_for_reading_is_read_on_after_its_brick_died() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello world")
            fd = await volume.open("f", os.O_RDONLY)
            assert bytes(await volume.top.readv(volume.reader, fd, 5, 0)) == b"hello"
            await volume.bricks[0].kill()
            assert bytes(await volume.top.readv(volume.reader, fd, 6, 5)) == b" world"
            await volume.bricks[0].start()
            await volume.bricks[1].kill()
            assert bytes(await volume.top.readv(volume.reader, fd, 5, 0)) == b"hello"
            await volume.close(fd)

    trio.run(main)


def test_symbolic_links_and_checksums_are_read_from_a_copy_too() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.symlink("l", b"over/there")
            await volume.create("f", b"hello")
            await volume.bricks[0].kill()
            assert bytes(await volume.top.readlink(volume.reader, await volume.inode("l"))) == b"over/there"
            fd = await volume.open("f", os.O_RDONLY)
            weak, strong = await volume.top.rchecksum(volume.reader, fd, 0, 5)
            assert weak
            assert len(strong) in (16, 32)
            await volume.close(fd)

    trio.run(main)


def test_the_changelog_is_hidden_from_users_and_forbidden_to_them() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            await volume.setxattr("f", b"user.k", b"v")
            inode = await volume.inode("f")
            names = await volume.top.getxattr(volume.reader, inode, None)
            assert b"user.k" in names
            assert not [name for name in names if b"afr" in name]
            with refused(errno.ENODATA):
                await volume.top.getxattr(volume.reader, inode, b"trusted.afr.dirty")
            with refused(errno.EPERM):
                await volume.setxattr("f", b"trusted.afr.v-client-0", bytes(12))
            with refused(errno.EPERM):
                await volume.top.removexattr(volume.reader, inode, b"trusted.afr.dirty")

    trio.run(main)


# -- listing --------------------------------------------------------------------------------------------------------


def test_a_listing_shows_attributes_only_of_good_copies() -> None:
    async def main() -> None:
        async with served(2) as volume:
            for name in ("good", "stale"):
                await volume.create(name, b"12345")
            await volume.bricks[0].kill()
            await volume.append("stale", b"67890")
            await volume.bricks[0].start()
            await volume.remount()
            sizes = {entry.name: entry.iatt and entry.iatt.size for entry in await volume.listing("/", plus=True)}
            assert sizes == {b"good": 5, b"stale": None}

    trio.run(main)


def test_a_listing_goes_on_with_the_copy_it_began_with_or_not_at_all() -> None:
    async def main() -> None:
        async with served(2) as volume:
            for n in range(10):
                await volume.create(f"f{n}")
            fd = await volume.open("/", os.O_RDONLY)
            first: list[DirEntry] = await volume.top.readdir(volume.reader, fd, 4, 0, False)
            await volume.bricks[1].kill()
            rest = await volume.top.readdir(volume.reader, fd, 100, first[-1].offset, False)
            assert len({entry.name for entry in (*first, *rest)}) == 10
            await volume.bricks[1].start()
            await volume.bricks[0].kill()
            with refused(errno.ENOTCONN):
                await volume.top.readdir(volume.reader, fd, 100, first[-1].offset, False)
            assert len(await volume.top.readdir(volume.reader, fd, 100, 0, False)) == 10
            await volume.close(fd)

    trio.run(main)


def test_space_is_that_of_the_copy_that_has_least() -> None:
    async def main() -> None:
        async with served(2, sizes={1: 64 << 20}) as volume:
            space = await volume.top.statfs(volume.reader, volume.graph.itable.root)
            assert space.blocks * space.frsize <= 64 << 20

    if os.geteuid():
        pytest.skip("only root can make file systems")
    trio.run(main)


# -- which copy -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0),  # all are local
        ({"read_subvolume_index": "2"}, 2),
        ({"read_subvolume": "v-client-1"}, 1),
        ({"choose_local": "off", "read_hash_mode": "0"}, 0),
    ],
)
def test_the_copy_to_read_is_the_one_that_the_options_name(options: dict[str, str], expected: int) -> None:
    async def main() -> None:
        async with served(3, **options) as volume:
            await volume.create("f", b"hello")
            others = [edge for edge in volume.replicate.children if edge.index != expected]
            faults = [Fault("error", fops=frozenset({"readv"})) for _ in others]
            for edge, fault in zip(others, faults, strict=True):
                place(edge, fault)
            assert await volume.read("f") == b"hello"
            assert [fault.fired for fault in faults] == [0, 0]

    trio.run(main)


def test_by_gfid_one_file_is_read_from_one_copy_and_many_from_all() -> None:
    async def main() -> None:
        async with served(2, choose_local="off") as volume:
            for n in range(20):
                await volume.create(f"f{n}", b"x")
            counters = [reads_of(volume, child) for child in (0, 1)]
            for _ in range(3):
                await volume.read("f0")
            assert sorted(counter.fired for counter in counters) == [0, 3]
            for n in range(20):
                await volume.read(f"f{n}")
            assert all(counter.fired > 2 for counter in counters)

    trio.run(main)


@pytest.mark.parametrize("mode", ["3", "4", "5"])
def test_by_load_reads_that_run_side_by_side_are_spread(mode: str) -> None:
    async def main() -> None:
        async with served(2, choose_local="off", read_hash_mode=mode) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f", os.O_RDONLY)
            slow = [Fault("delay", fops=frozenset({"readv"}), delay_s=1) for _ in range(2)]
            for edge, fault in zip(volume.replicate.children, slow, strict=True):
                place(edge, fault)
            async with trio.open_nursery() as nursery:
                for _ in range(6):
                    nursery.start_soon(volume.top.readv, volume.reader, fd, 5, 0)
            if mode == "3":
                assert [fault.fired for fault in slow] == [3, 3]
            await volume.top.readv(volume.reader, fd, 5, 0)
            assert sum(fault.fired for fault in slow) == 7
            assert all(fault.fired for fault in slow)
            await volume.close(fd)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_listing_can_be_held_to_the_copy_that_serves_each_file() -> None:
    async def main() -> None:
        async with served(2, choose_local="off", consistent_metadata="yes") as volume:
            for n in range(12):
                await volume.create(f"f{n}", b"x")
            shown = [entry.iatt is not None for entry in await volume.listing("/", plus=True)]
            assert set(shown) == {True, False}
            volume.reconfigure(choose_local="off", consistent_metadata="no")
            assert all(entry.iatt is not None for entry in await volume.listing("/", plus=True))

    trio.run(main)


def test_a_directorys_copy_that_failed_a_change_is_not_listed_afterwards() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.mkdir("d")
            place(volume.replicate.children[0], Fault("error", fops=frozenset({"mkdir"}), times=1))
            await volume.mkdir("d/new")
            assert await volume.names_in("d") == ["new"]

    trio.run(main)


def test_attributes_are_not_taken_from_a_copy_that_failed_to_change_them() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f")
            inode = await volume.inode("f")
            place(volume.replicate.children[0], Fault("error", fops=frozenset({"setattr"}), times=1))
            await volume.chmod("f", 0o600)
            assert (await volume.top.stat(volume.reader, inode)).mode == 0o100600
            assert (await volume.lookup("f")).mode == 0o100600

    trio.run(main)


def test_a_copy_that_failed_is_not_read_even_before_that_is_recorded() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            place(volume.replicate.children[0], Fault("error", fops=frozenset({"writev"}), times=1))
            place(volume.replicate.children[1], Fault("delay", fops=frozenset({"xattrop"}), delay_s=10))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(volume.top.writev, volume.tick(), fd, b"HE", 0)
                await trio.sleep(15)  # marked, written on one copy, and the post-op is on its way
                assert volume.blames(1, "f") == {"dirty": (1, 0, 0)}
                assert bytes(await volume.top.readv(volume.reader, fd, 9, 0)) == b"HEllo"
            assert volume.blames(1, "f") == {"client-0": (1, 0, 0)}
            await volume.close(fd)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
