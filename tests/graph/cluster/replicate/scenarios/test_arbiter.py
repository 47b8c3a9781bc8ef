"""Two copies and an arbiter, which has every name and no data."""

from __future__ import annotations

import os
import struct
from errno import ENOTCONN

import pytest
import trio
import trio.testing

from fusemux.testing.graph import GraphVolume
from tests.graph.cluster.replicate.healing import down, up, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused, served


async def _healed(volume: Volume) -> None:
    """Heal, and check that nothing is left to do and the arbiter has no data."""
    progress = await volume.replicate.healer.sweep()
    assert (progress.failed, progress.split_brain) == (0, 0)
    assert [volume.all_marks(brick) for brick in range(3)] == [{}] * 3
    assert await volume.replicate.healer.listed() == set()
    trees = [volume.tree(brick) for brick in range(3)]
    assert trees[0].keys() == trees[1].keys() == trees[2].keys()
    assert all(shape[5] in (b"", None) for shape in trees[2].values())


# -- arbiter.t -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arbiter", [pytest.param(n, marks=pytest.mark.fusemux(replica=3, arbiter=n, backend="graph")) for n in (0, 1)]
)
def test_arbiter_is_an_option_of_sets_that_have_one(fusemux_volume: GraphVolume, arbiter: int) -> None:
    assert ("option arbiter-count 1" in fusemux_volume.graph) is bool(arbiter)


def test_arbiter() -> None:
    """When only the arbiter's copy is good, nothing is read and nothing changed; with a good data brick everything works."""

    async def main() -> None:
        async with volume_of(3, arbiter_count="1") as volume:
            await volume.create("f", b"hello")
            await volume.setxattr("f", b"user.k", b"v")
            await down(volume, 1)
            await volume.write("f", b"HE")
            await volume.setxattr("f", b"user.k", b"w")
            await up(volume, 1)
            await down(volume, 0)
            inode = await volume.inode("f")
            for act in (
                lambda: volume.read("f"), lambda: volume.truncate("f", 3), lambda: volume.append("f", b"xx"),
                lambda: volume.setxattr("f", b"user.k", b"x"), lambda: volume.chmod("f", 0o600),
                lambda: volume.top.getxattr(volume.reader, inode, b"user.k"), lambda: volume.top.stat(volume.reader, inode),
            ):  # fmt: skip
                with refused(ENOTCONN):
                    await act()
            with refused(ENOTCONN):
                await volume.replicate.healer.sweep()
            assert volume.content(1, "f") == b"hello"
            await up(volume, 0)
            assert await volume.read("f") == b"HEllo"
            await volume.write("f", b"xx")
            assert await volume.top.getxattr(volume.reader, inode, b"user.k") == {b"user.k": b"w"}
            await _healed(volume)
            assert [volume.content(brick, "f") for brick in range(3)] == [b"xxllo", b"xxllo", b""]

    trio.run(main)


async def _left_to_the_arbiter(volume: Volume, name: bytes) -> None:
    """Take a name from both data copies as if their part of making it had never come; then heal."""
    parent, inode = volume.graph.itable.root, await volume.inode(name.decode())
    for brick in (0, 1):
        await volume.replicate.children[brick].unlink(volume.replicate.internal, parent, name, inode, None)
    for brick in range(3):
        volume.set_mark(brick, "", "dirty", (0, 0, 1))
    await volume.replicate.healer.sweep(full=True)
    await _healed(volume)
    assert volume.tree(0) == volume.tree(1)


