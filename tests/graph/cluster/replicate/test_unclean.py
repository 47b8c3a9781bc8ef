"""Unclean ends that leave no mark: a serving process that dies between two copies, a brick that loses power."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from fusemux.bricks.brick import Brick
from fusemux.bricks.features.index import Index
from fusemux.bricks.prepare import prepare
from fusemux.fuse.bridge import Bridge, BridgeOptions
from fusemux.graph.cluster.replicate.heal.parking import remove_unmade
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Frame, Iatt, SetAttr
from tests.graph.cluster.replicate.volume import VOLUME_ID, Volume, brick_sections

_seeds = itertools.count()  # no life makes the gfids of another


@asynccontextmanager
async def life(
    paths: list[str], *, killed: bool = False, arbiter: bool = False, **options: str
) -> AsyncIterator[Volume]:
    """One process that serves bricks; `killed`: it ends without a word; `arbiter`: the last one is one."""
    types = [("features/index",)] * len(paths)
    if arbiter:
        types[-1] = ("features/arbiter", "features/index")
        options["arbiter-count"] = "1"
    async with Process(strict=True, seed=next(_seeds)) as process:
        bricks = [await Brick.attach(process, brick_sections(*each, {})) for each in zip(paths, types, strict=True)]
        volume = Volume(process, bricks, {"granular-entry-heal": "on", **options})
        await volume.graph.start()
        yield volume
        if killed:
            for brick in bricks:
                await brick.kill()
        else:
            await volume.graph.stop()
            for brick in bricks:
                await brick.detach()


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Three new bricks."""
    made = [f"{tmp_path}/b{place}" for place in range(3)]
    for path in made:
        prepare(path, VOLUME_ID)
    return made


@pytest.fixture
def ram() -> Iterator[Path]:
    """A folder in memory."""
    folder = tempfile.mkdtemp(prefix="fusemux-test-", dir="/dev/shm")
    yield Path(folder)
    shutil.rmtree(folder)


def times(iatt: Iatt) -> tuple[int, int]:
    return iatt.ctime_ns, iatt.mtime_ns


async def cut_power(brick: Brick, *, files: tuple[str, ...] = ()) -> None:
    """The brick goes down, and loses these new files."""
    indices = [t for t in brick.graph.translators.values() if isinstance(t, Index)]
    edge, root = brick.graph.top, brick.graph.itable.root
    for name in files:
        found = await edge.lookup(Frame(), root, name.encode())
        await edge.unlink(Frame(), root, name.encode(), brick.graph.itable.link(found.gfid, found.type))
    await brick.kill()
    for index in indices:
        index.lose_power()


def test_what_one_copy_alone_has_done_when_the_process_dies_is_healed_by_itself(paths: list[str]) -> None:
    """Names, attributes, times: none of these is marked in advance while all copies are there."""

    async def main() -> None:
        async with life(paths, killed=True) as volume:
            await volume.create("f", b"content")
            await volume.create("g", b"other")
            f, root = await volume.inode("f"), volume.graph.itable.root
            alone = volume.replicate.children[0]
            await alone.setattr(volume.tick(), f, SetAttr(mode=0o600))
            await alone.mkdir(volume.tick(), root, b"new", 0o755, volume.process.new_gfid())
            await alone.unlink(volume.tick(), root, b"g", await volume.inode("g"))
        async with life(paths, **{"self-heal-daemon": "on"}) as volume:
            with trio.fail_after(30):
                while volume.replicate.trust.unclean:
                    await trio.lowlevel.checkpoint()
            await volume.replicate.healer.sweep()
            assert volume.tree(0) == volume.tree(1) == volume.tree(2)
            assert {"f", "g", "new"} == set(volume.tree(1))
        async with life(paths) as volume:
            assert not volume.replicate.trust.unclean

    trio.run(main)


def test_new_files_whose_times_went_with_the_process_get_the_same_ones_on_all_copies(ram: Path) -> None:
    """Ramdisk bricks record times a little late; the backing store's own differ, and move with each counter."""
    paths = [f"{ram}/b{place}" for place in range(3)]
    for path in paths:
        prepare(path, VOLUME_ID)

    async def main() -> None:
        async with life(paths, killed=True) as volume:
            await volume.create("written", b"content")
            fd = await volume.created("open")
            await volume.top.writev(volume.tick(), fd, b"content", 0)
            for brick in volume.bricks:
                assert brick.posix.store is not None
                assert brick.posix.store.late, "the brick would have recorded at once"
                brick.posix.store.late.clear()
        async with life(paths, **{"self-heal-daemon": "on"}) as volume:
            with trio.fail_after(30):
                while volume.replicate.trust.unclean:
                    await trio.lowlevel.checkpoint()
            await volume.replicate.healer.sweep()
            assert volume.tree(0) == volume.tree(1) == volume.tree(2)
            shown = {name: [times(await edge.lookup(Frame(), volume.graph.itable.root, name))
                            for edge in volume.replicate.children] for name in (b"written", b"open")}  # fmt: skip
        assert all(len(set(copies)) == 1 for copies in shown.values()), shown

    trio.run(main)


