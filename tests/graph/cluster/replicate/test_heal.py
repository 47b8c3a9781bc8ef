"""Healing on real bricks: scenarios of GlusterFS's own tests (tests/basic/afr), named by their files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from errno import ENOENT, ENOTCONN

import trio

from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import refused


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main)


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


# -- entries ----------------------------------------------------------------------------------------------------------


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