def test_arbiter_gives_a_name_back_without_the_times_that_it_does_not_know() -> None:
    """It never hears when a file is written."""

    async def main() -> None:
        async with volume_of(3, arbiter_count="1") as volume:
            await volume.create("f", b"hello")
            await volume.link("f", "g")
            await volume.write("f", b"HE")
            await trio.sleep(2)
            written = (await volume.lookup("f")).mtime_ns
            await _left_to_the_arbiter(volume, b"g")
            assert [volume.has(brick, "g") for brick in range(3)] == [True] * 3
            assert (await volume.lookup("f")).mtime_ns == written

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_arbiter_alone_with_a_file_of_which_nobody_has_contents_gives_it_up() -> None:
    """Whoever was making it died before the data copies heard of it, or removing it after they had."""

    async def main() -> None:
        async with volume_of(3, arbiter_count="1") as volume:
            await volume.create("new")
            await _left_to_the_arbiter(volume, b"new")
            assert [volume.has(brick, "new") for brick in range(3)] == [False] * 3

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_arbiter_gives_up_a_file_of_which_it_and_a_stale_copy_are_left() -> None:
    """Whoever was removing it died when the one copy with good contents had heard of it."""

    async def main() -> None:
        async with volume_of(3, arbiter_count="1") as volume:
            await volume.create("f", b"old")
            async with without(volume, 0):
                await volume.write("f", b"newer")
                parent, inode = volume.graph.itable.root, await volume.inode("f")
                await trio.sleep(2)
                await volume.replicate.children[1].unlink(volume.replicate.internal, parent, b"f", inode, None)
                for brick in (1, 2):
                    volume.set_mark(brick, "", "dirty", (0, 0, 1))
                    volume.set_mark(brick, "", "client-0", (0, 0, 1))
            await volume.replicate.healer.sweep(full=True)
            await _healed(volume)
            assert [volume.has(brick, "f") for brick in range(3)] == [False] * 3

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_arbiter_keeps_a_file_that_the_others_may_have_lost_with_their_power() -> None:
    async def main() -> None:
        async with volume_of(3, arbiter_count="1") as volume:
            await volume.create("new")
            parent, inode = volume.graph.itable.root, await volume.inode("new")
            for brick in (0, 1):
                await volume.replicate.children[brick].unlink(volume.replicate.internal, parent, b"new", inode, None)
            for brick in range(3):
                volume.set_mark(brick, "", "dirty", (0, 0, 1))
            volume.replicate.suspects = 0b011
            await volume.replicate.healer.sweep(full=True)
            assert volume.has(2, "new")

    trio.run(main)


def test_arbiter_keeps_names_and_attributes_and_no_data() -> None:
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
def test_arbiter_and_one_data_brick_are_enough(away: int) -> None:
    async def main() -> None:
        async with served(3, arbiter_count="1") as volume:
            await volume.create("f", b"hello")
            await down(volume, away)
            await volume.write("f", b"HE")
            assert await volume.read("f") == b"HEllo"
            good = [brick for brick in range(3) if brick != away]
            assert [volume.blames(brick, "f") for brick in good] == [{f"client-{away}": (1, 0, 0)}] * 2

    trio.run(main)


def _accuse(volume: Volume, by: int, accused: int, path: str) -> None:
    os.setxattr(volume.at(by, path), f"trusted.afr.v-client-{accused}", struct.pack(">3i", 1, 0, 0))


def test_arbiter_is_no_source_of_contents() -> None:
    """All are up, and only the arbiter's copy is accused by nobody: the contents stay as they are, and pending."""

    async def main() -> None:
        async with volume_of(3, arbiter_count="1") as volume:
            await volume.create("f", b"hello")
            for accused in (0, 1):
                _accuse(volume, 2, accused, "f")
            healed = await volume.replicate.healer.heal((await volume.lookup("f")).gfid)
            assert healed.pending
            assert [volume.content(brick, "f") for brick in range(3)] == [b"hello", b"hello", b""]
            assert volume.blames(2, "f") == {"client-0": (1, 0, 0), "client-1": (1, 0, 0)}

    trio.run(main)


# -- arbiter-do-not-compare-size.t ---------------------------------------------------------------------------------


@pytest.mark.parametrize("away", [0, 1])
def test_arbiter_do_not_compare_size(away: int) -> None:
    """The sizes of the good data brick and the arbiter differ, and that says nothing: the data brick's is the file."""

    async def main() -> None:
        async with volume_of(3, arbiter_count="1") as volume:
            await volume.create("f", b"old and long")
            async with without(volume, away):
                await volume.truncate("f", 0)
                await volume.write("f", b"new")
            for brick in (1 - away, 2):  # and a transaction that was never finished
                os.setxattr(volume.at(brick, "f"), "trusted.afr.dirty", struct.pack(">3i", 1, 0, 0))
            await volume.remount(self_heal_daemon="off", arbiter_count="1")
            assert (await volume.lookup("f")).size == 3
            assert await volume.read("f") == b"new"
            await _healed(volume)
            assert [volume.content(brick, "f") for brick in range(3)] == [b"new", b"new", b""]

    trio.run(main)


# -- arbiter-mount.t -----------------------------------------------------------------------------------------------


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


# -- arbiter-statfs.t ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make file systems")
def test_arbiter_statfs() -> None:
    """The arbiter's little space does not count."""

    async def main() -> None:
        async with served(3, arbiter_count="1", sizes={0: 64 << 20, 1: 64 << 20, 2: 4 << 20}) as volume:
            space = await volume.top.statfs(volume.reader, volume.graph.itable.root)
            assert space.blocks * space.frsize > 32 << 20

    trio.run(main)
