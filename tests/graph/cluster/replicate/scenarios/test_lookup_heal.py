"""What a lookup heals: the name itself, its gfid, and with the client's own heals on whatever is accessed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from errno import EIO, ENOENT

import pytest
import trio
import trio.testing

from fusemux.fuse.bridge import Bridge
from fusemux.graph.framework.types import Frame, Iatt
from fusemux.testing.graph import GraphVolume
from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused

# -- name-self-heal.t ------------------------------------------------------------------------------------------------


async def _changed_without(volume: Volume, *away: int) -> None:
    """One name made, one removed, one removed and made again while bricks are away."""
    for name in ("gone", "again"):
        await volume.create(name, b"old")
    async with without(volume, *away):
        await volume.create("made", b"new")
        await volume.unlink("gone")
        await volume.unlink("again")
        await volume.create("again", b"new")


def _pending(volume: Volume) -> list[object]:
    return [volume.blames(brick, "/") for brick in range(len(volume.bricks))]


@pytest.mark.parametrize("remount", [False, True])
def test_name_self_heal_of_two(remount: bool) -> None:
    """Each name is made, removed or made anew by its own lookup alone; the directory stays recorded as pending."""

    async def main() -> None:
        async with volume_of() as volume:
            await _changed_without(volume, 0)
            if remount:
                await volume.remount(self_heal_daemon="off")
            before = _pending(volume)
            await volume.lookup("made")
            assert volume.gfid(0, "made") == volume.gfid(1, "made")
            assert volume.gfid(0, "again") != volume.gfid(1, "again")
            await volume.lookup("again")
            assert volume.gfid(0, "again") == volume.gfid(1, "again")
            assert volume.has(0, "gone")
            with refused(ENOENT):
                await volume.lookup("gone")
            assert not volume.has(0, "gone")
            assert _pending(volume) == before
            await healed(volume)
            assert await volume.read("again") == await volume.read("made") == b"new"

    trio.run(main)


@pytest.mark.parametrize(("quorum", "made"), [("auto", False), ("none", True)])
def test_name_self_heal_of_three(quorum: str, made: bool) -> None:
    """With a quorum rule a name that a recorded minority has missed is not made by its lookup; the others are set right."""

    async def main() -> None:
        async with volume_of(3, quorum_type=quorum) as volume:
            await _changed_without(volume, 0)
            with refused(ENOENT):
                await volume.lookup("gone")
            assert not volume.has(0, "gone")
            await volume.lookup("again")
            assert len({volume.gfid(brick, "again") for brick in range(3)}) == 1
            assert (await volume.lookup("made")).size == 3
            assert volume.has(0, "made") is made
            await healed(volume)

    trio.run(main)


@pytest.mark.parametrize("count", [2, 3])
def test_name_self_heal_of_a_name_gone_without_any_record(count: int) -> None:
    """It is made again, and its contents follow."""

    async def main() -> None:
        async with volume_of(count) as volume:
            await volume.create("f", b"content")
            os.unlink(volume.at(0, "f"))
            await volume.lookup("f")
            assert volume.gfid(0, "f") == volume.gfid(1, "f")
            await healed(volume)
            assert volume.content(0, "f") == b"content"

    trio.run(main)


def test_name_self_heal_waits_until_all_copies_are_there() -> None:
    async def main() -> None:
        async with volume_of(3, quorum_type="none") as volume:
            await _changed_without(volume, 0)
            await volume.bricks[2].kill()
            await volume.lookup("made")
            assert not volume.has(0, "made")
            await volume.bricks[2].start()
            await volume.lookup("made")
            assert volume.has(0, "made")
            await healed(volume)

    trio.run(main)


# -- gfid-self-heal.t, gfid-heal.t, gfid-mismatch.t ------------------------------------------------------------------


async def offering(volume: Volume, name: str) -> Iatt:
    """A lookup as the kernel's are: it offers a gfid to what has none."""
    reply: Iatt = await volume.top.lookup(
        volume.reader, volume.graph.itable.root, name.encode(), {b"gfid-req": volume.process.new_gfid()}
    )
    return reply


def _put(volume: Volume, brick: int, name: str, content: bytes = b"") -> None:
    with open(volume.at(brick, name), "wb") as file:
        file.write(content)


def _gfidless(volume: Volume, brick: int, name: str) -> bool:
    return "trusted.gfid" not in os.listxattr(volume.at(brick, name))


