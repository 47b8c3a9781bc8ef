"""Split-brain that a policy settles, by the self-healer or for whoever comes first."""

from __future__ import annotations

from errno import EIO
from pathlib import Path

import pytest
import trio
import trio.testing

from fusemux.graph.debug.fault import Fault, place
from fusemux.graph.framework.errors import OptionError
from tests.graph.cluster.replicate.healing import healed, split, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused

# -- split-brain-favorite-child-policy.t ---------------------------------------------------------------------------


async def _swept(volume: Volume) -> None:
    """Until the self-healer has looked at everything that is listed, once."""
    healer = volume.replicate.healer
    before = healer.progress
    healer.ask()
    with trio.fail_after(10):
        while healer.progress is before or healer.progress.running:
            await trio.lowlevel.checkpoint()


async def _each_alone(volume: Volume, path: str, contents: list[bytes], times: list[int]) -> None:
    """Every copy is written while all others are away; each then accuses all others."""
    await volume.create(path, b"")
    everyone = range(len(contents))
    for brick, (content, time) in enumerate(zip(contents, times, strict=True)):
        others = [other for other in everyone if other != brick]
        async with without(volume, *others):
            volume.clock = 10**18 + time * 10**9
            await volume.write(path, content)


@pytest.mark.parametrize(
    ("policy", "contents", "times", "wins"),
    [
        ("size", [b"1", b"22", b"333"], [1, 2, 3], 2),
        ("size", [b"333", b"22", b"1"], [1, 2, 3], 0),
        ("mtime", [b"1", b"22", b"333"], [3, 2, 1], 0),
        ("ctime", [b"1", b"22", b"333"], [1, 3, 2], 1),
        ("majority", [b"minority", b"same", b"same"], [3, 2, 2], 1),
        ("none", [b"1", b"22", b"333"], [1, 2, 3], None),
        ("size", [b"1", b"2", b"3"], [1, 2, 3], None),
        ("majority", [b"1", b"22", b"333"], [1, 2, 3], None),
    ],
)
def test_split_brain_favorite_child_policy(
    policy: str, contents: list[bytes], times: list[int], wins: int | None
) -> None:
    """The self-healer settles by the policy, or leaves alone what the policy cannot decide."""

    async def main() -> None:
        async with volume_of(3, quorum_type="none", self_heal_daemon="on") as volume:
            await _each_alone(volume, "f", contents, times)
            await _swept(volume)
            assert [volume.content(brick, "f") for brick in range(3)] == contents
            volume.reconfigure(quorum_type="none", self_heal_daemon="on", favorite_child_policy=policy)
            await _swept(volume)
            if wins is None:
                assert volume.replicate.healer.progress.split_brain == 1
                with refused(EIO):
                    await volume.read("f")
                return
            await healed(volume)
            assert {volume.content(brick, "f") for brick in range(3)} == {contents[wins]} == {await volume.read("f")}

    trio.run(main)


def test_split_brain_favorite_child_policy_that_is_unknown_is_refused() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            with pytest.raises(OptionError, match="favorite-child-policy"):
                volume.reconfigure(favorite_child_policy="biggest")

    trio.run(main)


# -- gfid-unsplit.t ------------------------------------------------------------------------------------------------


def test_gfid_unsplit() -> None:
    """The same name made on each side is an error until a policy is set; then it is one file."""

    async def main() -> None:
        async with volume_of() as volume:
            async with without(volume, 1):
                await volume.create("same", b"first side")
            await volume.bricks[0].kill()
            await volume.remount(self_heal_daemon="off")
            await volume.create("same", b"second")
            await volume.bricks[0].start()
            await volume.replicate.healer.sweep()
            with refused(EIO):
                await volume.lookup("same")
            volume.reconfigure(self_heal_daemon="off", favorite_child_policy="size")
            await volume.replicate.healer.sweep()
            await healed(volume)
            assert await volume.read("same") == volume.content(1, "same") == b"first side"

    trio.run(main)


def test_gfid_unsplit_leaves_files_of_different_types_alone() -> None:
    async def main() -> None:
        async with volume_of(favorite_child_policy="mtime") as volume:
            async with without(volume, 1):
                await volume.create("same", b"file")
            async with without(volume, 0):
                await volume.mkdir("same")
            progress = await volume.replicate.healer.sweep()
            assert progress.split_brain == 1
            assert [Path(volume.at(brick, "same")).is_dir() for brick in (0, 1)] == [False, True]
            with refused(EIO):
                await volume.lookup("same")

    trio.run(main)


# -- split-brain-favorite-child-policy-client-side-healing.t -------------------------------------------------------


def test_split_brain_favorite_child_policy_client_side_healing_of_contents() -> None:
    """Reading fails without a policy; with one it gives the newest contents, and both bricks have them."""

    async def main() -> None:
        given = {"quorum_type": "fixed", "quorum_count": "1"}
        async with volume_of(**given) as volume:
            await volume.create("f", b"old")
            await split(volume, "f", b"older, and longer", b"newer", **given)
            with refused(EIO):
                await volume.read("f")
            volume.reconfigure(self_heal_daemon="off", favorite_child_policy="mtime", **given)
            newest = volume.content(1, "f")
            assert newest == await volume.read("f") == volume.content(0, "f")
            assert volume.all_marks(0) == volume.all_marks(1) == {}

    trio.run(main)


def test_split_brain_favorite_child_policy_client_side_healing_of_open_files() -> None:
    """A file that is opened for writing, or was open already, is settled too."""

    async def main() -> None:
        async with volume_of() as volume:
            for name in ("f", "g"):
                await volume.create(name, b"old")
                await split(volume, name, b"older", b"newer")
            volume.reconfigure(self_heal_daemon="off", favorite_child_policy="mtime")
            await volume.write("f", b"N")
            assert volume.content(0, "f") == volume.content(1, "f") == b"Newer"
            volume.reconfigure(self_heal_daemon="off")
            with refused(EIO):
                await volume.read("g")
            volume.reconfigure(self_heal_daemon="off", favorite_child_policy="size")
            with refused(EIO):  # of one size they are
                await volume.read("g")

    trio.run(main)


def test_split_brain_favorite_child_policy_client_side_healing_of_a_directory() -> None:
    """Listing a directory in which each side made a file fails without a policy; with one the names of both are there."""

    async def main() -> None:
        async with volume_of() as volume:
            await volume.mkdir("d")
            for name, away in (("left", 1), ("right", 0)):
                async with without(volume, away):
                    await volume.create(f"d/{name}", name.encode())
            with refused(EIO):
                await volume.names_in("d")
            volume.reconfigure(self_heal_daemon="off", favorite_child_policy="mtime")
            assert await volume.names_in("d") == ["left", "right"]
            await healed(volume)
            assert await volume.read("d/left") == b"left"

    trio.run(main)


def test_split_brain_favorite_child_policy_client_side_healing_for_several_readers() -> None:
    """Who comes while somebody else's read has it healed waits for that."""

    async def main() -> None:
        async with volume_of() as volume:
            await volume.create("f", b"old")
            await split(volume, "f", b"older, and longer", b"newer")
            volume.reconfigure(self_heal_daemon="off", favorite_child_policy="size")
            for edge in volume.replicate.children:
                place(edge, Fault("delay", fops=frozenset({"readv", "xattrop"}), delay_s=1))
            seen: list[bytes] = []

            async def read() -> None:
                seen.append(await volume.read("f"))

            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(read)
            assert seen == [volume.content(1, "f")] * 4

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
