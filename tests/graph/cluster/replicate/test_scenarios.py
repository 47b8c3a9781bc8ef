"""Scenarios of GlusterFS's own tests (tests/basic/afr), named by their files, that concern what is written and served.

Healing is not among them: here copies stay as different as they have become.
"""

from __future__ import annotations

import errno
import fcntl
import os
from errno import EIO, ENOTCONN

import pytest
import trio

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Flock
from tests.graph.cluster.replicate.volume import Volume, refused, served


async def down(volume: Volume, *bricks: int) -> None:
    for brick in bricks:
        await volume.bricks[brick].kill()


async def up(volume: Volume, *bricks: int) -> None:
    for brick in bricks:
        await volume.bricks[brick].start()


async def split(volume: Volume, path: str, *, same_size: bool = True) -> None:
    """Give the two copies of a file different contents, each made while the other was away."""
    await down(volume, 1)
    await volume.write(path, b"ONE")
    await up(volume, 1)
    await down(volume, 0)
    fd = volume.graph.itable.fd(volume.graph.itable.link((await volume.lookup(path)).gfid, 0o100000), os.O_WRONLY)
    # the copy that is left is accused by the one that is away, which nobody can know now
    await volume.remount()
    await volume.write(path, b"TWO" if same_size else b"TWOTWO")
    await up(volume, 0)
    del fd


# -- quorum.t ------------------------------------------------------------------------------------------------------

WORKS, FAILS = True, False


@pytest.mark.parametrize(
    ("count", "options", "away", "works"),
    [
        (2, {"quorum_type": "fixed", "quorum_count": "2"}, [0], FAILS),
        (2, {"quorum_type": "fixed", "quorum_count": "2"}, [1], FAILS),
        (2, {"quorum_type": "auto"}, [0], FAILS),
        (2, {"quorum_type": "auto"}, [1], WORKS),
        (2, {"quorum_type": "none"}, [0], WORKS),
        (2, {}, [0], WORKS),
        (2, {}, [1], WORKS),
        (3, {"quorum_type": "fixed", "quorum_count": "3"}, [2], FAILS),
        (3, {"quorum_type": "auto"}, [1], WORKS),
        (3, {"quorum_type": "auto"}, [0, 1], FAILS),
        (3, {"quorum_type": "none"}, [0, 1], WORKS),
        (3, {}, [2], WORKS),
        (3, {}, [1, 2], FAILS),
        (2, {}, [0, 1], FAILS),
    ],
)
def test_quorum(count: int, options: dict[str, str], away: list[int], works: bool) -> None:
    """Reads and writes work with a quorum of copies and fail without; up again they work again."""

    async def main() -> None:
        async with served(count, **options) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            await down(volume, *away)
            for act in (
                lambda: volume.create("new"), lambda: volume.write("f", b"x"), lambda: volume.read("f"),
                lambda: volume.top.writev(volume.tick(), fd, b"y", 0), lambda: volume.top.readv(volume.reader, fd, 1, 0),
                lambda: volume.chmod("f", 0o600), lambda: volume.names_in("/"), lambda: volume.top.fsync(volume.tick(), fd, False),
                lambda: volume.top.statfs(volume.reader, fd.inode), lambda: volume.top.stat(volume.reader, fd),
            ):  # fmt: skip
                if works:
                    await act()
                else:
                    with refused(ENOTCONN):
                        await act()
            await up(volume, *away)
            await volume.write("f", b"z")
            await volume.close(fd)

    trio.run(main)


def test_quorum_can_be_changed_while_the_volume_runs() -> None:
    async def main() -> None:
        async with served(3) as volume:
            await volume.create("f", b"hello")
            await down(volume, 1, 2)
            with refused(ENOTCONN):
                await volume.write("f", b"x")
            volume.reconfigure(quorum_type="none")
            await volume.write("f", b"x")
            volume.reconfigure(quorum_type="fixed", quorum_count="2")
            with refused(ENOTCONN):
                await volume.write("f", b"y")

    trio.run(main)


