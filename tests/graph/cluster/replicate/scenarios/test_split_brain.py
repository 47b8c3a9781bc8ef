"""Split-brain: what cannot be used any more, and every way out of it."""

from __future__ import annotations

import errno
import os
from errno import EIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
import trio.testing

from fusemux.graph.cluster.replicate.heal.resolve import choice, resolve
from fusemux.graph.debug.fault import Fault, place
from fusemux.graph.framework.errors import FusemuxError, OptionError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.translator import Event, Translator
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


# -- split-brain-resolution.t --------------------------------------------------------------------------------------

NOT_IN_SPLIT_BRAIN = b"The file is not under data or metadata split-brain"


async def _asked(volume: Volume, path: str, what: str = "status") -> bytes:
    """As getfattr -n replica.split-brain-WHAT."""
    name = f"replica.split-brain-{what}".encode()
    return bytes((await volume.top.getxattr(volume.reader, await volume.inode(path), name))[name])


async def _both_kinds_split(volume: Volume) -> None:
    """`data` is in data split-brain, `metadata` in metadata split-brain, `fine` in none."""
    for name in ("data", "metadata", "fine"):
        await volume.create(name, b"old")
    for brick, text in ((0, b"first"), (1, b"the second")):
        async with without(volume, 1 - brick):
            await volume.write("data", text)
            await volume.setxattr("metadata", b"user.side", text)
            await volume.chmod("metadata", 0o600 + brick)


async def _set(volume: Volume, path: str, what: str, value: bytes) -> None:
    await volume.setxattr(path, f"replica.split-brain-{what}".encode(), value)


def test_split_brain_resolution_tells_the_state_and_the_choices() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await _both_kinds_split(volume)
            choices = b"    Choices:v-client-0,v-client-1"
            assert await _asked(volume, "data") == b"data-split-brain:yes    metadata-split-brain:no" + choices
            assert await _asked(volume, "metadata") == b"data-split-brain:no    metadata-split-brain:yes" + choices
            assert await _asked(volume, "fine") == await _asked(volume, "/") == NOT_IN_SPLIT_BRAIN
            with refused(errno.ENODATA):
                await _asked(volume, "data", "something")

    trio.run(main)


@pytest.mark.parametrize("brick", [0, 1])
def test_split_brain_resolution_lets_the_chosen_copy_be_read(brick: int) -> None:
    """Contents, size and attributes come from it, and nothing is changed; `none` ends that."""

    async def main() -> None:
        async with volume_of() as volume:
            await _both_kinds_split(volume)
            side = (b"first", b"the second")[brick]
            inode = await volume.inode("metadata")
            for path in ("data", "metadata"):
                await _set(volume, path, "choice", f"v-client-{brick}".encode())
            assert await volume.read("data") == side
            assert (await volume.lookup("data")).size == len(side)
            assert (await volume.top.stat(volume.reader, await volume.inode("data"))).size == len(side)
            assert await volume.top.getxattr(volume.reader, inode, b"user.side") == {b"user.side": side}
            assert (await volume.top.stat(volume.reader, inode)).mode & 0o777 == 0o600 + brick
            assert (await volume.lookup("metadata")).mode & 0o777 == 0o600 + brick
            for change in (lambda: volume.write("data", b"x"), lambda: volume.truncate("data", 1)):
                with refused(EIO):
                    await change()
            for path in ("data", "metadata"):
                await _set(volume, path, "choice", b"none")
            with refused(EIO):
                await volume.read("data")
            with refused(EIO):
                await volume.top.getxattr(volume.reader, inode, b"user.side")

    trio.run(main)


def test_split_brain_resolution_forgets_a_choice_after_a_time() -> None:
    """The kernel hears of it, which may have kept what it read."""

    async def main() -> None:
        async with volume_of() as volume:
            await _both_kinds_split(volume)
            ear = _Ear(volume)
            await _set(volume, "data", "choice-timeout", b"1")
            await _set(volume, "data", "choice", b"v-client-0")
            assert ear.heard == [(await volume.lookup("data")).gfid]
            await trio.sleep(59)
            assert await volume.read("data") == b"first"
            await trio.sleep(2)
            with refused(EIO):
                await volume.read("data")
            assert len(ear.heard) == 2
            ear.close()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class _Ear(Translator):
    """Hears which inodes look different from before."""

    type = "test/ear"

    def __init__(self, volume: Volume) -> None:
        super().__init__("ear", {}, volume.process)
        self.heard: list[bytes] = []
        self._parents = volume.top.translator.parents
        self._parents.append(self)

    def close(self) -> None:
        self._parents.remove(self)

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        if event is Event.UPCALL and isinstance(data, Inode):
            self.heard.append(data.gfid)


@pytest.mark.parametrize(
    ("path", "what", "value"),
    [
        ("data", "choice", b"v-client-7"),
        ("data", "choice", b""),
        ("fine", "choice", b"v-client-0"),
        ("/", "choice", b"v-client-0"),
        ("fine", "heal-finalize", b"v-client-0"),
        ("data", "heal-finalize", b"none"),
        ("data", "choice-timeout", b"soon"),
        ("data", "choice-timeout", b"0"),
        ("data", "status", b"yes"),
    ],
)
def test_split_brain_resolution_refuses_what_makes_no_sense(path: str, what: str, value: bytes) -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await _both_kinds_split(volume)
            with refused(errno.EINVAL):
                await _set(volume, path, what, value)
            with refused(EIO):
                await volume.read("data")

    trio.run(main)


@pytest.mark.parametrize("brick", [0, 1])
def test_split_brain_resolution_heals_from_the_copy_that_is_named(brick: int) -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await _both_kinds_split(volume)
            side = (b"first", b"the second")[brick]
            await _set(volume, "data", "choice", f"v-client-{1 - brick}".encode())
            for path in ("data", "metadata"):
                await _set(volume, path, "heal-finalize", f"v-client-{brick}".encode())
                assert await _asked(volume, path) == NOT_IN_SPLIT_BRAIN
            await healed(volume)
            assert await volume.read("data") == volume.content(0, "data") == volume.content(1, "data") == side
            assert os.getxattr(volume.at(0, "metadata"), "user.side") == side
            assert (await volume.lookup("metadata")).mode & 0o777 == 0o600 + brick

    trio.run(main)