def test_gfid_self_heal_of_a_file_that_was_put_on_the_bricks() -> None:
    """It is listed before it has a gfid; a lookup gives all copies one."""

    async def main() -> None:
        async with volume_of() as volume:
            for brick in (0, 1):
                _put(volume, brick, "f", b"content")
            assert await volume.names_in("/") == ["f"]
            with refused(errno.ENODATA):
                await volume.lookup("f")
            found = await offering(volume, "f")
            assert [volume.gfid(brick, "f") for brick in (0, 1)] == [found.gfid] * 2
            assert await volume.read("f") == b"content"
            assert all(os.path.samefile(volume.handle(brick, found.gfid), volume.at(brick, "f")) for brick in (0, 1))

    trio.run(main)


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_gfid_self_heal_of_a_copy_that_has_lost_its_gfid(kind: str) -> None:
    """It gets the other's, with the handle."""

    async def main() -> None:
        async with volume_of() as volume:
            if kind == "file":
                await volume.create("f", b"content")
            elif kind == "directory":
                await volume.mkdir("f")
            else:
                await volume.symlink("f", b"text")
            gfid = volume.gfid(0, "f")
            os.removexattr(volume.at(1, "f"), "trusted.gfid", follow_symlinks=False)
            os.unlink(volume.handle(1, gfid))
            await volume.remount(self_heal_daemon="off")
            assert (await volume.lookup("f")).gfid == gfid == volume.gfid(1, "f")
            assert os.path.lexists(volume.handle(1, gfid))
            await healed(volume)

    trio.run(main)


def test_gfid_self_heal_of_a_copy_that_still_has_its_handle() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await volume.create("f", b"content")
            os.removexattr(volume.at(1, "f"), "trusted.gfid")
            assert (await volume.lookup("f")).gfid == volume.gfid(1, "f")

    trio.run(main)


def test_gfid_self_heal_gives_none_where_the_types_differ() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            _put(volume, 0, "f")
            os.mkdir(volume.at(1, "f"))
            with refused(errno.ENODATA):
                await offering(volume, "f")
            assert all(_gfidless(volume, brick, "f") for brick in (0, 1))

    trio.run(main)


def test_gfid_self_heal_gives_none_while_a_brick_is_away() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            for brick in (0, 1):
                _put(volume, brick, "f")
            async with without(volume, 1):
                with refused(errno.ENODATA):
                    await offering(volume, "f")
            assert all(_gfidless(volume, brick, "f") for brick in (0, 1))
            await offering(volume, "f")
            assert volume.gfid(0, "f") == volume.gfid(1, "f")

    trio.run(main)


@pytest.mark.fusemux(distribute=3, replica=2, backend="graph")
def test_gfid_heal(fusemux_volume: GraphVolume) -> None:
    """Directories that were made on four of six bricks: one lookup each makes them on all six with one gfid.

    The lookups are the kernel's: they pass through the bridge.
    """
    names = [f"dir{n}" for n in range(8)]

    async def scenario(volume: GraphVolume) -> None:
        bricks = [brick.path for brick in volume.bricks]
        for name in names:
            for path in bricks[:4]:
                (path / name).mkdir()
        bridge = Bridge(volume.served.graph)
        for name in names:
            _, iatt = await bridge.lookup(Frame(), 1, name.encode())
            assert stat.S_ISDIR(iatt.mode)
            gfids = {os.getxattr(path / name, "trusted.gfid") for path in bricks}
            assert gfids == {iatt.gfid}
        bridge.close()

    fusemux_volume.run(scenario)


def test_gfid_mismatch() -> None:
    """A file whose gfid was changed by hand on one brick is an error for all who look, and is not touched."""

    async def main() -> None:
        async with volume_of(quorum_type="auto") as volume:
            await volume.create("f", b"content")
            other = volume.process.new_gfid()
            os.unlink(volume.handle(1, volume.gfid(1, "f")))
            os.setxattr(volume.at(1, "f"), "trusted.gfid", other)
            await volume.remount(self_heal_daemon="off", quorum_type="auto")
            for _ in range(2):
                with refused(EIO):
                    await volume.lookup("f")
            assert await volume.names_in("/") == ["f"]
            assert volume.gfid(1, "f") == other != volume.gfid(0, "f")

    trio.run(main)


# -- client-side-heal.t ----------------------------------------------------------------------------------------------

ON = {"data_self_heal": "on", "metadata_self_heal": "on", "entry_self_heal": "on"}


async def _eight_pending(volume: Volume) -> None:
    """A file with contents, one with attributes, a directory with names, and the five files made in it."""
    await volume.create("data", b"some data")
    await volume.create("mode")
    await volume.mkdir("dir")
    async with without(volume, 0):
        await volume.append("data", b"some more")
        await volume.chmod("mode", 0o755)
        for n in range(5):
            await volume.create(f"dir/f{n}", b"x")
    assert len(await volume.replicate.healer.listed()) == 8


async def pending_falls_to(volume: Volume, count: int) -> None:
    """What is healed in the background is waited for."""
    with trio.fail_after(10):
        while len(await volume.replicate.healer.listed()) > count:
            await trio.lowlevel.checkpoint()
    assert len(await volume.replicate.healer.listed()) == count


async def _attributes(volume: Volume) -> None:
    with refused(errno.ENODATA):
        await volume.getxattr("mode", b"user.none")


