"""The changelog on the bricks is what GlusterFS 10.3 writes: the captured operations again, on bricks of ours.

The captures were made in one volume, the second brick stopped after the first had healed.  Healing leaves zeros behind, so of the
second round only what is not zero is compared, and only of the files that both have.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from fusemux.graph.cluster.replicate.changelog import unpack
from tests.graph.cluster.replicate.volume import Counters, Volume, served

VECTORS = json.loads((Path(__file__).parents[3] / "data" / "afr-vectors.json").read_text())
KINDS = {"afr-rep2": (2, "0"), "afr-rep3": (3, "0"), "afr-arb": (3, "1")}
ROUNDS = [
    (kind, brick, first) for kind in KINDS for first, brick in zip((True, False), VECTORS[kind]["down"], strict=True)
]
FILES = ("append", "chmod", "clean", "delete", "rename", "setxattr", "trunc", "write", "dir/gone", "dir/inside")


@asynccontextmanager
async def as_captured(kind: str) -> AsyncIterator[Volume]:
    """The tree of the captures, made by the same operations while all bricks were up."""
    count, arbiter = KINDS[kind]
    options = {"arbiter_count": arbiter, "granular_entry_heal": "on"}
    async with served(count, on_bricks=("features/index",), **options) as volume:
        await volume.mkdir("dir")
        await volume.mkdir("dir2")
        for path in FILES:
            await volume.create(path, bytes(300))
        await volume.symlink("link", b"clean")
        await volume.link("clean", "hard")
        yield volume


@asynccontextmanager
async def with_brick_down(kind: str, brick: str, first: bool) -> AsyncIterator[tuple[Volume, list[dict[str, Any]]]]:
    """The tree after the operations of the captures with `brick` stopped, and what GlusterFS had then on each brick."""
    down = int(brick[1:])
    async with as_captured(kind) as volume:
        await volume.bricks[down].kill()
        await volume.write("write", bytes(200))
        await volume.append("append", bytes(50))
        await volume.truncate("trunc", 10 + down)
        await volume.chmod("chmod", 0o600)
        await volume.setxattr("setxattr", b"user.k", b"v")
        await volume.create(f"new-b{down}", bytes(100))
        await volume.create(f"empty-b{down}")
        await volume.mkdir(f"newdir-b{down}")
        await volume.create(f"newdir-b{down}/x", bytes(2))
        await volume.unlink("dir/gone" if first else "delete")
        await volume.rename("rename", f"renamed-b{down}")
        await volume.create(f"dir2/y-b{down}", bytes(1))
        await volume.replicate.drain()
        yield volume, VECTORS[kind]["down"][brick]["trees"]


def captured(tree: dict[str, Any]) -> dict[str, dict[str, Counters]]:
    """The changelogs of one brick in the capture, with the volume named as ours is."""
    return {
        path: {f"client-{name.rpartition('-')[2]}" if "-" in name else name: unpack(bytes.fromhex(raw)) for name, raw in entry["marks"].items()}
        for path, entry in tree.items()
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_while_all_bricks_are_up_only_files_that_were_written_carry_a_mark_and_it_is_zero(kind: str) -> None:
    async def main() -> None:
        async with as_captured(kind) as volume:
            for brick, tree in enumerate(VECTORS[kind]["clean"]):
                assert {path: volume.marks(brick, path) for path in tree} == captured(tree)

    trio.run(main)


@pytest.mark.parametrize(("kind", "brick", "first"), ROUNDS)
def test_what_a_brick_missed_is_recorded_on_the_others(kind: str, brick: str, first: bool) -> None:
    async def main() -> None:
        async with with_brick_down(kind, brick, first) as (volume, trees):
            for place, tree in enumerate(trees):
                ours = {path: volume.marks(place, path) for path in tree if os.path.lexists(volume.at(place, path))}
                theirs = captured(tree)
                if first:
                    assert ours == theirs
                else:
                    assert {path: not_zero(marks) for path, marks in ours.items()} == {
                        path: not_zero(theirs[path]) for path in ours
                    }

    trio.run(main)


def not_zero(marks: dict[str, Counters]) -> dict[str, Counters]:
    return {name: counters for name, counters in marks.items() if any(counters)}


@pytest.mark.parametrize(("kind", "brick"), [(kind, brick) for kind, brick, first in ROUNDS if first])
def test_the_files_have_the_sizes_that_glusterfs_left(kind: str, brick: str) -> None:
    async def main() -> None:
        async with with_brick_down(kind, brick, True) as (volume, trees):
            for place, tree in enumerate(trees):
                sizes = {path: entry["size"] for path, entry in tree.items() if "size" in entry}
                assert {path: os.lstat(volume.at(place, path)).st_size for path in sizes} == sizes

    trio.run(main)


@pytest.mark.parametrize(("kind", "brick", "first"), ROUNDS)
def test_the_index_lists_what_must_be_healed_and_the_names_that_changed(kind: str, brick: str, first: bool) -> None:
    async def main() -> None:
        async with with_brick_down(kind, brick, first) as (volume, trees):
            for place, tree in enumerate(trees):
                pending, changed = captured_index(VECTORS[kind]["down"][brick]["indices"][place], tree, brick)
                assert listed(volume, place) == pending
                assert names_changed(volume, place) == changed

    trio.run(main)


def captured_index(index: dict[str, Any], tree: dict[str, Any], brick: str) -> tuple[set[str], dict[str, list[str]]]:
    """Paths instead of gfids; the file that was renamed twice in the capture is renamed once here."""
    paths = {entry["gfid"]: path for path, entry in tree.items()}
    pending = {paths[gfid.replace("-", "")] for gfid in index["xattrop"]}
    changed = {paths[gfid.replace("-", "")]: names for gfid, names in index["entry-changes"].items()}
    once = {
        "renamed-b0": "rename",
        "renamed-b1": "rename",
        "renamed-b2": "rename",
        f"renamed-{brick}": f"renamed-{brick}",
    }
    return pending, {path: sorted({once.get(name, name) for name in names}) for path, names in changed.items()}


def index_of(volume: Volume, brick: int, kind: str) -> Path:
    return Path(volume.bricks[brick].path, ".glusterfs", "indices", kind)


def path_of(volume: Volume, brick: int, gfid: str) -> str:
    for path in (".", *volume.tree(brick)):
        if os.getxattr(volume.at(brick, path), "trusted.gfid", follow_symlinks=False).hex() == gfid.replace("-", ""):
            return path
    raise AssertionError(f"no file {gfid} on brick {brick}")


def listed(volume: Volume, brick: int) -> set[str]:
    names = os.listdir(index_of(volume, brick, "xattrop"))
    return {path_of(volume, brick, name) for name in names if not name.startswith("xattrop-")}


def names_changed(volume: Volume, brick: int) -> dict[str, list[str]]:
    base = index_of(volume, brick, "entry-changes")
    folders = [folder for folder in base.iterdir() if folder.is_dir()]
    return {path_of(volume, brick, folder.name): sorted(os.listdir(folder)) for folder in folders}