def test_times_that_one_copy_alone_has_when_the_process_dies_are_healed_beside_an_arbiter(paths: list[str]) -> None:
    """An arbiter does not know when files were written, so its times tell nothing; those of the others do."""

    async def main() -> None:
        async with life(paths, killed=True, arbiter=True) as volume:
            await volume.create("f", b"content")
            await volume.replicate.children[0].setattr(volume.tick(), await volume.inode("f"), SetAttr(mode=0o644))
        async with life(paths, arbiter=True) as volume:
            assert (await volume.replicate.healer.sweep()).healed
            assert volume.tree(0) == volume.tree(1)

    trio.run(main)


def test_directories_that_look_different_after_a_heal_are_seen_to(paths: list[str]) -> None:
    """The copy that is asked need not be the one that the others are made like."""

    async def main() -> None:
        names = [b"d%d" % n for n in range(8)]
        async with life(paths, killed=True) as volume:
            for name in names:
                await volume.mkdir(name.decode())
                inode = await volume.inode(name.decode())
                await volume.replicate.children[0].setattr(volume.tick(), inode, SetAttr(mode=0o700))
        async with life(paths, **{"choose-local": "off"}) as volume:
            bridge, told = Bridge(volume.graph, options=BridgeOptions(sole_writer=True)), set[int]()
            bridge.on_invalidate = told.add
            nodes = [(await bridge.lookup(Frame(), 1, name))[0] for name in names]
            assert len({(await bridge.getattr(Frame(), node)).mode for node in nodes}) == 2
            await volume.replicate.healer.sweep()
            assert {(await bridge.getattr(Frame(), node)).mode & 0o7777 for node in nodes} == {0o700}
            assert told == set(nodes)
            await bridge.disconnect()
            bridge.close()

    trio.run(main)


def test_a_copy_that_was_emptied_does_not_say_what_is_gone(paths: list[str]) -> None:
    """The arbiter knows that the other copy has missed something of a file; what that has is all there is."""

    async def main() -> None:
        async with life(paths, killed=True, arbiter=True) as volume:
            await volume.create("f", b"content")
            await volume.bricks[0].kill()
            await volume.write("f", b"CON")
            await volume.bricks[0].start()
        shutil.rmtree(paths[1])
        prepare(paths[1], VOLUME_ID)
        async with life(paths, arbiter=True) as volume:
            assert volume.replicate.trust.unclean
            await volume.replicate.healer.sweep(full=True)
            assert [volume.has(brick, "f") for brick in range(3)] == [True] * 3

    trio.run(main)


def test_after_a_clean_end_nothing_is_looked_at(paths: list[str]) -> None:
    async def main() -> None:
        async with life(paths) as volume:
            await volume.create("f", b"content")
        async with life(paths) as volume:
            assert not volume.replicate.trust.unclean

    trio.run(main)


def test_a_file_replaced_when_the_process_dies_is_one_of_both_afterwards(paths: list[str]) -> None:
    """One copy has renamed over a file and the others have not: no split-brain, for either is right."""

    async def main() -> None:
        async with life(paths, killed=True) as volume:
            await volume.create("old", b"new content")
            await volume.create("new", b"old content")
            old, new, root = await volume.inode("old"), await volume.inode("new"), volume.graph.itable.root
            await volume.replicate.children[1].rename(volume.tick(), root, b"old", root, b"new", old, new, 0)
        async with life(paths) as volume:
            progress = await volume.replicate.healer.sweep()
            assert not progress.split_brain
            assert volume.tree(0) == volume.tree(1) == volume.tree(2)
            assert await volume.read("new") in (b"new content", b"old content")

    trio.run(main)


def test_a_brick_that_lost_power_is_not_read_until_it_was_healed_from_the_others(paths: list[str]) -> None:
    async def main() -> None:
        async with life(paths, **{"read-subvolume-index": "1"}) as volume:
            await volume.create("kept", b"content")
            await volume.create("lost", b"content")
            await cut_power(volume.bricks[1], files=("lost",))
            await volume.bricks[1].start()
            assert volume.replicate.suspects == 0b010
            assert await volume.read("lost") == b"content"
            assert await volume.names_in("") == ["kept", "lost"]
            await volume.replicate.healer.sweep()
            assert volume.replicate.suspects == 0
            assert volume.tree(0) == volume.tree(1) == volume.tree(2)
            assert volume.content(1, "lost") == b"content"

    trio.run(main)


