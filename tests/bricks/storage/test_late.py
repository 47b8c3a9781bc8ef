"""On a ramdisk times reach the brick a little later than the change; everything that could tell is answered as if they had."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from fusemux.bricks.storage.posix import mdata
from fusemux.bricks.storage.posix.late import INTERVAL_S
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import SetAttr
from fusemux.testing.graph import GraphVolume
from tests.bricks.serving import Place, Volume, run

MDATA = b"trusted.glusterfs.mdata"


def recorded(place: Place, path: str) -> mdata.Times | None:
    value = place.stored(path, MDATA)
    return None if value is None else mdata.unpack(value)


async def later(clock: MockClock) -> None:
    """So much later that everything is recorded."""
    await wait_all_tasks_blocked()
    clock.jump(INTERVAL_S)
    await wait_all_tasks_blocked()


def changed(times: mdata.Times | None) -> tuple[int, int]:
    """Change and modification time."""
    assert times is not None
    return times[:2]


@pytest.fixture(params=["plain", "mapped"])
def late(request: pytest.FixtureRequest, ram: Path) -> Place:
    """A brick that records late."""
    mapped = request.param == "mapped" or os.geteuid() != 0
    return Place(ram / "brick", {"io-mode": "inline"}, mapped=mapped).prepare()


def test_many_changes_of_a_directory_are_recorded_once(late: Place) -> None:
    clock = MockClock()

    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        made = recorded(late, "d")
        for number in range(10):
            await volume.mknod(b"%d" % number, 0o600, parent=directory)
            now = volume.now
            assert (await volume.lookup(b"d")).mtime_ns == now
        assert recorded(late, "d") == made
        await later(clock)
        assert changed(recorded(late, "d")) == (now, now)
        await volume.mknod(b"again", 0o600, parent=directory)
        await later(clock)
        assert changed(recorded(late, "d")) == (volume.now, volume.now)

    run(late, scenario, clock=clock)


async def _close(volume: Volume, fd: Fd) -> None:
    await volume.top.release(volume.frame(), fd, None)


async def _sync(volume: Volume, fd: Fd) -> None:
    await volume.top.fsync(volume.frame(), fd, False, None)


async def _sync_all(volume: Volume, fd: Fd) -> None:
    await volume.top.syncfs(volume.frame(), volume.root, None)


async def _ask(volume: Volume, fd: Fd) -> None:
    answer = await volume.top.getxattr(volume.frame(), fd, MDATA, None)
    assert changed(mdata.unpack(answer[MDATA])) == (volume.now, volume.now)


async def _look(volume: Volume, fd: Fd) -> None:
    found = (await volume.lookup(b"f", xdata={MDATA: None})).xdata
    assert found is not None
    assert changed(mdata.unpack(found[MDATA])) == (volume.now, volume.now)


async def _kill(volume: Volume, fd: Fd) -> None:
    await volume.brick.kill()
    await volume.brick.start()


@pytest.mark.parametrize("act", [_close, _sync, _sync_all, _ask, _look, _kill])
def test_what_ends_or_asks_records_the_times_of_a_file(
    late: Place, act: Callable[[Volume, Fd], Awaitable[None]]
) -> None:
    async def scenario(volume: Volume) -> None:
        _, fd, _ = await volume.create(b"f")
        frame = volume.frame()
        await volume.top.writev(frame, fd, b"x", 0, None)
        volume.frame = lambda **_: frame  # type: ignore[method-assign]  # what follows changes nothing
        await act(volume, fd)
        assert changed(recorded(late, "f")) == (frame.time_ns, frame.time_ns)
        if act is not _close:
            await volume.top.release(frame, fd, None)

    run(late, scenario)


def test_a_directory_that_is_not_kept_open_any_more_has_its_times_recorded(late: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        await volume.mknod(b"f", 0o600, parent=directory)
        now = volume.now
        volume.store.handles.limit = 2
        for number in range(3):
            await volume.mkdir(b"other%d" % number)
        assert directory.gfid not in volume.store.dirs
        assert changed(recorded(late, "d")) == (now, now)

    run(late, scenario)


def test_a_directory_evicted_by_the_fop_that_changes_it_keeps_the_new_time(late: Place) -> None:
    clock = MockClock()

    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        volume.store.handles.limit = 1
        await volume.mkdir(b"inner", directory)
        made = volume.now
        assert directory.gfid not in volume.store.dirs
        assert (await volume.lookup(b"d")).mtime_ns == made
        await volume.mkdir(b"another", directory)
        made = volume.now
        await volume.list(directory)  # which opens it again
        assert (await volume.lookup(b"d")).mtime_ns == made
        await volume.mkdir(b"third", directory)
        await volume.top.setattr(volume.frame(), directory, SetAttr(mtime_ns=77), None)
        await later(clock)
        assert changed(recorded(late, "d")) == (volume.now, 77)

    run(late, scenario, clock=clock)


def test_both_directories_of_a_rename_have_its_time_when_one_evicts_the_other(late: Place) -> None:
    async def scenario(volume: Volume) -> None:
        old, new = await volume.mkdir(b"old"), await volume.mkdir(b"new")
        inode = await volume.file(b"f", old)
        volume.store.handles.limit = 1
        await volume.mkdir(b"other")
        await volume.rename(b"f", b"f", inode, old, new)
        moved = volume.now
        assert [(await volume.lookup(name)).mtime_ns for name in (b"old", b"new")] == [moved, moved]

    run(late, scenario)


def test_a_time_that_was_set_is_there_at_once_and_stays(late: Place) -> None:
    clock = MockClock()

    async def scenario(volume: Volume) -> None:
        inode, fd, _ = await volume.create(b"f")
        await volume.top.writev(volume.frame(), fd, b"x", 0, None)
        await volume.top.setattr(volume.frame(), inode, SetAttr(mtime_ns=77), None)
        wanted = (volume.now, 77)
        assert changed(recorded(late, "f")) == wanted
        await later(clock)
        await volume.top.release(volume.frame(), fd, None)
        assert changed(recorded(late, "f")) == wanted

    run(late, scenario, clock=clock)


def test_a_truncate_by_name_is_recorded_at_once(late: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode: Inode = await volume.file(b"f", data=b"hello")
        await volume.top.truncate(volume.frame(), inode, 2, None)
        assert changed(recorded(late, "f")) == (volume.now, volume.now)

    run(late, scenario)


def test_a_new_file_whose_times_a_crash_took_has_those_of_the_backing_store(late: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode, _, _ = await volume.create(b"f")
        assert recorded(late, "f") is None
        volume.store.late.clear()
        await volume.brick.kill()
        await volume.brick.start()
        st = os.stat(late.path / "f")
        found = await volume.lookup(b"f")
        assert (found.ctime_ns, found.mtime_ns) == (st.st_ctime_ns, st.st_mtime_ns)
        fd = await volume.open(inode)
        await volume.top.writev(volume.frame(), fd, b"x", 0, None)
        written = volume.now
        await volume.top.release(volume.frame(), fd, None)
        assert changed(recorded(late, "f")) == (written, written)

    run(late, scenario)


def test_a_disk_records_at_once(tmp_path: Path) -> None:
    place = Place(tmp_path / "brick", {"io-mode": "pool"}).prepare()

    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        _, fd, _ = await volume.create(b"f", directory)
        assert changed(recorded(place, "d")) == changed(recorded(place, "d/f")) == (volume.now, volume.now)
        await volume.top.release(volume.frame(), fd, None)

    run(place, scenario)


@pytest.mark.fusemux("1", backend="graph", volatile="names")
def test_a_brick_that_can_lose_power_records_at_once(fusemux_volume: GraphVolume) -> None:
    """What is recorded late could not be lost with the rest."""

    async def scenario(volume: GraphVolume) -> None:
        await volume.mkdir("/d")
        await volume.write("/d/f", b"x")
        (brick,) = volume.process.bricks
        assert (await volume.stat("/d")).mtime_ns == changed(mdata.unpack(os.getxattr(f"{brick}/d", MDATA)))[1]

    fusemux_volume.run(scenario)
