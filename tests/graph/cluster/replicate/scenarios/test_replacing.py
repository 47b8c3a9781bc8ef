"""Bricks replaced and copies added: what the new brick gets, and that nobody loses anything to it.

Then bricks that have lost a part of what they held: names, gfids, handles.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
import trio

from fusemux.bricks import prepare
from fusemux.bricks.brick import Brick
from fusemux.graph.cluster.replicate.changelog import Counters, pack
from fusemux.graph.cluster.replicate.heal.fresh import accuse_fresh, mark_fresh
from fusemux.graph.framework.volfile import Section
from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import VOLUME_ID, Volume

FILES = ("a", "b", "c", "d/e", "d/f")
granular_or_not = pytest.mark.parametrize("granular", ["on", "off"])


def run(body: Callable[[], Awaitable[None]]) -> None:
    trio.run(body)


async def filled(volume: Volume) -> None:
    await volume.mkdir("d")
    for name in FILES:
        await volume.create(name, name.encode() * 100)
        await volume.setxattr(name, b"user.name", name.encode())
    await volume.chmod("b", 0o600)


async def new_brick(volume: Volume, name: str) -> Brick:
    """An empty brick, marked, that nobody uses yet, and that the bricks which are up accuse as `name`."""
    like = volume.bricks[0]
    path = f"{like.path}-{name}-{os.urandom(4).hex()}"
    prepare.prepare_fresh(path, VOLUME_ID)
    sections = [
        Section(s.name, s.type, {k: v.replace(like.path, path) for k, v in s.options.items()}, list(s.subvolumes))
        for s in like.sections
    ]
    granular = volume.replicate.opt.granular_entry_heal
    for brick in volume.bricks:
        if brick.up:
            await accuse_fresh(brick.edge, name, granular=granular)
    return await Brick.attach(volume.process, sections, first=lambda brick: mark_fresh(brick.edge))


async def replace(volume: Volume, place: int, **options: str) -> None:
    old = volume.bricks[place]
    await old.kill()
    volume.bricks[place] = await new_brick(volume, volume.names[place])
    volume.reconfigure(**options)
    await old.detach()


async def add(volume: Volume, **options: str) -> None:
    name = f"v-client-{len(volume.bricks)}"
    graph = volume.graph
    brick = await new_brick(volume, name)
    await graph.gate.close(graph)
    volume.bricks.append(brick)
    volume.names.append(name)
    await graph.edit(volume.sections({key.replace("_", "-"): value for key, value in options.items()}))
    graph.gate.open(graph)


def accuse_by_hand(volume: Volume, brick: int, accused: int, counters: Counters, path: str = "") -> None:
    os.setxattr(volume.at(brick, path), f"trusted.afr.v-client-{accused}", pack(counters))


def fresh_marks(granular: str) -> Counters:
    return (1 if granular == "on" else 0, 1, 1)


# -- replace-brick-self-heal.t, add-brick-self-heal.t, granular-esh ---------------------------------------------------


@granular_or_not
@pytest.mark.parametrize("accusing", [False, True], ids=["plain", "accusing"])
def test_replace_brick_self_heal(granular: str, accusing: bool) -> None:
    """The good brick accuses the new one, which gets everything; though it accuses the good one, that keeps everything."""

    async def main() -> None:
        async with volume_of(granular_entry_heal=granular) as volume:
            await filled(volume)
            wanted = volume.tree(0)
            await replace(volume, 1, granular_entry_heal=granular)
            assert volume.blames(0, "") == {"client-1": fresh_marks(granular)}
            assert volume.blames(1, "") == {"dirty": (0, 0, 1)}
            if accusing:
                accuse_by_hand(volume, 1, 0, (0, 0, 1))
            await healed(volume)
            assert volume.tree(0) == wanted == volume.tree(1)

    run(main)


@granular_or_not
def test_what_is_left_of_a_file_is_not_removed_because_a_new_brick_lacks_it(granular: str) -> None:
    """The best copy has gone with its brick, the names of the others are merged: what the other copy has is all there is."""

    async def main() -> None:
        async with volume_of(3, arbiter_count="1", granular_entry_heal=granular) as volume:
            await volume.create("f", b"contents")
            async with without(volume, 0):
                await volume.write("f", b"NEW")
                await volume.create("g")
            async with without(volume, 2):
                await volume.create("h")
            await replace(volume, 1, arbiter_count="1", granular_entry_heal=granular)
            await volume.replicate.healer.sweep()
            assert [volume.has(brick, "f") for brick in range(3)] == [True] * 3
            with open(volume.at(0, "f"), "rb") as file:
                assert file.read() == b"contents"

    run(main)


@granular_or_not
@pytest.mark.parametrize("accusing", [False, True], ids=["plain", "accusing"])
def test_add_brick_self_heal(granular: str, accusing: bool) -> None:
    """A third copy of two with data: both accuse it, and it gets everything."""

    async def main() -> None:
        async with volume_of(granular_entry_heal=granular) as volume:
            await filled(volume)
            wanted = volume.tree(0)
            await add(volume, granular_entry_heal=granular, self_heal_daemon="off")
            assert [volume.blames(i, "") for i in (0, 1)] == [{"client-2": fresh_marks(granular)}] * 2
            assert volume.blames(2, "") == {"dirty": (0, 0, 1)}
            if accusing:
                accuse_by_hand(volume, 2, 0, (0, 0, 1))
                accuse_by_hand(volume, 2, 1, (0, 0, 1))
            await healed(volume)
            assert volume.tree(0) == wanted == volume.tree(2)

    run(main)


async def _changed_before_the_heal(volume: Volume, new: int) -> None:
    """What users do while the new brick is not healed neither takes its marks away nor is lost."""
    accuse_by_hand(volume, new, 0, (0, 0, 1))
    before = volume.blames(new, "")
    await volume.create("fresh", b"made before the heal")
    await volume.rename("a", "renamed")
    await volume.unlink("c")
    assert {name: volume.blames(new, "").get(name) for name in before} == before
    assert volume.blames(0, "")[f"client-{new}"][0] >= 1
    wanted = volume.tree(0)
    assert {"fresh", "renamed", "b"} <= wanted.keys()
    assert "c" not in wanted
    await healed(volume)
    assert volume.tree(0) == wanted == volume.tree(new)


def test_granular_esh_replace_brick() -> None:
    async def main() -> None:
        async with volume_of(granular_entry_heal="on") as volume:
            await filled(volume)
            await replace(volume, 1, granular_entry_heal="on", self_heal_daemon="off")
            await _changed_before_the_heal(volume, 1)

    run(main)


def test_granular_esh_add_brick() -> None:
    async def main() -> None:
        async with volume_of(granular_entry_heal="on") as volume:
            await filled(volume)
            await add(volume, granular_entry_heal="on", self_heal_daemon="off")
            await _changed_before_the_heal(volume, 2)

    run(main)


def test_an_open_file_goes_on_across_a_new_copy_and_is_whole_on_it() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            fd = await volume.created("open")
            await volume.top.writev(volume.tick(), fd, b"one ", 0)
            await volume.graph.gate.close(volume.graph)
            volume.graph.gate.open(volume.graph)
            await volume.top.writev(volume.tick(), fd, b"two ", 4)
            await replace(volume, 1, granular_entry_heal="on", self_heal_daemon="off")
            await volume.top.writev(volume.tick(), fd, b"three", 8)
            await healed(volume)
            await volume.top.writev(volume.tick(), fd, b" four", 13)
            await volume.close(fd)
            await healed(volume)
            assert volume.content(1, "open") == b"one two three four"

    run(main)


# -- bricks that have lost a part ----------------------------------------------------------------------------------


def gfid_of(volume: Volume, brick: int, path: str) -> str:
    return str(UUID(bytes=os.getxattr(volume.at(brick, path), "trusted.gfid")))


def handle(volume: Volume, brick: int, gfid: str) -> str:
    return volume.at(brick, f".glusterfs/{gfid[:2]}/{gfid[2:4]}/{gfid}")


def lose_identity(volume: Volume, brick: int, path: str, *, handle_too: bool = True, gfid_too: bool = True) -> None:
    """What a crash between making a file and marking it leaves: no handle, no gfid."""
    if handle_too:
        os.unlink(handle(volume, brick, gfid_of(volume, brick, path)))
    if gfid_too:
        os.removexattr(volume.at(brick, path), "trusted.gfid")


def assert_identified(volume: Volume, path: str, gfid: str) -> None:
    """Every brick has `path` with this gfid, and the handle is the same file."""
    for brick in range(len(volume.bricks)):
        assert gfid_of(volume, brick, path) == gfid, (brick, path)
        assert os.path.samefile(handle(volume, brick, gfid), volume.at(brick, path)), (brick, path)


@granular_or_not
def test_bug_1130892_a_wiped_tree_comes_back(granular: str) -> None:
    """A tree and all bookkeeping of a brick are gone; its top is made anew and accused, then the rest is healed."""

    async def main() -> None:
        async with volume_of(granular_entry_heal=granular) as volume:
            for path in ("one", "one/two", "one/two/three"):
                await volume.mkdir(path)
                await volume.create(f"{path}/file", path.encode())
            wanted = volume.tree(0)
            async with without(volume, 1):
                shutil.rmtree(volume.at(1, "one"))
                shutil.rmtree(volume.at(1, ".glusterfs"))
                prepare.prepare(volume.bricks[1].path, VOLUME_ID)
            await volume.lookup("one")
            assert os.path.isdir(volume.at(1, "one"))
            data, metadata, entry = volume.blames(0, "one")["client-1"]
            assert (metadata, entry) == (1, 1)
            assert data <= 1  # with names in the index it says that all names are to be looked at
            await healed(volume)
            assert volume.tree(0) == wanted == volume.tree(1)

    run(main)


@pytest.mark.parametrize("by", ["lookup", "daemon"])
@granular_or_not
def test_bug_1493415_gfid_heal(granular: str, by: str) -> None:
    """A file that has lost gfid and handle on one brick gets both back."""

    async def main() -> None:
        async with volume_of(granular_entry_heal=granular) as volume:
            await volume.mkdir("dir")
            await volume.create("dir/file", b"content")
            gfid = gfid_of(volume, 0, "dir/file")
            async with without(volume, 1):
                lose_identity(volume, 1, "dir/file")
            await volume.remount(granular_entry_heal=granular, self_heal_daemon="off")
            if by == "lookup":
                await volume.lookup("dir/file")
            else:
                inode = await volume.inode("dir")
                keys = volume.replicate.keys
                await volume.replicate.children[0].xattrop(
                    volume.replicate.internal, inode, 0, keys.accuse((0 if granular == "off" else 1, 0, 1), 2), None
                )
                await healed(volume)
            assert_identified(volume, "dir/file", gfid)
            assert await volume.read("dir/file") == b"content"

    run(main)


@pytest.mark.parametrize("without_gfid", [1, 2])
@granular_or_not
def test_bug_1722507_a_copy_without_gfid_is_no_other_type(granular: str, without_gfid: int) -> None:
    """All bricks are accused of a folder, and some copies of its file lack gfid and handle: they get them back."""

    async def main() -> None:
        async with volume_of(3, granular_entry_heal=granular) as volume:
            await volume.mkdir("dir")
            await volume.create("dir/file", b"content")
            gfid = gfid_of(volume, 0, "dir/file")
            for brick in range(without_gfid):
                lose_identity(volume, brick, "dir/file")
            await _accuse_all_of(volume, "dir")
            await healed(volume)
            assert_identified(volume, "dir/file", gfid)
            assert await volume.read("dir/file") == b"content"

    run(main)


async def _accuse_all_of(volume: Volume, path: str) -> None:
    """Every brick is accused of missing names of the folder, as after failures of each in turn."""
    inode = await volume.inode(path)
    replicate = volume.replicate
    count = len(volume.bricks)
    for brick in range(count):
        delta = replicate.keys.accuse((1, 0, 1), 1 << (brick + 1) % count)
        await replicate.children[brick].xattrop(replicate.internal, inode, 0, delta, None)


@granular_or_not
def test_bug_1749322_entry_heal_not_happening(granular: str) -> None:
    """Files missing on two bricks, or without handle or gfid on one or two; two bricks accuse each other: nothing is lost."""

    async def main() -> None:
        async with volume_of(3, granular_entry_heal=granular) as volume:
            await volume.mkdir("dir")
            names = [f"dir/{kind}{bricks}" for kind in ("gone", "handle", "gfid", "both") for bricks in (1, 2)]
            for name in names:
                await volume.create(name, name.encode())
            gfids = {name: gfid_of(volume, 0, name) for name in names}
            for name in names:
                for brick in range(1, int(name[-1]) + 1):
                    kind = name[4:-1]
                    if kind == "gone":
                        os.unlink(handle(volume, brick, gfids[name]))
                        os.unlink(volume.at(brick, name))
                    else:
                        lose_identity(volume, brick, name, handle_too=kind != "gfid", gfid_too=kind != "handle")
            inode = await volume.inode("dir")
            replicate = volume.replicate
            for brick, accused in ((0, 1), (1, 0)):
                delta = replicate.keys.accuse((1, 0, 1), 1 << accused)
                await replicate.children[brick].xattrop(replicate.internal, inode, 0, delta, None)
            await healed(volume)
            for name in names:
                assert_identified(volume, name, gfids[name])
                assert await volume.read(name) == name.encode()

    run(main)
