"""The name-wise index: names that changed while a copy was away are listed by their directory, and nothing stays listed."""

from __future__ import annotations

import os
from uuid import UUID

import pytest
import trio

from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import Volume


async def _listed(volume: Volume, brick: int) -> dict[str, set[str]]:
    """The index of one brick: names by the path of their directory, or its gfid when that has gone."""
    base = volume.at(brick, ".glusterfs/indices/entry-changes")
    paths = {os.getxattr(volume.at(brick, path), "trusted.gfid"): path for path in (".", *volume.tree(brick))}
    gfids = [name for name in os.listdir(base) if os.path.isdir(f"{base}/{name}")]
    return {paths.get(UUID(gfid).bytes, gfid): set(os.listdir(f"{base}/{gfid}")) for gfid in gfids}


# -- granular-esh/granular-esh.t -----------------------------------------------------------------------------------


def test_granular_esh() -> None:
    """Every change of a name leaves an entry under its directory; after the heal the bricks are alike and nothing is listed."""

    async def main() -> None:
        async with volume_of() as volume:
            for path in ("kept", "gone"):
                await volume.mkdir(path)
            for path in ("removed", "old-name", "linked", "gone/inner"):
                await volume.create(path, b"content")
            gone = str(UUID(bytes=(await volume.lookup("gone")).gfid))
            async with without(volume, 0):
                await _change_names(volume)
                listed = await _listed(volume, 1)
            assert listed == {
                ".": {"new", "removed", "old-name", "new-name", "dir", "symlink", "made-and-deleted", "gone", "hole"},
                "kept": {"link-1", "link-2"},
                "dir": {"deep"},
                "dir/deep": {"file"},
                gone: {"inner"},
            }
            await healed(volume)
            assert [await _listed(volume, brick) for brick in (0, 1)] == [{}, {}]
            assert sorted(path for path in volume.tree(0) if "/" not in path) == [
                "dir", "hole", "kept", "linked", "new", "new-name", "symlink",
            ]  # fmt: skip
            assert os.stat(volume.at(0, "linked")).st_nlink - 1 == 3  # one of them is the gfid's
            assert os.readlink(volume.at(0, "symlink")) == "new-name"
            assert volume.content(0, "dir/deep/file") == b"new content"

    trio.run(main)


async def _change_names(volume: Volume) -> None:
    await volume.create("new", b"new content")
    await volume.unlink("removed")
    await volume.rename("old-name", "new-name")
    await volume.link("linked", "kept/link-1")
    await volume.link("linked", "kept/link-2")
    await volume.symlink("symlink", b"new-name")
    await volume.create("made-and-deleted")
    await volume.unlink("made-and-deleted")
    await volume.mknod("hole", 0o010644)
    await volume.mkdir("dir")
    await volume.mkdir("dir/deep")
    await volume.create("dir/deep/file", b"new content")
    await volume.unlink("gone/inner")
    await volume.rmdir("gone")


# -- granular-esh/conservative-merge.t -----------------------------------------------------------------------------


def test_granular_esh_conservative_merge() -> None:
    """Both sides change in turn: the names of both are there afterwards, deletions are undone, nothing is listed."""

    async def main() -> None:
        async with volume_of() as volume:
            await volume.mkdir("d")
            for name in ("only-left-deletes", "only-right-deletes", "both-delete", "kept"):
                await volume.create(f"d/{name}", name.encode())
            for brick, side in ((1, "left"), (0, "right")):
                async with without(volume, brick):
                    await volume.unlink(f"d/only-{side}-deletes")
                    await volume.unlink("d/both-delete")
                    await volume.create(f"d/{side}", side.encode())
                    await volume.mkdir(f"d/{side}-dir")
                    await volume.create(f"d/{side}-dir/file", side.encode())
                await volume.replicate.drain()
                await volume.remount(self_heal_daemon="off", granular_entry_heal="on")
            await healed(volume)
            assert await volume.names_in("d") == [
                "kept", "left", "left-dir", "only-left-deletes", "only-right-deletes", "right", "right-dir",
            ]  # fmt: skip
            for side in ("left", "right"):
                assert await volume.read(f"d/{side}") == await volume.read(f"d/{side}-dir/file") == side.encode()
                assert await volume.read(f"d/only-{side}-deletes") == f"only-{side}-deletes".encode()
            assert [await _listed(volume, brick) for brick in (0, 1)] == [{}, {}]

    trio.run(main)


# -- granular-esh/granular-indices-but-non-granular-heal.t ---------------------------------------------------------


@pytest.mark.parametrize("turned_off_first", [True, False])
def test_granular_esh_granular_indices_but_non_granular_heal(turned_off_first: bool) -> None:
    """The index was made with the option on, and it is off when the heal begins: that heals everything all the same."""

    async def main() -> None:
        async with volume_of() as volume:
            await volume.mkdir("d")
            await volume.create("d/removed", b"x")
            async with without(volume, 0):
                await volume.create("d/listed", b"1")
                await volume.unlink("d/removed")
                if turned_off_first:  # what changes now is in no index
                    volume.reconfigure(self_heal_daemon="off", granular_entry_heal="off")
                    await volume.create("d/not-listed", b"2")
                assert (await _listed(volume, 1))["d"] == {"listed", "removed"}
            volume.reconfigure(self_heal_daemon="off", granular_entry_heal="off")
            await healed(volume)
            assert await volume.names_in("d") == ["listed", *(["not-listed"] if turned_off_first else [])]
            assert [await _listed(volume, brick) for brick in (0, 1)] == [{}, {}]

    trio.run(main)