# -- lk-quorum.t ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "options", "away", "works"),
    [
        (2, {}, [0], WORKS),
        (2, {}, [1], WORKS),
        (2, {"quorum_type": "fixed", "quorum_count": "2"}, [1], FAILS),
        (2, {"quorum_type": "fixed", "quorum_count": "1"}, [0], WORKS),
        (2, {"quorum_type": "auto"}, [0], FAILS),
        (2, {"quorum_type": "auto"}, [1], WORKS),
        (3, {}, [0], WORKS),
        (3, {}, [2], WORKS),
        (3, {}, [0, 2], FAILS),
        (2, {}, [0, 1], FAILS),
    ],
)
def test_lk_quorum(count: int, options: dict[str, str], away: list[int], works: bool) -> None:
    """The same table for record locks on a file that is open."""

    async def main() -> None:
        async with served(count, on_bricks=("features/locks",), **options) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            await down(volume, *away)
            lock = Flock(fcntl.F_WRLCK, 0, 0, 1, 77)
            if works:
                await volume.top.lk(volume.reader, fd, fcntl.F_SETLK, lock)
                await volume.top.lk(volume.reader, fd, fcntl.F_SETLK, lock._replace(type=fcntl.F_UNLCK))
            else:
                with refused(ENOTCONN):
                    await volume.top.lk(volume.reader, fd, fcntl.F_SETLK, lock)
            await up(volume, *away)
            await volume.close(fd)

    trio.run(main)


def test_a_lock_that_one_copy_refuses_is_given_back_on_the_others() -> None:
    async def main() -> None:
        async with served(2, on_bricks=("features/locks",)) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            mine, theirs = (Flock(fcntl.F_WRLCK, 0, 0, owner, owner) for owner in (1, 2))
            await volume.replicate.children[1].lk(volume.reader, fd, fcntl.F_SETLK, theirs)
            with refused(errno.EAGAIN):
                await volume.top.lk(volume.reader, fd, fcntl.F_SETLK, mine)
            await volume.replicate.children[0].lk(volume.reader, fd, fcntl.F_SETLK, theirs)
            found = await volume.top.lk(volume.reader, fd, fcntl.F_GETLK, mine)
            assert found.type == fcntl.F_WRLCK
            await volume.close(fd)

    trio.run(main)


@pytest.mark.parametrize("away", [(), (0,), (1, 2)])
def test_internal_locks_are_taken_on_a_quorum_and_let_go(away: tuple[int, ...]) -> None:
    async def main() -> None:
        async with served(3, on_bricks=("features/locks",)) as volume:
            root = volume.graph.itable.root
            await down(volume, *away)
            lock = Flock(fcntl.F_WRLCK, 0, 0, 1, 1)
            unlock = lock._replace(type=fcntl.F_UNLCK)
            for _ in range(2):
                try:
                    await volume.top.inodelk(volume.reader, "dht", root, fcntl.F_SETLK, lock)
                    await volume.top.entrylk(volume.reader, "dht", root, b"n", 2, 1)
                except FopError as error:
                    assert (error.errno, len(away)) == (ENOTCONN, 2)
                    continue
                await volume.top.inodelk(volume.reader, "dht", root, fcntl.F_SETLK, unlock)
                await volume.top.entrylk(volume.reader, "dht", root, b"n", 1, 1)

    trio.run(main)


# -- read-subvol-data.t, read-subvol-entry.t, stale-file-lookup.t, afr-up.t ----------------------------------------


@pytest.mark.parametrize("remount", [False, True])
def test_read_subvol_data(remount: bool) -> None:
    """A file grown while the copy that reads are pinned to was away is seen at its new size."""

    async def main() -> None:
        async with served(2, read_subvolume_index="0") as volume:
            await volume.create("f", bytes(1000))
            await down(volume, 0)
            await volume.append("f", bytes(9000))
            await up(volume, 0)
            if remount:
                await volume.remount(read_subvolume_index="0")
            assert (await volume.lookup("f")).size == 10000
            assert (await volume.top.stat(volume.reader, await volume.inode("f"))).size == 10000
            assert len(await volume.read("f")) == 10000

    trio.run(main)


