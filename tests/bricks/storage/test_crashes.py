"""What a crash in the middle of an operation leaves, and how it is mended.

Each test makes the state by hand, with system calls on the brick, as it would lie there when the process dies between two of
them; then the brick is served again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fusemux.bricks.storage.posix.handle import link_text, path_of
from fusemux.bricks.storage.posix.lookup import GFID_LESS, GFID_REQ
from fusemux.bricks.storage.posix.mapped import MappedStore
from fusemux.bricks.storage.posix.store import Store
from fusemux.graph.framework.types import ROOT_GFID, gfid_text
from tests.bricks.serving import Place, Volume, failing, run


def handle(place: Place, gfid: bytes) -> str:
    return os.path.join(place.path, ".glusterfs", path_of(gfid))


class Died(BaseException):
    """Stands for the end of the process: no handler may tidy up after it."""


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`dying("link_handle")`: the process ends when a store comes to call this method."""

    def arm(method: str) -> None:
        def die(*args: object, **kwargs: object) -> None:
            raise Died

        for cls in (Store, MappedStore):
            monkeypatch.setattr(cls, method, die)
            monkeypatch.setattr(cls, "_unmake", lambda *args: None)

    return arm


def crash(place: Place, scenario: Callable[[Volume], Awaitable[None]]) -> None:
    async def dies(volume: Volume) -> None:
        with pytest.raises(Died):
            await scenario(volume)
        await volume.brick.kill()

    run(place, dies)


def test_a_create_that_died_before_its_gfid_is_completed_by_a_lookup_that_offers_one(brick: Place) -> None:
    (brick.path / "f").touch()
    (brick.path / "d").mkdir()

    async def scenario(volume: Volume) -> None:
        for name in (b"f", b"d"):
            with failing(errno.ENODATA):
                await volume.lookup(name)
            gfid = volume.process.new_gfid()
            assert (await volume.lookup(name, xdata={GFID_REQ: gfid})).gfid == gfid
        listed = {entry.name: entry.iatt for entry in await volume.list(plus=True)}
        assert all(iatt is not None for iatt in listed.values())

    run(brick, scenario)


def test_a_name_without_gfid_is_listed_without_attributes(brick: Place) -> None:
    (brick.path / "f").touch()

    async def scenario(volume: Volume) -> None:
        entries = await volume.list(plus=True)
        assert [(entry.name, entry.iatt) for entry in entries] == [(b"f", None)]

    run(brick, scenario)


