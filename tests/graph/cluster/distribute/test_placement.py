"""Whole volumes lay out and place as GlusterFS 10.3 did."""

from __future__ import annotations

import itertools

import pytest
import trio

from .vectors import VECTORS, VOLUMES
from .volume import MDS, brick_directories, served


@pytest.mark.parametrize("volume", VOLUMES)
def test_directories_made_through_the_graph_carry_glusterfs_own_shares_and_marks(volume: str) -> None:
    async def main() -> None:
        captured = VOLUMES[volume]["layouts"]
        with brick_directories(len(VOLUMES[volume]["subvolumes"])) as paths:
            async with served(paths, VOLUMES[volume]["subvolumes"]) as v:
                await v.lookup("/")
                for directory, wanted in captured.items():
                    if directory != "/":
                        await v.mkdir(directory)
                    assert v.shares(directory) == [share for share, _ in wanted], directory
                    marks = [v.xattr(place, directory, MDS) for place in range(len(paths))]
                    assert [m.hex() if m is not None else None for m in marks] == [mds for _, mds in wanted], directory

    trio.run(main)


@pytest.mark.parametrize("volume", VOLUMES)
def test_files_made_through_the_graph_land_where_glusterfs_put_them(volume: str) -> None:
    async def main() -> None:
        async with served(len(VOLUMES[volume]["subvolumes"]), VOLUMES[volume]["subvolumes"]) as v:
            for directory, landed in VOLUMES[volume]["landed"].items():
                if directory != "/":
                    await v.mkdir(directory)
                for name, place in zip(VECTORS["names"], landed, strict=True):
                    path = f"{directory.strip('/')}/{name}"
                    await v.create(path)
                    assert v.where(path) == {place: "file"}, path

    trio.run(main)


@pytest.mark.parametrize("volume", VOLUMES)
def test_renames_through_the_graph_leave_the_linkto_files_that_glusterfs_left(volume: str) -> None:
    async def main() -> None:
        v_ = VOLUMES[volume]
        per = v_["bricks_per_subvolume"]
        async with served(len(v_["subvolumes"]), v_["subvolumes"]) as v:
            for directory in sorted({rename["dir"] for rename in v_["renames"]}):
                await v.mkdir(directory)
            for rename in v_["renames"]:
                new = f"{rename['dir']}/{rename['renamed_to']}"
                path = [*rename.get("by_way_of", [f"{rename['dir']}/{rename['created_as']}"]), new]
                await v.create(path[0], b"x")
                for old, next_ in itertools.pairwise(path):
                    await v.rename(old, next_)
                wanted = {}
                for brick, found in rename["on_bricks"].items():
                    target = found["linkto"]
                    wanted[int(brick) // per] = "->" + bytes.fromhex(target)[:-1].decode() if target else "file"
                assert v.where(new) == wanted
                assert [v.where(old) for old in path[:-1]] == [{}] * (len(path) - 1)

    trio.run(main)
