"""Healing on real bricks: scenarios of GlusterFS's own tests (tests/basic/afr), named by their files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from errno import ENOENT, ENOTCONN
from typing import Any

import pytest
import trio

from fusemux.bricks.storage.posix.rename import RENAME_EXCHANGE
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fops import Fop
from fusemux.graph.framework.linking import Method
from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused


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


def test_a_removed_directory_with_two_names_of_one_file_goes_from_a_copy_that_was_away() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await volume.mkdir("d")
            await volume.create("d/f", b"x")
            await volume.link("d/f", "d/g")
            async with without(volume, 1):
                await volume.unlink("d/f")
                await volume.unlink("d/g")
                await volume.rmdir("d")
            await healed(volume)
            assert volume.tree(1) == {}

    run(main)


class _DiesAfter:
    """Woven into the edge above a brick: it dies when it has done one fop."""

    suspends = False

    def __init__(self, volume: Volume, brick: int, fop: str) -> None:
        self.volume, self.brick, self.fop = volume, brick, fop
        volume.replicate.children[brick].weaver = self
        volume.graph.relink()

    def weave(self, fop: Fop, method: Method) -> Method:
        async def call(*args: Any) -> Any:
            reply = await method(*args)
            if fop.name == self.fop:
                self.volume.replicate.children[self.brick].weaver = None
                await self.volume.bricks[self.brick].kill()
                raise FopError(ENOTCONN, "died after the call")
            return reply

        return call


@pytest.mark.parametrize("fop", ["rename", "link"])
def test_a_copy_that_dies_over_the_healing_of_a_name_keeps_no_times_of_its_own(fop: str) -> None:
    """The name is there then and nothing is recorded any more of the file, so its times must have come with the name."""

    async def main() -> None:
        async with volume_of(2) as volume:
            await volume.mkdir("d")
            await volume.create("f", b"content")
            await volume.mkdir("moved")
            async with without(volume, 0):
                await volume.rename("moved", "d/moved")
                await volume.link("f", "d/f")
            _DiesAfter(volume, 0, fop)
            for path in ("d/moved", "d/f"):
                await volume.lookup(path)
            assert not volume.replicate.members.complete
            await volume.bricks[0].start()
            await healed(volume)

    run(main)


@pytest.mark.parametrize("granular", ["on", "off"])
@pytest.mark.parametrize("count", [2, 3])
def test_what_was_renamed_and_back_again_while_a_copy_was_away_has_the_same_times_everywhere(
    count: int, granular: str
) -> None:
    async def main() -> None:
        async with volume_of(count, granular_entry_heal=granular) as volume:
            await volume.create("file", b"content")
            for path in ("directory", "sub", "sub/inner"):
                await volume.mkdir(path)
            for path in ("one", "other", "sub/third"):
                await volume.create(path, b"content")
            async with without(volume, 1):
                for path in ("file", "directory"):
                    await volume.rename(path, "sub/elsewhere")
                    await volume.rename("sub/elsewhere", path)
                for _ in range(2):
                    await volume.rename("one", "other", RENAME_EXCHANGE)
                    await volume.rename("sub/inner", "sub/third", RENAME_EXCHANGE)
            await healed(volume)

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
