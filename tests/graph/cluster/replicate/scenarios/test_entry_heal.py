"""Names of directories: every state the two copies can be in, every kind of file."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from errno import EIO, ENOENT

import pytest
import trio

from tests.graph.cluster.replicate.healing import PARKING, healed, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused

KINDS = ("fifo", "block", "char", "file", "slink", "dir1")

# -- entry-self-heal.t, entry-self-heal-anon-dir-off.t: fifteen directories --------------------------------------------
#
# `spb`: each side has made a name while the other was away, and blames it; `fool`: both are dirty, nobody is blamed;
# `v1_fool`: one side blames itself, too; `v1_dirty`: it blames only itself; `self_accusing`: the blamed side blames itself.
# Names in directories that end in `_me` are looked up one by one, those in `_heal` are healed with their directory.

MERGED = ("spb_heal", "spb_me_heal", "fool_heal", "fool_me", "v1_fool_heal", "v1_fool_me")
DIRECTORIES = (
    *MERGED, "spb", "spb_me", "v1_dirty_heal", "v1_dirty_me", "source_creations_heal", "source_creations_me",
    "source_deletions_heal", "source_deletions_me", "source_self_accusing",
)  # fmt: skip


async def _every_kind(volume: Volume, directory: str) -> None:
    await volume.mknod(f"{directory}/fifo", stat.S_IFIFO | 0o640)
    await volume.mknod(f"{directory}/block", stat.S_IFBLK | 0o604, os.makedev(4, 5))
    await volume.mknod(f"{directory}/char", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    await volume.create(f"{directory}/file", b"content")
    await volume.chown(f"{directory}/file", 12, 34)
    await volume.symlink(f"{directory}/slink", f"{directory}/file".encode())
    await volume.mkdir(f"{directory}/dir1")
    await volume.mkdir(f"{directory}/dir1/dir2")


async def _none_of_them(volume: Volume, directory: str) -> None:
    for name in KINDS[:5]:
        await volume.unlink(f"{directory}/{name}")
    await volume.rmdir(f"{directory}/dir1/dir2")
    await volume.rmdir(f"{directory}/dir1")


async def _states(volume: Volume, options: dict[str, str]) -> None:
    for name in DIRECTORIES:
        await volume.mkdir(name)
    for name in ("source_deletions_heal", "source_deletions_me", "source_self_accusing"):
        await _every_kind(volume, name)
    await volume.bricks[0].kill()
    for name in (*MERGED, "spb", "spb_me", "v1_dirty_heal", "v1_dirty_me"):
        await volume.create(f"{name}/0", b"zero")
    for name in ("source_deletions_heal", "source_deletions_me", "source_self_accusing"):
        await _none_of_them(volume, name)
    for name in ("source_creations_heal", "source_creations_me"):
        await _every_kind(volume, name)
    await volume.bricks[1].kill()
    await volume.bricks[0].start()
    await volume.remount(**options)
    for name in MERGED:
        await volume.create(f"{name}/1", b"one")
    for name in ("spb", "spb_me"):
        await volume.create(f"{name}/0", b"another zero")
    _marks_by_hand(volume)
    await volume.bricks[1].start()
    await volume.remount(**options)


def _marks_by_hand(volume: Volume) -> None:
    for name in ("fool_heal", "fool_me"):
        volume.set_mark(0, name, "client-1", None)
        volume.set_mark(1, name, "client-0", None)
        volume.set_mark(0, name, "dirty", (0, 0, 1))
        volume.set_mark(1, name, "dirty", (0, 0, 1))
    for name in ("v1_fool_heal", "v1_fool_me"):
        volume.set_mark(1, name, "client-1", (0, 0, 1))
    for name in ("v1_dirty_heal", "v1_dirty_me"):
        volume.set_mark(1, name, "client-0", None)
        volume.set_mark(1, name, "client-1", (0, 0, 1))
    volume.set_mark(0, "source_self_accusing", "client-0", (0, 0, 6))


def _types(volume: Volume, brick: int, directory: str) -> dict[str, tuple[int, ...]]:
    found = {name: os.lstat(volume.at(brick, f"{directory}/{name}")) for name in (*KINDS, "dir1/dir2")}
    return {name: (st.st_mode, st.st_rdev, st.st_uid, st.st_gid) for name, st in found.items()}


def played(way: dict[str, str], scenario: Callable[[Volume], Awaitable[None]], *, accessed: bool = False) -> None:
    """The fifteen directories, and what `scenario` does with them."""
    options = {
        **way,
        **(dict.fromkeys(("data_self_heal", "metadata_self_heal", "entry_self_heal"), "on") if accessed else {}),
    }

    async def main() -> None:
        async with volume_of(**options) as volume:
            await _states(volume, options)
            await scenario(volume)
            if way.get("use_anonymous_inode") == "no":
                assert not any(
                    name.startswith(PARKING) for brick in (0, 1) for name in os.listdir(volume.at(brick, ""))
                )

    trio.run(main)


async def _looked_up(volume: Volume) -> None:
    for name in ("spb_me_heal", "fool_me", "v1_fool_me"):
        for entry in ("1", "0"):
            await volume.lookup(f"{name}/{entry}")
            assert volume.gfid(0, f"{name}/{entry}") == volume.gfid(1, f"{name}/{entry}")
    await volume.lookup("v1_dirty_me/0")
    assert volume.has(0, "v1_dirty_me/0")
    with refused(EIO):
        await volume.lookup("spb_me/0")
    assert [volume.content(brick, "spb_me/0") for brick in (0, 1)] == [b"another zero", b"zero"]
    for name in (*KINDS[:5], "dir1/dir2", "dir1"):
        with refused(ENOENT):
            await volume.lookup(f"source_deletions_me/{name}")
        assert not any(volume.has(brick, f"source_deletions_me/{name}") for brick in (0, 1))
    for name in (*KINDS[:5], "dir1", "dir1/dir2"):
        await volume.lookup(f"source_creations_me/{name}")
    made, wanted = (_types(volume, brick, "source_creations_me") for brick in (0, 1))
    assert made == wanted
    assert made["block"][:2] == (stat.S_IFBLK | 0o604, os.makedev(4, 5))
    assert made["file"] == (0o100644, 0, 12, 34)
    assert os.readlink(volume.at(0, "source_creations_me/slink")) == "source_creations_me/file"


async def _healed_as_directories(volume: Volume, heal: Callable[[str], Awaitable[None]]) -> None:
    for name in DIRECTORIES:
        await heal(name)
    for name in MERGED:
        assert all(volume.has(brick, f"{name}/{entry}") for brick in (0, 1) for entry in ("0", "1"))
    assert all(volume.has(brick, "v1_dirty_heal/0") for brick in (0, 1))
    for name in ("source_deletions_heal", "source_self_accusing"):
        assert not any(os.listdir(volume.at(brick, name)) for brick in (0, 1))
    made, wanted = (set(os.listdir(volume.at(brick, "source_creations_heal"))) for brick in (0, 1))
    assert made == wanted == set(KINDS)
    for name in DIRECTORIES:
        cleared = {} if name not in ("spb", "spb_me") else {f"client-{n}": (0, 0, 1) for n in (0, 1)}
        assert {**volume.blames(0, name), **volume.blames(1, name)} == cleared, name
    assert [volume.content(brick, "spb/0") for brick in (0, 1)] == [b"another zero", b"zero"]


async def _healed_by_sweeps(volume: Volume) -> None:
    async def heal(name: str) -> None:
        await volume.replicate.healer.heal((await volume.lookup(name)).gfid)

    await _healed_as_directories(volume, heal)
    await volume.replicate.healer.sweep()
    made, wanted = (_types(volume, brick, "source_creations_heal") for brick in (0, 1))
    assert made == wanted
    assert volume.content(0, "source_creations_heal/file") == b"content"
    progress = await volume.replicate.healer.sweep()
    assert (progress.failed, progress.split_brain) == (
        6,
        2,
    )  # spb and spb_me, and the two files that each copy has there


async def _healed_by_listing(volume: Volume) -> None:
    async def heal(name: str) -> None:
        gfid = (await volume.lookup(name)).gfid
        if name in ("spb", "spb_me"):  # no heal can decide, so neither copy is listed
            with refused(EIO):
                await volume.names_in(name)
            return
        await volume.names_in(name)
        with trio.fail_after(10):
            while volume.replicate.healer.accessed.under_way(gfid):
                await trio.lowlevel.checkpoint()
        if name.startswith("fool"):  # dirty marks that accuse nobody are the self-healer's
            await volume.replicate.healer.heal(gfid)

    await _healed_as_directories(volume, heal)


def test_entry_self_heal_by_lookup_of_single_names() -> None:
    played({"self_heal_daemon": "off", "granular_entry_heal": "on"}, _looked_up, accessed=True)


@pytest.mark.parametrize("granular", ["on", "off"])
def test_entry_self_heal_of_directories(granular: str) -> None:
    played(
        {"self_heal_daemon": "off", "granular_entry_heal": granular, "use_anonymous_inode": "yes"}, _healed_by_sweeps
    )


def test_entry_self_heal_by_listing() -> None:
    played(
        {"self_heal_daemon": "off", "granular_entry_heal": "on", "use_anonymous_inode": "yes"},
        _healed_by_listing,
        accessed=True,
    )


OFF = {"self_heal_daemon": "off", "granular_entry_heal": "on", "use_anonymous_inode": "no"}


@pytest.mark.parametrize(
    ("scenario", "accessed"), [(_looked_up, True), (_healed_by_sweeps, False), (_healed_by_listing, True)]
)
def test_entry_self_heal_anon_dir_off(scenario: Callable[[Volume], Awaitable[None]], accessed: bool) -> None:
    """The same without parking: no hidden directory appears."""
    played(OFF, scenario, accessed=accessed)


@pytest.mark.parametrize("where", ["same directory", "another directory"])
def test_entry_self_heal_anon_dir_off_removes_and_makes_a_renamed_directory(where: str) -> None:
    new = "new" if where == "same directory" else "other/new"

    async def main() -> None:
        async with volume_of(**OFF) as volume:
            await volume.mkdir("other")
            await volume.mkdir("old")
            await volume.create("old/file", b"content")
            before = os.stat(volume.at(1, "old")).st_ino
            async with without(volume, 1):
                await volume.rename("old", new)
            await healed(volume)
            assert volume.content(1, f"{new}/file") == b"content"
            assert os.stat(volume.at(1, new)).st_ino != before
            assert not volume.has(1, "old")
            assert not any(name.startswith(PARKING) for name in os.listdir(volume.at(1, "")))

    trio.run(main)