def test_a_brick_that_lost_power_is_read_when_the_other_has_missed_what_it_knows(paths: list[str]) -> None:
    async def main() -> None:
        async with life(paths[:2]) as volume:
            await volume.create("f", b"content")
            await volume.bricks[1].kill()
            await volume.truncate("f", 4)
            await volume.create("new", b"content")
            await cut_power(volume.bricks[0])
            await volume.bricks[1].start()
            await volume.bricks[0].start()
            assert volume.replicate.suspects == 0b01
            for _ in range(2):
                assert await volume.names_in("") == ["f", "new"]
                assert await volume.read("f") == b"cont"
                assert await volume.read("new") == b"content"
                await volume.replicate.healer.sweep()
            assert volume.replicate.suspects == 0
            assert volume.tree(0) == volume.tree(1)

    trio.run(main)


def test_a_removal_that_a_brick_has_lost_is_not_undone(paths: list[str]) -> None:
    async def main() -> None:
        async with life(paths) as volume:
            await volume.create("gone", b"content")
            inode = await volume.inode("gone")
            for edge in volume.replicate.children[:2]:
                await edge.unlink(volume.tick(), volume.graph.itable.root, b"gone", inode)
            await cut_power(volume.bricks[2])
            await volume.bricks[2].start()
            await volume.replicate.healer.sweep()
            assert volume.tree(0) == volume.tree(1) == volume.tree(2) == {}

    trio.run(main)


def test_what_is_written_to_a_suspect_does_not_hide_what_it_has_lost(paths: list[str]) -> None:
    """Sizes and times are the same afterwards, the contents are not."""

    async def main() -> None:
        async with life(paths) as volume:
            await volume.create("f", b"0123456789")
            await cut_power(volume.bricks[1])
            os.truncate(volume.at(1, "f"), 0)
            await volume.bricks[1].start()
            await volume.truncate("f", 5)
            await volume.replicate.healer.sweep()
            assert [volume.content(brick, "f") for brick in range(3)] == [b"01234"] * 3

    trio.run(main)


def test_what_a_suspect_was_making_and_others_have_removed_goes(paths: list[str]) -> None:
    """It has names without a gfid: the power went in the middle of a create, a mkdir, and one in a directory that is gone now."""

    async def main() -> None:
        async with life(paths) as volume:
            await volume.mkdir("gone")
            await cut_power(volume.bricks[1])
            await volume.rmdir("gone")
            for name in ("f", "gone/f"):
                open(volume.at(1, name), "wb").close()
            for name in ("d", "gone/d"):
                os.mkdir(volume.at(1, name))
            await volume.bricks[1].start()
            await volume.replicate.healer.sweep()
            assert [volume.tree(brick) for brick in range(3)] == [{}] * 3
            assert not volume.replicate.trust.unclean

    trio.run(main)


def test_what_a_copy_was_making_when_the_process_died_is_there_on_all_or_none(paths: list[str]) -> None:
    async def main() -> None:
        async with life(paths, killed=True) as volume:
            await volume.mkdir("d")
            open(volume.at(1, "d/f"), "wb").close()
        async with life(paths) as volume:
            assert not (await volume.replicate.healer.sweep()).failed
            assert volume.tree(0) == volume.tree(1) == volume.tree(2)
            await volume.names_in("d")

    trio.run(main)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_copy_had_only_begun_to_make_does_not_take_the_owner_from_the_others(
    paths: list[str], kind: str
) -> None:
    """It has a name there, and nothing else yet."""

    async def main() -> None:
        async with life(paths, killed=True) as volume:
            await (volume.mkdir if kind == "directory" else volume.create)("x")
            await volume.chown("x", 1000, 1000)
            await volume.chmod("x", 0o640)
            if kind == "directory":
                os.rmdir(volume.at(0, "x"))
                os.mkdir(volume.at(0, "x"))
            else:
                os.unlink(volume.at(0, "x"))
                open(volume.at(0, "x"), "wb").close()
            os.unlink(volume.handle(0, volume.gfid(1, "x")))
        async with life(paths) as volume:
            assert not (await volume.replicate.healer.sweep()).failed
            assert volume.tree(0) == volume.tree(1) == volume.tree(2)
            there = os.stat(volume.at(0, "x"))
            assert (there.st_uid, there.st_gid, there.st_mode & 0o7777) == (1000, 1000, 0o640)

    trio.run(main)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_file_whose_handle_a_suspect_has_lost_is_not_made_twice(paths: list[str], kind: str) -> None:
    """Healing its new place looks for it by its gfid."""

    async def main() -> None:
        async with life(paths) as volume:
            for name in ("a", "b"):
                await volume.mkdir(name)
            moves = {"a/1": "b/1", "b/2": "a/2"}
            for old in moves:
                await (volume.mkdir if kind == "directory" else volume.create)(old)
            await cut_power(volume.bricks[1])
            for old in moves:
                os.unlink(volume.handle(1, volume.gfid(1, old)))
            inodes = [os.lstat(volume.at(1, old)).st_ino for old in moves]
            for old, new in moves.items():
                await volume.rename(old, new)
            await volume.bricks[1].start()
            for new in moves.values():
                await volume.lookup(new)
            assert not (await volume.replicate.healer.sweep()).failed
            assert volume.tree(0) == volume.tree(1) == volume.tree(2)
            assert [os.lstat(volume.at(1, new)).st_ino for new in moves.values()] == inodes
            assert volume.lost_handles(1) == []

    trio.run(main)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_suspect_was_making_is_made_anew_when_its_gfid_has_another_name_there(
    paths: list[str], kind: str
) -> None:
    """Healing has come to the other name first; or it is something else by now."""

    async def main() -> None:
        async with life(paths) as volume:
            await volume.create("f", b"content")
            await cut_power(volume.bricks[1])
            os.unlink(volume.handle(1, volume.gfid(1, "f")))
            os.unlink(volume.at(1, "f"))
            if kind == "file":
                open(volume.at(1, "f"), "wb").close()
            else:
                os.mkdir(volume.at(1, "f"))
            await volume.link("f", "a")
            await volume.bricks[1].start()
            await volume.replicate.healer.sweep()
            assert volume.tree(0) == volume.tree(1) == volume.tree(2)
            assert not volume.replicate.trust.unclean

    trio.run(main)


