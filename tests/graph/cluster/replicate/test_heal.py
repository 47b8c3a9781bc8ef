"""Healing on real bricks: scenarios of GlusterFS's own tests (tests/basic/afr), named by their files."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from errno import ENOENT, ENOTCONN

import trio

from fusemux.bricks import prepare
from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import VOLUME_ID, refused


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main)


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
            await volume.mkdir("kept")
            await volume.create("kept/file", b"content" * 1000)
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