Look = Callable[[Volume], Awaitable[object]]
LOOKS: list[Look] = [
    lambda volume: volume.lookup("mode"), _attributes, lambda volume: volume.read("data"), lambda volume: volume.names_in("dir"),
    *(lambda volume, n=n: volume.read(f"dir/f{n}") for n in range(5)),  # type: ignore[misc]
]  # fmt: skip


def test_client_side_heal_off() -> None:
    """Nothing is healed by looking, reading and listing, also not right after a mount."""

    async def main() -> None:
        async with volume_of() as volume:
            await _eight_pending(volume)
            for look in LOOKS[:4]:
                await volume.remount(self_heal_daemon="off")
                await look(volume)
            assert len(await volume.replicate.healer.listed()) == 8
            assert not volume.has(0, "dir/f0")

    trio.run(main)


def test_client_side_heal_on() -> None:
    """Attributes are healed by the lookup, contents by reading, names by listing: 8, 7, 6, 5, 0."""

    async def main() -> None:
        async with volume_of() as volume:
            await _eight_pending(volume)
            volume.reconfigure(self_heal_daemon="off", **ON)
            await volume.lookup("mode")
            assert len(await volume.replicate.healer.listed()) == 7
            assert os.stat(volume.at(0, "mode")).st_mode == 0o100755
            for look, left in zip(LOOKS[2:4], (6, 5), strict=True):
                await volume.remount(self_heal_daemon="off", **ON)
                await look(volume)
                await pending_falls_to(volume, left)
            for n in range(5):
                assert await volume.read(f"dir/f{n}") == b"x"
                await pending_falls_to(volume, 4 - n)
            await healed(volume)

    trio.run(main)


def test_client_side_heal_of_attributes_by_asking_for_an_xattr() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await _eight_pending(volume)
            inode = await volume.inode("mode")
            volume.reconfigure(self_heal_daemon="off", **ON)
            with refused(errno.ENODATA):
                await volume.top.getxattr(volume.reader, inode, b"user.none")
            await pending_falls_to(volume, 7)

    trio.run(main)


@pytest.mark.parametrize("change", ["mode", "owner"])
@pytest.mark.parametrize("on", [False, True])
def test_client_side_heal_of_attributes_changed_on_a_brick(on: bool, change: str) -> None:
    """Without any record: left alone while off, made equal by a lookup while on."""

    async def main() -> None:
        async with volume_of() as volume:
            await volume.create("f", b"content")
            await volume.lookup("f")
            if change == "mode":
                os.chmod(volume.at(1, "f"), 0o640)
            else:
                os.chown(volume.at(1, "f"), 12, 34)
            if on:
                volume.reconfigure(self_heal_daemon="off", metadata_self_heal="on")
            assert (await volume.lookup("f")).mode == 0o100644
            one, other = (os.stat(volume.at(brick, "f")) for brick in (0, 1))
            assert ((one.st_mode, one.st_uid) == (other.st_mode, other.st_uid)) is on
            await healed(volume) if on else None

    trio.run(main)


@pytest.mark.parametrize("kind", ["data", "metadata", "entry"])
def test_client_side_heal_of_one_kind_only(kind: str) -> None:
    """Each option is for its kind."""

    async def main() -> None:
        async with volume_of() as volume:
            await _eight_pending(volume)
            await volume.remount(**{"self_heal_daemon": "off", f"{kind}_self_heal": "on"})
            for look in LOOKS[:4]:
                await look(volume)
            await pending_falls_to(volume, 7)
            left = {
                "data": volume.blames(1, "data"), "metadata": volume.blames(1, "mode"), "entry": volume.blames(1, "dir")
            }  # fmt: skip
            assert [name for name, blames in left.items() if not blames] == [kind]

    trio.run(main)


@pytest.mark.parametrize(("room", "healed_then"), [({"background_self_heal_count": "0", "heal_wait_queue_length": "0"}, 0),
                                                   ({"background_self_heal_count": "1", "heal_wait_queue_length": "1"}, 2),
                                                   ({"background_self_heal_count": "2", "heal_wait_queue_length": "1"}, 3)])  # fmt: skip
def test_client_side_heal_takes_no_more_than_there_is_room_for(room: dict[str, str], healed_then: int) -> None:
    """What is not taken is healed at a later access, or by the self-healer."""

    async def main() -> None:
        async with volume_of() as volume:
            for n in range(5):
                await volume.create(f"f{n}", b"old")
            async with without(volume, 0):
                for n in range(5):
                    await volume.write(f"f{n}", b"new")
            inodes = [await volume.inode(f"f{n}") for n in range(5)]
            volume.reconfigure(self_heal_daemon="off", **ON, **room)
            for inode in inodes:
                volume.replicate.healer.accessed.ask(inode, await volume.replicate.known(volume.reader, inode))
            await trio.testing.wait_all_tasks_blocked()
            await pending_falls_to(volume, 5 - healed_then)
            await healed(volume)

    trio.run(main)