def test_what_has_got_its_gfid_meanwhile_is_not_removed_as_unmade(paths: list[str]) -> None:
    async def main() -> None:
        async with life(paths) as volume:
            await volume.create("f")
            with pytest.raises(FopError, match="has got a gfid meanwhile"):
                await remove_unmade(volume.replicate, 1, volume.graph.itable.root, b"f")
            assert volume.has(1, "f")

    trio.run(main)


def test_what_somebody_wrote_on_a_brick_itself_is_not_taken_for_what_it_was_making(paths: list[str]) -> None:
    async def main() -> None:
        async with life(paths) as volume:
            await cut_power(volume.bricks[1])
            with open(volume.at(1, "mine"), "wb") as file:
                file.write(b"content")
            await volume.bricks[1].start()
            await volume.replicate.healer.sweep()
            assert volume.content(1, "mine") == b"content"
            assert volume.replicate.trust.unclean

    trio.run(main)


MDATA = "trusted.glusterfs.mdata"


@pytest.mark.parametrize("change", ["a name", "times", "a mark"])
def test_what_a_suspect_has_lost_of_a_file_is_found_whatever_gives_it_the_same_times(
    paths: list[str], change: str
) -> None:
    """Its size is what it was by chance; only the time tells that it has lost a write."""

    async def main() -> None:
        async with life(paths) as volume:
            await volume.create("f", b"before")
            lost = os.getxattr(volume.at(1, "f"), MDATA)
            await volume.write("f", b"after!")
            await cut_power(volume.bricks[1])
            with open(volume.at(1, "f"), "wb") as file:
                file.write(b"before")
            if change == "a mark":
                volume.set_mark(1, "f", "dirty", (1, 0, 0))
            else:
                os.setxattr(volume.at(1, "f"), MDATA, lost)
            if change == "a name":
                await volume.link("f", "g")
            await volume.bricks[1].start()
            if change == "times":
                await volume.top.setattr(
                    volume.tick(), await volume.inode("f"), SetAttr(atime_ns=10**18, mtime_ns=10**18)
                )
            await volume.replicate.healer.sweep()
            assert [volume.content(brick, "f") for brick in range(3)] == [b"after!"] * 3
            assert volume.tree(0) == volume.tree(1)

    trio.run(main)


def test_a_mark_set_before_a_brick_lost_power_does_not_count_there_afterwards(paths: list[str]) -> None:
    """The file is still open for writing when the brick comes back, with what it has forgotten."""

    async def main() -> None:
        async with life(paths) as volume:
            fd = await volume.created("f")
            await volume.top.writev(volume.tick(), fd, b"0123456789", 0)
            await cut_power(volume.bricks[1])
            os.truncate(volume.at(1, "f"), 0)
            await volume.bricks[1].start()
            await volume.top.writev(volume.tick(), fd, b"x", 9)
            await volume.close(fd)
            await volume.replicate.healer.sweep()
            assert [volume.content(brick, "f") for brick in range(3)] == [b"012345678x"] * 3
            assert not any(volume.all_marks(brick) for brick in range(3))

    trio.run(main)
