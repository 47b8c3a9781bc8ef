"""Two files under one name, settled by command or by policy: gfid-mismatch-resolution-with-{cli,fav-child-policy}.t."""

from __future__ import annotations

from errno import EIO

import pytest
import trio

from fusemux.graph.cluster.replicate.heal.resolve import choice, resolve_name
from fusemux.graph.framework.errors import FusemuxError
from tests.graph.cluster.replicate.healing import down, healed, up, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused


async def _conflict(volume: Volume, *contents: bytes, **options: str) -> None:
    """The name `f` made anew on each brick while the others were away."""
    count = len(contents)
    for brick, content in enumerate(contents):
        others = [n for n in range(count) if n != brick]
        await down(volume, *others)
        await up(volume, brick)
        await volume.remount(self_heal_daemon="off", **options)
        await volume.create("d/f", content)
    await up(volume, *range(count))
    await volume.remount(self_heal_daemon="off", **options)


async def _settled(volume: Volume, winner: int, content: bytes, gfid: bytes) -> None:
    await healed(volume)
    for brick in range(len(volume.bricks)):
        assert volume.content(brick, "d/f") == content
        assert volume.gfid(brick, "d/f") == gfid


@pytest.mark.parametrize(
    ("how", "child", "contents", "winner"),
    [
        ("latest-mtime", None, (b"older", b"newer"), 1),
        ("bigger-file", None, (b"the bigger", b"smaller"), 0),
        ("source-brick", "v-client-0", (b"one", b"two, larger and newer"), 0),
        ("source-brick", "v-client-1", (b"one", b"two"), 1),
    ],
)
def test_gfid_mismatch_resolution_with_cli(
    how: str, child: str | None, contents: tuple[bytes, ...], winner: int
) -> None:
    """The chosen copy's gfid is the name's, then contents become equal."""

    async def main() -> None:
        async with volume_of() as volume:
            await volume.mkdir("d")
            await _conflict(volume, *contents)
            with refused(EIO):
                await volume.lookup("d/f")
            assert (await volume.replicate.healer.sweep()).split_brain
            gfid = volume.gfid(winner, "d/f")
            parent = await volume.inode("d")
            healer = volume.replicate.healer
            assert await resolve_name(healer, parent, b"f", choice(healer, how, child), "/d/f") == gfid
            assert await volume.read("d/f") == contents[winner]
            await _settled(volume, winner, contents[winner], gfid)

    trio.run(main)


def test_gfid_mismatch_resolution_with_cli_of_two_against_one() -> None:
    """Two bricks have one file, the third another: the brick that is named wins, also the single one."""

    async def main() -> None:
        async with volume_of(3, quorum_type="none") as volume:
            await volume.mkdir("d")
            async with without(volume, 2):
                await volume.create("d/f", b"of two")
            await down(volume, 0, 1)
            await volume.remount(self_heal_daemon="off", quorum_type="none")
            await volume.create("d/f", b"of one")
            await up(volume, 0, 1)
            await volume.remount(self_heal_daemon="off", quorum_type="none")
            with refused(EIO):
                await volume.lookup("d/f")
            healer, gfid = volume.replicate.healer, volume.gfid(2, "d/f")
            parent = await volume.inode("d")
            await resolve_name(healer, parent, b"f", choice(healer, "source-brick", "v-client-2"), "/d/f")
            await _settled(volume, 2, b"of one", gfid)

    trio.run(main)


def test_gfid_mismatch_resolution_with_cli_refuses_to_choose_between_equal_sizes() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await volume.mkdir("d")
            await _conflict(volume, b"same", b"size")
            healer, parent = volume.replicate.healer, await volume.inode("d")
            with pytest.raises(FusemuxError, match="do not differ in that"):
                await resolve_name(healer, parent, b"f", choice(healer, "bigger-file"), "/d/f")
            assert volume.gfid(0, "d/f") != volume.gfid(1, "d/f")

    trio.run(main)


@pytest.mark.parametrize(
    ("policy", "contents", "winner"),
    [
        ("mtime", (b"older, bigger", b"newer"), 1),
        ("ctime", (b"older, bigger", b"newer"), 1),
        ("size", (b"1", b"the biggest", b"22"), 1),
        ("size", (b"bigger", b"small"), 0),
    ],
)
@pytest.mark.parametrize("who", ["daemon", "client"])
def test_gfid_mismatch_resolution_with_fav_child_policy(
    who: str, policy: str, contents: tuple[bytes, ...], winner: int
) -> None:
    """By the self-healer, or by the lookup and the reading of whoever comes first."""

    async def main() -> None:
        on = {"quorum_type": "none", "data_self_heal": "on", "metadata_self_heal": "on"}
        async with volume_of(len(contents), **on) as volume:
            await volume.mkdir("d")
            await _conflict(volume, *contents, **on)
            with refused(EIO):
                await volume.lookup("d/f")
            gfid = volume.gfid(winner, "d/f")
            volume.reconfigure(self_heal_daemon="off", favorite_child_policy=policy, **on)
            if who == "client":
                assert (await volume.lookup("d/f")).gfid == gfid
                assert await volume.read("d/f") == contents[winner]
            else:
                await volume.replicate.healer.sweep()
            await _settled(volume, winner, contents[winner], gfid)

    trio.run(main)


@pytest.mark.parametrize("who", ["daemon", "client"])
def test_gfid_mismatch_resolution_with_fav_child_policy_majority(who: str) -> None:
    """The file that two of three bricks have."""

    async def main() -> None:
        none = {"quorum_type": "none", "data_self_heal": "on"}
        async with volume_of(3, **none) as volume:
            await volume.mkdir("d")
            await down(volume, 1, 2)
            await volume.create("d/f", b"of one, and bigger")
            await up(volume, 1, 2)
            await down(volume, 0)
            await volume.remount(self_heal_daemon="off", **none)
            await volume.create("d/f", b"of two")
            await up(volume, 0)
            await volume.remount(self_heal_daemon="off", **none)
            with refused(EIO):
                await volume.lookup("d/f")
            gfid = volume.gfid(1, "d/f")
            volume.reconfigure(self_heal_daemon="off", favorite_child_policy="majority", **none)
            if who == "client":
                assert await volume.read("d/f") == b"of two"
            else:
                await volume.replicate.healer.sweep()
            await _settled(volume, 1, b"of two", gfid)

    trio.run(main)
