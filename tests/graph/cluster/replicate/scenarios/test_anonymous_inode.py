"""Where what must leave its place is parked while names are healed: afr-anon-inode.t, afr-anon-inode-no-quorum.t."""

from __future__ import annotations

import os
from errno import ENOENT

import pytest
import trio

from tests.graph.cluster.replicate.healing import PARKING, down, healed, up, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused


def _hidden(volume: Volume) -> str:
    return PARKING + "00000000-0000-0000-0000-000000000000"


def _parked(volume: Volume, brick: int) -> set[str]:
    try:
        return set(os.listdir(volume.at(brick, _hidden(volume))))
    except FileNotFoundError:
        return set()


def _handle_name(volume: Volume, brick: int, path: str) -> str:
    return os.path.basename(volume.handle(brick, volume.gfid(brick, path)))


def test_afr_anon_inode_of_directories_moved_across_each_other() -> None:
    """They are healed by moving them: the copy keeps their inodes, and what is parked meanwhile is not listed."""

    async def main() -> None:
        async with volume_of(3) as volume:
            for name in ("d1", "d1/b", "d2", "d2/a"):
                await volume.mkdir(name)
            await volume.create("d2/a/file", b"content")
            inodes = {name: os.stat(volume.at(0, f"d{n}/{name}")).st_ino for n, name in ((1, "b"), (2, "a"))}
            async with without(volume, 0):
                await volume.rename("d2/a", "d1/a")
                await volume.rename("d1/b", "d2/b")
            await volume.replicate.healer.heal((await volume.lookup("d2")).gfid)
            assert _parked(volume, 0) == {_handle_name(volume, 1, "d1/a")}
            assert volume.gfid(0, _hidden(volume)) == b"\1" + bytes(15)
            assert await volume.names_in("/") == ["d1", "d2"]
            with refused(ENOENT):
                await volume.lookup(_hidden(volume))
            await healed(volume)
            after = {name: os.stat(volume.at(0, f"d{n}/{name}")).st_ino for n, name in ((2, "b"), (1, "a"))}
            assert after == inodes
            assert _parked(volume, 0) == set()

    trio.run(main)


async def _prepare_purge(volume: Volume) -> dict[str, str]:
    """What is taken from its place while brick 0 is away: the names it is parked under."""
    for name in ("d1", "d1/a", "d2", "l0", "l1", "gone", "gone/inner"):
        await volume.mkdir(name)
    for name in ("file", "alone", "l0/file"):
        await volume.create(name, b"content")
    await volume.link("file", "linked")
    await volume.link("l0/file", "l1/linked")
    gfids = {name: _handle_name(volume, 0, name) for name in ("file", "alone", "gone", "d1/a", "l0/file")}
    async with without(volume, 0):
        await volume.unlink("file")
        await volume.unlink("alone")
        await volume.rmdir("gone/inner")
        await volume.rmdir("gone")
        await volume.rename("d1/a", "d2/a")
        await volume.rename("l0/file", "l0/renamed")
    return gfids


def test_afr_anon_inode_parks_what_is_left_elsewhere_and_purges_when_all_bricks_are_up() -> None:
    """Files with links left are parked, without links removed at once; nothing is purged while a brick is away."""

    async def main() -> None:
        async with volume_of(3) as volume:
            gfids = await _prepare_purge(volume)
            for name in gfids:
                with refused(ENOENT):
                    await volume.lookup(name)
            wanted = {gfids[name] for name in ("file", "gone", "d1/a", "l0/file")}
            assert _parked(volume, 0) == wanted
            inode = os.stat(volume.at(0, f"{_hidden(volume)}/{gfids['d1/a']}")).st_ino
            await down(volume, 1)
            with pytest.raises(Exception, match="healing needs all copies"):
                await volume.replicate.healer.sweep()
            assert _parked(volume, 0) == wanted
            await up(volume, 1)
            await healed(volume)
            assert [_parked(volume, brick) for brick in range(3)] == [set()] * 3
            assert os.stat(volume.at(0, "d2/a")).st_ino == inode
            assert volume.content(0, "linked") == volume.content(0, "l0/renamed") == b"content"
            assert not any(volume.has(0, name) for name in gfids)

    trio.run(main)


def test_afr_anon_inode_of_names_parked_on_each_brick_in_turn() -> None:
    """Each brick has parked another name of one file; once the file is gone everywhere nothing of it is left."""

    async def main() -> None:
        async with volume_of(3) as volume:
            for n in range(3):
                await volume.mkdir(f"l{n}")
            await volume.create("l0/file", b"content")
            for n in (1, 2):
                await volume.link("l0/file", f"l{n}/file")
            parked = _handle_name(volume, 0, "l0/file")
            for n in range(3):
                async with without(volume, n):
                    await volume.rename(f"l{n}/file", f"l{n}/renamed")
                with refused(ENOENT):
                    await volume.lookup(f"l{n}/file")
                assert _parked(volume, n) == {parked}
            for n in range(3):
                await volume.unlink(f"l{n}/renamed")
            await healed(volume)
            assert [_parked(volume, brick) for brick in range(3)] == [set()] * 3
            assert not any(
                os.path.lexists(volume.handle(brick, bytes.fromhex(parked.replace("-", "")))) for brick in range(3)
            )

    trio.run(main)


def test_afr_anon_inode_no_quorum() -> None:
    """What is parked stays as long as a brick has a name for it: one comes back to its place, the other is purged at last."""

    async def main() -> None:
        async with volume_of() as volume:
            for name in ("old", "old/gone", "old/moved", "new"):
                await volume.mkdir(name)
            inode = os.stat(volume.at(0, "old/moved")).st_ino
            parked = {name: _handle_name(volume, 0, f"old/{name}") for name in ("gone", "moved")}
            async with without(volume, 0):
                await volume.rename("old/gone", "new/gone")
                await volume.rename("old/moved", "new/moved")
            for name in parked:
                with refused(ENOENT):
                    await volume.lookup(f"old/{name}")
            assert _parked(volume, 0) == set(parked.values())
            _forget(volume, 1, "new")  # as if nobody had recorded it
            await volume.replicate.healer.sweep()
            assert _parked(volume, 0) == set(parked.values())
            await volume.lookup("new/moved")
            assert os.stat(volume.at(0, "new/moved")).st_ino == inode
            async with without(volume, 0):
                await volume.rmdir("new/gone")
            await healed(volume)
            assert _parked(volume, 0) == set()

    trio.run(main)


def _forget(volume: Volume, brick: int, path: str) -> None:
    for who in ("client-0", "client-1", "dirty"):
        volume.set_mark(brick, path, who, None)
    listed = volume.at(brick, f".glusterfs/indices/xattrop/{_handle_name(volume, brick, path)}")
    if os.path.exists(listed):
        os.unlink(listed)
