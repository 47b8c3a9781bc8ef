"""Names of directories: every state the two copies can be in, every kind of file, and where what must go is parked."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from errno import EIO, ENOENT

import pytest
import trio

from fusemux.graph.cluster.replicate.heal.resolve import choice, resolve_name
from fusemux.graph.framework.errors import FusemuxError
from tests.graph.cluster.replicate.healing import down, healed, up, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused

PARKING = ".glusterfs-anonymous-inode-"
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


# -- afr-anon-inode.t, afr-anon-inode-no-quorum.t ----------------------------------------------------------------------


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


# -- gfid-mismatch-resolution-with-cli.t, gfid-mismatch-resolution-with-fav-child-policy.t ------------------------------


async def _conflict(volume: Volume, *contents: bytes, **options: str) -> None:
    """The name `f` made anew on each brick while the others were away."""
    count = len(contents)
    for brick, content in enumerate(contents):
        others = [n for n in range(count) if n != brick]
        await down(volume, *others)
        await up(volume, brick)
        await volume.remount(self_heal_daemon="off", **options)
        await volume.create("d/f", content)
    await up(volume, *range(count))
    await volume.remount(self_heal_daemon="off", **options)


async def _settled(volume: Volume, winner: int, content: bytes, gfid: bytes) -> None:
    await healed(volume)
    for brick in range(len(volume.bricks)):
        assert volume.content(brick, "d/f") == content
        assert volume.gfid(brick, "d/f") == gfid


@pytest.mark.parametrize(
    ("how", "child", "contents", "winner"),
    [
        ("latest-mtime", None, (b"older", b"newer"), 1),
        ("bigger-file", None, (b"the bigger", b"smaller"), 0),
        ("source-brick", "v-client-0", (b"one", b"two, larger and newer"), 0),
        ("source-brick", "v-client-1", (b"one", b"two"), 1),
    ],
)
def test_gfid_mismatch_resolution_with_cli(
    how: str, child: str | None, contents: tuple[bytes, ...], winner: int
) -> None:
    """The chosen copy's gfid is the name's, then contents become equal."""

    async def main() -> None:
        async with volume_of() as volume:
            await volume.mkdir("d")
            await _conflict(volume, *contents)
            with refused(EIO):
                await volume.lookup("d/f")
            assert (await volume.replicate.healer.sweep()).split_brain
            gfid = volume.gfid(winner, "d/f")
            parent = await volume.inode("d")
            healer = volume.replicate.healer
            assert await resolve_name(healer, parent, b"f", choice(healer, how, child), "/d/f") == gfid
            assert await volume.read("d/f") == contents[winner]
            await _settled(volume, winner, contents[winner], gfid)

    trio.run(main)


def test_gfid_mismatch_resolution_with_cli_of_two_against_one() -> None:
    """Two bricks have one file, the third another: the brick that is named wins, also the single one."""

    async def main() -> None:
        async with volume_of(3, quorum_type="none") as volume:
            await volume.mkdir("d")
            async with without(volume, 2):
                await volume.create("d/f", b"of two")
            await down(volume, 0, 1)
            await volume.remount(self_heal_daemon="off", quorum_type="none")
            await volume.create("d/f", b"of one")
            await up(volume, 0, 1)
            await volume.remount(self_heal_daemon="off", quorum_type="none")
            with refused(EIO):
                await volume.lookup("d/f")
            healer, gfid = volume.replicate.healer, volume.gfid(2, "d/f")
            parent = await volume.inode("d")
            await resolve_name(healer, parent, b"f", choice(healer, "source-brick", "v-client-2"), "/d/f")
            await _settled(volume, 2, b"of one", gfid)

    trio.run(main)


def test_gfid_mismatch_resolution_with_cli_refuses_to_choose_between_equal_sizes() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await volume.mkdir("d")
            await _conflict(volume, b"same", b"size")
            healer, parent = volume.replicate.healer, await volume.inode("d")
            with pytest.raises(FusemuxError, match="do not differ in that"):
                await resolve_name(healer, parent, b"f", choice(healer, "bigger-file"), "/d/f")
            assert volume.gfid(0, "d/f") != volume.gfid(1, "d/f")

    trio.run(main)


@pytest.mark.parametrize(
    ("policy", "contents", "winner"),
    [
        ("mtime", (b"older, bigger", b"newer"), 1),
        ("ctime", (b"older, bigger", b"newer"), 1),
        ("size", (b"1", b"the biggest", b"22"), 1),
        ("size", (b"bigger", b"small"), 0),
    ],
)
@pytest.mark.parametrize("who", ["daemon", "client"])
def test_gfid_mismatch_resolution_with_fav_child_policy(
    who: str, policy: str, contents: tuple[bytes, ...], winner: int
) -> None:
    """By the self-healer, or by the lookup and the reading of whoever comes first."""

    async def main() -> None:
        on = {"quorum_type": "none", "data_self_heal": "on", "metadata_self_heal": "on"}
        async with volume_of(len(contents), **on) as volume:
            await volume.mkdir("d")
            await _conflict(volume, *contents, **on)
            with refused(EIO):
                await volume.lookup("d/f")
            gfid = volume.gfid(winner, "d/f")
            volume.reconfigure(self_heal_daemon="off", favorite_child_policy=policy, **on)
            if who == "client":
                assert (await volume.lookup("d/f")).gfid == gfid
                assert await volume.read("d/f") == contents[winner]
            else:
                await volume.replicate.healer.sweep()
            await _settled(volume, winner, contents[winner], gfid)

    trio.run(main)


@pytest.mark.parametrize("who", ["daemon", "client"])
def test_gfid_mismatch_resolution_with_fav_child_policy_majority(who: str) -> None:
    """The file that two of three bricks have."""

    async def main() -> None:
        none = {"quorum_type": "none", "data_self_heal": "on"}
        async with volume_of(3, **none) as volume:
            await volume.mkdir("d")
            await down(volume, 1, 2)
            await volume.create("d/f", b"of one, and bigger")
            await up(volume, 1, 2)
            await down(volume, 0)
            await volume.remount(self_heal_daemon="off", **none)
            await volume.create("d/f", b"of two")
            await up(volume, 0)
            await volume.remount(self_heal_daemon="off", **none)
            with refused(EIO):
                await volume.lookup("d/f")
            gfid = volume.gfid(1, "d/f")
            volume.reconfigure(self_heal_daemon="off", favorite_child_policy="majority", **none)
            if who == "client":
                assert await volume.read("d/f") == b"of two"
            else:
                await volume.replicate.healer.sweep()
            await _settled(volume, 1, b"of two", gfid)

    trio.run(main)