@pytest.mark.parametrize("method", ["link_handle", "record_name"])
def test_a_create_that_died_after_its_gfid_is_completed_by_any_lookup(
    plain: Place, dying: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    async def dies(volume: Volume) -> None:
        await volume.mknod(b"f", stat.S_IFIFO | 0o600)

    async def scenario(volume: Volume) -> None:
        iatt = await volume.lookup(b"f")
        assert iatt.nlink == 1
        assert os.path.samefile(handle(plain, iatt.gfid), plain.path / "f")
        inode = volume.graph.itable.link(iatt.gfid, iatt.type)
        await volume.rename(b"f", b"g", inode)
        await volume.unlink(b"g", inode)
        assert not os.path.lexists(handle(plain, iatt.gfid))

    dying(method)
    crash(plain, dies)
    monkeypatch.undo()
    run(plain, scenario)


def test_a_mkdir_that_died_before_its_handle_is_completed_by_a_lookup(brick: Place) -> None:
    gfid = os.urandom(16)
    (brick.path / "d").mkdir()
    os.setxattr(brick.path / "d", brick.xattr(b"trusted.gfid"), gfid)

    async def scenario(volume: Volume) -> None:
        directory = volume.graph.itable.link(gfid, stat.S_IFDIR)
        with failing(errno.ESTALE):
            await volume.names(directory)
        assert (await volume.lookup(b"d")).gfid == gfid
        await volume.file(b"f", directory)
        assert await volume.names(directory) == [b"f"]

    run(brick, scenario)


def test_a_rename_that_died_before_the_handle_was_rewritten_is_completed_by_a_lookup(brick: Place) -> None:
    gfids: list[bytes] = []

    async def before(volume: Volume) -> None:
        directory = await volume.mkdir(b"old")
        await volume.file(b"f", directory)
        gfids.append(directory.gfid)

    async def after(volume: Volume) -> None:
        directory = volume.graph.itable.link(gfids[0], stat.S_IFDIR)
        with failing(errno.ESTALE):
            await volume.names(directory)
        await volume.lookup(b"new")
        assert await volume.names(directory) == [b"f"]
        assert os.readlink(os.fsencode(handle(brick, gfids[0]))) == link_text(ROOT_GFID, b"new")

    run(brick, before)
    os.rename(brick.path / "old", brick.path / "new")
    run(brick, after)


def test_another_directory_at_the_old_place_is_not_taken_for_the_one_that_moved(brick: Place) -> None:
    gfids: list[bytes] = []

    async def before(volume: Volume) -> None:
        gfids.append((await volume.mkdir(b"one")).gfid)
        gfids.append((await volume.mkdir(b"two")).gfid)

    async def after(volume: Volume) -> None:
        one = volume.graph.itable.link(gfids[0], stat.S_IFDIR)
        with failing(errno.ESTALE):
            await volume.file(b"f", one)
        await volume.lookup(b"moved")
        await volume.file(b"f", one)
        assert (brick.path / "moved" / "f").exists()

    run(brick, before)
    os.rename(brick.path / "one", brick.path / "moved")
    os.rename(brick.path / "two", brick.path / "one")
    run(brick, after)


def test_an_unlink_that_died_after_the_handle_leaves_a_file_that_works(brick: Place) -> None:
    gfids: list[bytes] = []

    async def before(volume: Volume) -> None:
        gfids.append((await volume.file(b"f", data=b"x")).gfid)

    async def after(volume: Volume) -> None:
        iatt = await volume.lookup(b"f")
        assert (iatt.gfid, iatt.nlink) == (gfids[0], 1)
        inode = volume.graph.itable.link(iatt.gfid, iatt.type)
        assert await volume.read(inode) == b"x"
        await volume.unlink(b"f", inode)
        assert await volume.names() == []
        assert not os.path.lexists(handle(brick, gfids[0]))

    run(brick, before)
    os.unlink(handle(brick, gfids[0]))
    run(brick, after)


def test_a_file_that_lost_its_handle_can_be_unlinked_at_once(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode, fd, _ = await volume.create(b"f")
        closed = await volume.file(b"g")
        for gfid in (inode.gfid, closed.gfid):
            os.unlink(handle(brick, gfid))
        await volume.unlink(b"f", inode)
        await volume.unlink(b"g", closed)
        await volume.top.release(volume.frame(), fd, None)
        assert await volume.names() == []

    run(brick, scenario)


def test_what_was_open_and_unlinked_at_a_crash_is_gone_at_the_next_start(brick: Place) -> None:
    async def dies(volume: Volume) -> None:
        inode, _, _ = await volume.create(b"f")
        await volume.unlink(b"f", inode)
        kept = brick.path / ".glusterfs" / "unlink" / gfid_text(inode.gfid)
        os.link(kept, brick.path / "saved")  # what a dead process leaves
        await volume.brick.kill()
        os.link(brick.path / "saved", kept)
        os.unlink(brick.path / "saved")
        await volume.brick.start()
        assert not kept.exists()

    run(brick, dies)


def test_a_handle_that_leads_nowhere_gives_way_to_a_new_directory(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        os.rmdir(brick.path / "d")  # rmdir died before the handle
        volume.store.drop_dir(directory.gfid)
        await volume.top.mkdir(volume.frame(), volume.root, b"e", 0o755, directory.gfid, None)
        await volume.file(b"f", directory)
        assert (brick.path / "e" / "f").exists()

    run(brick, scenario)


def test_a_handle_left_by_rmdir_serves_a_new_directory_at_its_place(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        os.rmdir(brick.path / "d")
        volume.store.drop_dir(directory.gfid)
        await volume.top.mkdir(volume.frame(), volume.root, b"d", 0o755, directory.gfid, None)
        await volume.file(b"f", directory)
        assert (brick.path / "d" / "f").exists()

    run(brick, scenario)


@pytest.mark.parametrize("renamed", [False, True])
def test_a_rename_over_a_file_that_died_leaves_no_handle_without_a_name(
    plain: Place, monkeypatch: pytest.MonkeyPatch, renamed: bool
) -> None:
    gfids: list[bytes] = []

    async def dies(volume: Volume) -> None:
        old, new = await volume.file(b"old"), await volume.file(b"new", data=b"replaced")
        gfids.append(new.gfid)
        rename = os.rename

        def die(*args: Any, **kwargs: Any) -> None:
            if renamed:
                rename(*args, **kwargs)
            raise Died

        monkeypatch.setattr(os, "rename", die)
        await volume.rename(b"old", b"new", old)

    async def scenario(volume: Volume) -> None:
        iatt = await volume.lookup(b"new")
        assert os.path.lexists(handle(plain, gfids[0])) is not renamed
        assert (iatt.gfid == gfids[0]) is not renamed
        assert iatt.nlink == 1

    crash(plain, dies)
    monkeypatch.undo()
    run(plain, scenario)


def test_records_that_a_link_and_a_rename_did_not_make_are_made_for_who_heals(plain: Place) -> None:
    async def scenario(volume: Volume) -> None:
        await volume.file(b"f")
        os.link(plain.path / "f", plain.path / "g")
        os.rename(plain.path / "f", plain.path / "h")
        for name in (b"g", b"h"):
            iatt = await volume.lookup(name, xdata={GFID_LESS: b""})
            inode = volume.graph.itable.link(iatt.gfid, iatt.type)
        answer = await volume.top.getxattr(volume.frame(), inode, b"glusterfs.gfidtopath", None)
        assert sorted(answer[b"glusterfs.gfidtopath"].split(b":")) == [b"/g", b"/h"]

    run(plain, scenario)


def test_two_files_with_one_gfid_are_not_confused(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f", data=b"real")
        (brick.path / "copy").write_text("copied together with its gfid")
        os.setxattr(brick.path / "copy", brick.xattr(b"trusted.gfid"), inode.gfid)
        with failing(errno.ESTALE):
            await volume.lookup(b"copy")
        assert await volume.read(inode) == b"real"

    run(brick, scenario)


def test_a_record_left_by_a_rename_that_died_is_harmless(plain: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f")
        os.setxattr(plain.path / "f", "trusted.gfid2path.0000000000000000", gfid_text(ROOT_GFID).encode() + b"/ghost")
        await volume.rename(b"f", b"g", inode)
        await volume.unlink(b"g", inode)
        assert await volume.names() == []

    run(plain, scenario)