@pytest.mark.parametrize("remount", [False, True])
def test_read_subvol_entry(remount: bool) -> None:
    """An entry made while the copy that reads are pinned to was away is listed as soon as it is back."""

    async def main() -> None:
        async with served(2, read_subvolume_index="0") as volume:
            await volume.mkdir("d")
            await down(volume, 0)
            await volume.create("d/f")
            await up(volume, 0)
            if remount:
                await volume.remount(read_subvolume_index="0")
            assert await volume.names_in("d") == ["f"]
            assert (await volume.lookup("d/f")).size == 0

    trio.run(main)


@pytest.mark.parametrize("remount", [False, True])
def test_stale_file_lookup(remount: bool) -> None:
    """A file deleted while a copy was away stays deleted when that copy comes back with it."""

    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"x")
            await down(volume, 0)
            await volume.unlink("f")
            await up(volume, 0)
            if remount:
                await volume.remount()
            assert os.path.exists(volume.at(0, "f"))
            with refused(errno.ENOENT):
                await volume.lookup("f")

    trio.run(main)


def test_afr_up() -> None:
    """A set without quorum counts as down, with it as up."""

    async def main() -> None:
        async with served(3) as volume:
            members = volume.replicate.members
            await down(volume, 2)
            assert members.serving is True
            await down(volume, 1)
            assert members.serving is False
            await up(volume, 1)
            assert members.serving is True

    trio.run(main)


# -- split-brain-open.t, gfid-mismatch.t, name-self-heal.t, afr-seek.t ---------------------------------------------


@pytest.mark.parametrize("same_size", [True, False])
def test_split_brain_open(same_size: bool) -> None:
    """A file whose copies accuse each other can be looked up, but not opened, read or changed."""

    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"old")
            await split(volume, "f", same_size=same_size)
            assert volume.blames(0, "f") == {"client-1": (1, 0, 0)}
            assert volume.blames(1, "f") == {"client-0": (1, 0, 0)}
            await volume.lookup("f")
            for flags in (os.O_RDONLY, os.O_WRONLY | os.O_APPEND):
                with refused(EIO):
                    await volume.open("f", flags)
            with refused(EIO):
                await volume.truncate("f", 0)
            await volume.unlink("f")

    trio.run(main)


def test_gfid_mismatch() -> None:
    """A name that is another file on each copy, with nothing to tell which is right, is an error for all who look."""

    async def main() -> None:
        async with served(2, quorum_type="auto") as volume:
            for brick in (0, 1):  # made behind replicate's back, on one copy after the other
                table, child = volume.graph.itable, volume.replicate.children[brick]
                await child.mknod(volume.tick(), table.root, b"f", 0o100644, 0, volume.process.new_gfid())
            with refused(EIO):
                await volume.lookup("f")
            assert await volume.names_in("/") == ["f"]

    trio.run(main)


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


@pytest.mark.parametrize(
    ("offset", "whence", "expected"),
    [
        (0, os.SEEK_DATA, 0),
        (0, os.SEEK_HOLE, 1 << 16),
        (1 << 16, os.SEEK_DATA, 1 << 17),
        (100_000, os.SEEK_HOLE, 100_000),
        ((1 << 17) + 5, os.SEEK_HOLE, (1 << 17) + (1 << 16)),
    ],
)
def test_afr_seek(offset: int, whence: int, expected: int) -> None:
    """Data, a hole, data: the answers of the file system below."""

    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"d" * (1 << 16))
            await volume.write("f", b"d" * (1 << 16), 1 << 17)
            fd = await volume.open("f")
            assert await volume.top.seek(volume.reader, fd, offset, whence) == expected
            with refused(errno.ENXIO):
                await volume.top.seek(volume.reader, fd, 1 << 20, whence)
            await volume.close(fd)

    trio.run(main)


def test_tarissue() -> None:
    """Times of one file do not differ by which copy tells them."""

    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            looked = await volume.lookup("f")
            inode = await volume.inode("f")
            times = set()
            for edge in volume.replicate.children:
                stat = await edge.stat(volume.reader, inode)
                times.add((stat.mtime_ns, stat.ctime_ns))
            assert times == {(looked.mtime_ns, looked.ctime_ns)}

    trio.run(main)


def test_a_mode_changed_behind_our_back_on_one_copy_does_not_disturb() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            os.chmod(volume.at(1, "f"), 0o640)
            assert (await volume.lookup("f")).mode == 0o100644
            assert await volume.read("f") == b"hello"

    trio.run(main)


