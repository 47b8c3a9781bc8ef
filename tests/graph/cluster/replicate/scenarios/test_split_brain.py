"""Split-brain: what cannot be used any more, and the commands that settle it."""

from __future__ import annotations

import os
from errno import EIO
from pathlib import Path
from uuid import UUID

import pytest
import trio

from fusemux.graph.cluster.replicate.heal.resolve import choice, resolve
from fusemux.graph.framework.errors import FusemuxError
from fusemux.testing.graph import GraphVolume
from tests.graph.cluster.replicate.healing import healed, split, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused

# Copies that may each go on alone, and no healing but by command.
ALONE = {"cluster.quorum-type": "none", "cluster.self-heal-daemon": "off"}


# -- split-brain-open.t --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same_size", [True, False])
def test_split_brain_open(same_size: bool) -> None:
    """A file whose copies accuse each other can be looked up, but not opened, read or changed."""

    async def main() -> None:
        async with volume_of() as volume:
            await volume.create("f", b"old")
            await split(volume, "f", b"ONE", b"TWO" if same_size else b"TWOTWO")
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


def test_split_brain_open_is_refused_after_a_heal_that_could_not_decide() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await volume.create("f", b"old")
            await split(volume, "f", b"one", b"two")
            progress = await volume.replicate.healer.sweep()
            assert progress.split_brain == 1
            with refused(EIO):
                await volume.read("f")
            assert (volume.content(0, "f"), volume.content(1, "f")) == (b"one", b"two")

    trio.run(main)


# -- split-brain-healing.t -----------------------------------------------------------------------------------------

OLDER, NEWER = b"the older one, which is bigger", b"newer"


async def _all_apart(volume: GraphVolume, names: list[str]) -> None:
    """The second brick of each set gets the older and bigger contents, the first the newer ones."""
    for name in names:
        await volume.write(name, b"")
    for brick in (0, 2):
        await volume.brick(brick).kill()
    for name in names:
        await volume.write(name, OLDER)
    for brick, start in ((1, 0), (3, 2)):
        await volume.brick(brick).kill()
        await volume.brick(start).start()
    for name in names:
        await volume.write(name, NEWER)
    for brick in (1, 3):
        await volume.brick(brick).start()


def _copies(volume: GraphVolume, name: str) -> list[Path]:
    """Where the copies of a file lie, in the order of the bricks."""
    return [path for brick in volume.bricks if (path := brick.path / name.strip("/")).exists()]


async def _settle(volume: GraphVolume, *, by_gfid: bool, name: str, how: str, brick: int | None = None) -> None:
    """As `fusemux volume heal NAME split-brain HOW ...` asks for it."""
    path = f"gfid:{UUID(bytes=(await volume.lookup(name)).gfid)}" if by_gfid else name
    where = None if brick is None else str(volume.bricks[brick].path)
    assert await volume.order("heal-split-brain", how=how, brick=where, path=path) == [path]


@pytest.mark.fusemux("2x2", backend="graph", options=ALONE)
def test_split_brain_healing(fusemux_volume: GraphVolume) -> None:
    """Ten files, settled in each way by path and by gfid, the rest at once by brick."""

    async def scenario(volume: GraphVolume) -> None:
        names = [f"/f{n}" for n in range(10)]
        await _all_apart(volume, names)
        for name in names:
            with refused(EIO):
                await volume.read(name)
        expected = dict.fromkeys(names, OLDER)
        for by_gfid, (bigger, chosen, newest) in ((False, names[:3]), (True, names[3:6])):
            await _settle(volume, by_gfid=by_gfid, name=bigger, how="bigger-file")
            expected[chosen] = NEWER  # the smaller one, on purpose
            newer = next(b.index for b in volume.bricks if b.path == _copies(volume, chosen)[0].parent)
            await _settle(volume, by_gfid=by_gfid, name=chosen, how="source-brick", brick=newer)
            expected[newest] = NEWER
            mtime = max(path.stat().st_mtime_ns for path in _copies(volume, newest))
            await _settle(volume, by_gfid=by_gfid, name=newest, how="latest-mtime")
            assert abs((await volume.stat(newest)).mtime_ns - mtime) < 10**8
        settled: list[str] = []
        for brick in (1, 3):
            settled += await volume.order("heal-split-brain", how="source-brick", brick=str(brick))
        assert sorted(settled) == names[6:]
        assert {name: await volume.read(name) for name in names} == expected
        assert volume.bricks_identical()

    fusemux_volume.run(scenario)


@pytest.mark.fusemux("2x2", backend="graph", options=ALONE)
@pytest.mark.parametrize("how", ["bigger-file", "latest-mtime", "source-brick"])
def test_split_brain_healing_refuses_what_is_not_in_split_brain(fusemux_volume: GraphVolume, how: str) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await volume.write("/file", b"data")
        holder = next(str(b.index) for b in volume.bricks if (b.path / "file").exists())
        with pytest.raises(FusemuxError, match="/file is not in split-brain"):
            await volume.order(
                "heal-split-brain", how=how, brick=holder if how == "source-brick" else None, path="/file"
            )

    fusemux_volume.run(scenario)


# -- split-brain-healing-ctime.t -----------------------------------------------------------------------------------


async def _split_at_one_time(volume: Volume, path: str, ours: bytes, theirs: bytes) -> None:
    """As `split`, with the same times on both copies."""
    await volume.create(path, b"")
    async with without(volume, 1):
        await volume.write(path, ours)
    await volume.bricks[0].kill()
    volume.clock -= 10**6
    await volume.write(path, theirs)
    await volume.bricks[0].start()


@pytest.mark.parametrize("source", [0, 1])
def test_split_brain_healing_ctime(source: int) -> None:
    """Where times tell nothing the newest cannot win, one brick's copy can; afterwards all times are equal."""

    async def main() -> None:
        async with volume_of() as volume:
            contents = (b"first", b"second one")
            await _split_at_one_time(volume, "f", *contents)
            healer, gfid = volume.replicate.healer, (await volume.lookup("f")).gfid
            with pytest.raises(FusemuxError, match="do not differ in that"):
                await resolve(healer, gfid, choice(healer, "latest-mtime"), "f")
            await resolve(healer, gfid, choice(healer, "source-brick", f"v-client-{source}"), "f")
            await healed(volume)
            assert await volume.read("f") == volume.content(0, "f") == volume.content(1, "f") == contents[source]
            seen = await volume.lookup("f")
            copies = [
                await edge.lookup(volume.reader, await volume.inode("f"), b"") for edge in volume.replicate.children
            ]
            assert {(copy.mtime_ns, copy.ctime_ns) for copy in copies} == {(seen.mtime_ns, seen.ctime_ns)}
            assert len({os.getxattr(volume.at(b, "f"), "trusted.glusterfs.mdata") for b in (0, 1)}) == 1

    trio.run(main)
