"""Healing on real bricks: scenarios of GlusterFS's own tests (tests/basic/afr), named by their files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from errno import ENOENT, ENOTCONN

import pytest
import trio

from fusemux.bricks import prepare
from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import VOLUME_ID, Volume, refused


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main)


# -- self-heal.t: eight rounds ---------------------------------------------------------------------------------------


async def _prepare(volume: Volume) -> None:
    for name in ("trunc", "owned", "becomes-dir", "mode", "appended", "again", "linked"):
        await volume.create(name, name.encode() * 100)
    for name in ("gone", "gone/inner", "kept"):
        await volume.mkdir(name)
    await volume.setxattr("mode", b"user.old", b"1")
    await volume.link("linked", "second-name")


async def _new_and_removed(volume: Volume) -> None:
    await volume.truncate("trunc", 10)
    await volume.rmdir("gone/inner")
    await volume.rmdir("gone")
    await volume.mkdir("new")
    await volume.mkdir("new/deep")
    await volume.create("new/deep/file", os.urandom(3 << 20))


async def _file_becomes_directory(volume: Volume) -> None:
    await volume.unlink("becomes-dir")
    await volume.mkdir("becomes-dir")
    await volume.create("becomes-dir/inside", b"x")


async def _mode(volume: Volume) -> None:
    await volume.chmod("mode", 0o4755)


async def _append(volume: Volume) -> None:
    await volume.append("appended", b"more" * 50000)


async def _deleted_and_made_again(volume: Volume) -> None:
    await volume.unlink("again")
    await volume.create("again", b"another file")


async def _links(volume: Volume) -> None:
    await volume.unlink("second-name")
    await volume.symlink("second-name", b"linked")
    await volume.link("linked", "third-name")


async def _xattrs(volume: Volume) -> None:
    await volume.setxattr("mode", b"user.old", b"2")
    await volume.setxattr("mode", b"user.new", b"3")
    await volume.setxattr("kept", b"user.on-directory", b"4")


async def _renames(volume: Volume) -> None:
    await volume.rename("linked", "kept/moved")
    await volume.rename("kept", "elsewhere")
    await volume.mknod("fifo", 0o010644)


@pytest.mark.parametrize("away", [0, 1])
@pytest.mark.parametrize(
    "change",
    [_new_and_removed, _file_becomes_directory, _mode, _append, _deleted_and_made_again, _links, _xattrs, _renames],
    ids=lambda change: change.__name__.strip("_"),
)
def test_self_heal(change: Callable[[Volume], Awaitable[None]], away: int) -> None:
    """What changed while a brick was down is on it after healing, and nothing is healed backwards."""

    async def main() -> None:
        async with volume_of() as volume:
            await _prepare(volume)
            async with without(volume, away):
                await change(volume)
            wanted = volume.tree(1 - away)
            await healed(volume)
            assert volume.tree(away).keys() == wanted.keys()
            assert {path: shape[5] for path, shape in volume.tree(away).items()} == {
                path: shape[5] for path, shape in wanted.items()
            }

    run(main)


def test_self_heal_of_changes_on_both_sides_in_turn() -> None:
    """Append while one is down, truncate to nothing while the other is down right after: empty on both."""

    async def main() -> None:
        async with volume_of(3) as volume:
            await volume.create("f", b"x" * 1000)
            async with without(volume, 0):
                await volume.append("f", b"y" * 1000)
            async with without(volume, 1):
                await volume.truncate("f", 0)
            await healed(volume)
            assert volume.content(0, "f") == b""

    run(main)


def test_self_heald_heals_by_itself_when_the_brick_comes_back() -> None:
    async def main() -> None:
        async with volume_of(self_heal_daemon="on") as volume:
            await volume.create("f", b"old")
            async with without(volume, 0):
                await volume.write("f", b"new")
                assert volume.blames(1, "f") == {"client-0": (1, 0, 0)}
            with trio.fail_after(5):
                while volume.blames(1, "f"):
                    await trio.lowlevel.checkpoint()
            assert volume.content(0, "f") == b"new"

    run(main)


def test_healing_waits_until_all_copies_are_there() -> None:
    async def main() -> None:
        async with volume_of(3) as volume:
            await volume.create("f", b"old")
            await volume.bricks[0].kill()
            await volume.write("f", b"new")
            with refused(ENOTCONN):
                await volume.replicate.healer.sweep()
            assert volume.blames(1, "f")
            await volume.bricks[0].start()
            await healed(volume)

    run(main)


def test_self_heald_counts_what_is_pending() -> None:
    """Files count once, and the directory; what was made and deleted again does not."""

    async def main() -> None:
        async with volume_of() as volume:
            for n in range(5):
                await volume.create(f"f{n}", b"x")
            async with without(volume, 0):
                for n in range(5):
                    await volume.write(f"f{n}", b"y")
                await volume.create("new", b"z")
                await volume.create("temporary", b"z")
                await volume.unlink("temporary")
            await healed(volume)
            async with without(volume, 0):
                for n in range(5):
                    await volume.write(f"f{n}", b"y")
            assert len(await volume.replicate.healer.listed()) == 5
            await healed(volume)

    run(main)


# -- entries ----------------------------------------------------------------------------------------------------------


def test_entry_self_heal_merges_when_both_sides_changed() -> None:
    """A conservative merge keeps the names of both sides."""

    async def main() -> None:
        async with volume_of() as volume:
            await volume.mkdir("d")
            await volume.create("d/common", b"c")
            async with without(volume, 1):
                await volume.create("d/first", b"1")
            await volume.bricks[0].kill()
            await volume.remount(self_heal_daemon="off", granular_entry_heal="on")
            await volume.create("d/second", b"2")
            await volume.bricks[0].start()
            await healed(volume)
            assert await volume.names_in("d") == ["common", "first", "second"]
            assert await volume.read("d/first") == b"1"

    run(main)


def test_replace_brick_self_heal() -> None:
    """An empty brick gets everything; the good one is never emptied."""

    async def main() -> None:
        async with volume_of() as volume:
            await _prepare(volume)
            await volume.bricks[1].kill()
            shutil.rmtree(volume.bricks[1].path)
            prepare.prepare(volume.bricks[1].path, VOLUME_ID)
            await volume.bricks[1].start()
            await volume.replicate.healer.accuse_new(1)
            wanted = volume.tree(0)
            await healed(volume)
            assert volume.tree(1) == wanted

    run(main)


def test_stale_index_entries_of_files_that_are_gone_are_removed() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await volume.create("f", b"x")
            async with without(volume, 1):
                await volume.write("f", b"y")
                await volume.unlink("f")
            await healed(volume)
            with refused(ENOENT):
                await volume.lookup("f")

    run(main)


def test_sparse_file_self_heal_keeps_holes() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            async with without(volume, 1):
                await volume.create("sparse", b"begin")
                await volume.write("sparse", b"end", 64 << 20)
            await healed(volume)
            used = [os.stat(volume.at(brick, "sparse")).st_blocks for brick in (0, 1)]
            assert used[1] * 512 < 1 << 20
            assert volume.content(1, "sparse") == volume.content(0, "sparse")

    run(main)


def test_the_self_healer_goes_on_after_a_syncfs() -> None:
    async def main() -> None:
        async with volume_of(self_heal_daemon="on") as volume:
            await volume.create("f", b"old")
            await volume.top.syncfs(volume.tick(), volume.graph.itable.root)
            async with without(volume, 0):
                await volume.write("f", b"new")
            with trio.fail_after(5):
                while volume.blames(1, "f"):
                    await trio.lowlevel.checkpoint()

    run(main)