# -- arbiter.t, arbiter-mount.t, arbiter-statfs.t, afr-read-hash-mode.t --------------------------------------------


def test_the_arbiter_keeps_names_and_attributes_and_no_data() -> None:
    async def main() -> None:
        async with served(3, arbiter_count="1") as volume:
            await volume.create("f", b"hello")
            await volume.append("f", b" world")
            await volume.chmod("f", 0o600)
            assert [len(volume.content(brick, "f")) for brick in range(3)] == [11, 11, 0]
            assert os.lstat(volume.at(2, "f")).st_mode == 0o100600
            assert (await volume.lookup("f")).size == 11
            assert [volume.all_marks(brick) for brick in range(3)] == [{}, {}, {}]

    trio.run(main)


@pytest.mark.parametrize("away", [0, 1, 2])
def test_with_an_arbiter_any_one_brick_may_be_away(away: int) -> None:
    async def main() -> None:
        async with served(3, arbiter_count="1") as volume:
            await volume.create("f", b"hello")
            await down(volume, away)
            await volume.write("f", b"HE")
            assert await volume.read("f") == b"HEllo"
            good = [brick for brick in range(3) if brick != away]
            assert [volume.blames(brick, "f") for brick in good] == [{f"client-{away}": (1, 0, 0)}] * 2

    trio.run(main)


def test_arbiter() -> None:
    """When only the arbiter's copy is good, nothing is read and nothing changed; with a good data brick everything works."""

    async def main() -> None:
        async with served(3, arbiter_count="1") as volume:
            await volume.create("f", b"hello")
            await volume.setxattr("f", b"user.k", b"v")
            await down(volume, 1)
            await volume.write("f", b"HE")
            await volume.setxattr("f", b"user.k", b"w")
            await up(volume, 1)
            await down(volume, 0)
            inode = await volume.inode("f")
            for act in (
                lambda: volume.read("f"), lambda: volume.truncate("f", 3), lambda: volume.write("f", b"xx"),
                lambda: volume.setxattr("f", b"user.k", b"x"), lambda: volume.chmod("f", 0o600),
                lambda: volume.top.getxattr(volume.reader, inode, b"user.k"), lambda: volume.top.stat(volume.reader, inode),
            ):  # fmt: skip
                with refused(ENOTCONN):
                    await act()
            await up(volume, 0)
            assert await volume.read("f") == b"HEllo"
            await volume.write("f", b"xx")
            assert await volume.top.getxattr(volume.reader, inode, b"user.k") == {b"user.k": b"w"}

    trio.run(main)


def test_arbiter_mount() -> None:
    """With the arbiter alone nothing is served."""

    async def main() -> None:
        async with served(3, arbiter_count="1") as volume:
            await down(volume, 0, 1)
            assert volume.replicate.members.serving is False
            with refused(ENOTCONN):
                await volume.lookup("/")
            await up(volume, 0, 1)
            assert await volume.names_in("/") == []

    trio.run(main)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make file systems")
def test_arbiter_statfs() -> None:
    """The arbiter's little space does not count."""

    async def main() -> None:
        async with served(3, arbiter_count="1", sizes={0: 64 << 20, 1: 64 << 20, 2: 4 << 20}) as volume:
            space = await volume.top.statfs(volume.reader, volume.graph.itable.root)
            assert space.blocks * space.frsize > 32 << 20

    trio.run(main)


@pytest.mark.parametrize("options", [{}, {"choose_local": "off"}, {"read_subvolume_index": "2"}])
def test_afr_read_hash_mode(options: dict[str, str]) -> None:
    """Whatever the policy, nothing is ever read from the arbiter."""

    async def main() -> None:
        async with served(3, arbiter_count="1", **options) as volume:
            for n in range(20):
                await volume.create(f"f{n}", b"hello")
            for n in range(20):
                assert await volume.read(f"f{n}") == b"hello"
                assert (await volume.lookup(f"f{n}")).size == 5
            assert all(entry.iatt is None or entry.iatt.size == 5 for entry in await volume.listing("/", plus=True))

    trio.run(main)
