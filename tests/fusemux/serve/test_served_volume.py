"""A volume that is served: it takes all it needs or nothing, and gives everything back."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest
import trio

from fusemux.bricks import ramdisk
from fusemux.bricks.prepare import prepare
from fusemux.graph.framework.errors import FusemuxError, OptionError
from fusemux.graph.framework.graph import TopologyChanged
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Frame
from fusemux.serve.volume import ServedVolume
from fusemux.volume.definition import BrickSpec, Volume
from fusemux.volume.settings import set_options
from fusemux.volume.source import DefinedSource
from fusemux.volume.spec import read_short

T = TypeVar("T")


def in_process(body: Callable[[Process], Awaitable[T]]) -> T:
    async def main() -> T:
        async with Process(strict=True) as process:
            return await body(process)

    return trio.run(main)


def on_directories(tmp_path: Path, count: int, **more: int) -> Volume:
    bricks = tuple(BrickSpec(str(tmp_path / f"b{i}")) for i in range(count))
    volume = Volume("web", bricks, **more)  # type: ignore[arg-type]
    for brick in bricks:
        prepare(brick.path, str(volume.id))
    return volume


def open_files() -> set[str]:
    return {
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    }


async def create(served: ServedVolume, name: bytes) -> None:
    _, _, fh = await served.bridge.create(Frame(), 1, name, os.O_RDWR, 0o644)
    await served.bridge.write(Frame(), fh, 0, b"hello")
    await served.bridge.release(Frame(), fh)


def test_a_throwaway_volume_serves_and_leaves_no_ramdisk(tmp_path: Path) -> None:
    volume = read_short("2x2,size=64M", tmp_path)

    async def body(process: Process) -> None:
        served = ServedVolume(process, DefinedSource(volume))
        await served.start()
        await create(served, b"file")
        holders = [brick.path for brick in volume.bricks if os.path.exists(f"{brick.path}/file")]
        assert len(holders) in (2, 3)  # two copies, and a link file where distribute wanted one
        assert all(map(ramdisk.exists, (brick.path for brick in volume.bricks)))
        await served.stop()

    in_process(body)
    assert not any(os.path.lexists(brick.path) for brick in volume.bricks)


def test_serving_again_and_again_keeps_nothing_open(tmp_path: Path) -> None:
    volume = on_directories(tmp_path, 2)

    async def body(process: Process) -> None:
        before: set[str] | None = None
        for name in (b"one", b"two", b"three"):
            served = ServedVolume(process, DefinedSource(volume))
            await served.start()
            await create(served, name)
            await served.stop()
            assert process.bricks == {}
            assert before is None or open_files() <= before
            before = open_files()
        assert not any(path.startswith(str(tmp_path)) for path in open_files())

    in_process(body)


def test_a_volume_that_cannot_start_leaves_nothing_behind(tmp_path: Path) -> None:
    volume = on_directories(tmp_path, 2)
    prepare(str(tmp_path / "other"), str(uuid4()))
    ram = BrickSpec(str(tmp_path / "ram"), 64 << 20)
    volume = replace(volume, bricks=(ram, volume.bricks[0], BrickSpec(str(tmp_path / "other"))))

    async def body(process: Process) -> None:
        with pytest.raises(FusemuxError, match="other belongs to volume"):
            await ServedVolume(process, DefinedSource(volume)).start()
        assert process.bricks == {}
        assert not os.path.lexists(ram.path)
        assert not any(path.startswith(str(tmp_path)) for path in open_files())
        served = ServedVolume(process, DefinedSource(replace(volume, bricks=(volume.bricks[1],))))
        await served.start()  # its lock was let go
        await served.stop()

    in_process(body)


def test_a_brick_that_is_missing_is_named_with_the_way_out(tmp_path: Path) -> None:
    volume = Volume("web", (BrickSpec(str(tmp_path / "nowhere")),))

    async def body(process: Process) -> None:
        with pytest.raises(
            FusemuxError, match=r"brick .*nowhere: No such file or directory; is its file system mounted\?"
        ):
            await ServedVolume(process, DefinedSource(volume)).start()

    in_process(body)


def test_a_translator_that_does_not_exist_is_named_and_nothing_stays(tmp_path: Path) -> None:
    volume = replace(read_short("1", tmp_path), options={"features.shard": "on"})

    async def body(process: Process) -> None:
        with pytest.raises(FusemuxError, match="there is no translator 'features/shard'"):
            await ServedVolume(process, DefinedSource(volume)).start()

    in_process(body)
    assert not os.path.lexists(volume.bricks[0].path)


def test_a_brick_is_served_by_one_volume_at_a_time(tmp_path: Path) -> None:
    volume = on_directories(tmp_path, 1)

    async def body(process: Process) -> None:
        served = ServedVolume(process, DefinedSource(volume))
        await served.start()
        with pytest.raises(FusemuxError, match=r"already served by another process \(`fusemux status`"):
            await ServedVolume(process, DefinedSource(volume)).start()
        await create(served, b"still works")
        await served.stop()

    in_process(body)


def test_the_ramdisks_of_a_stored_volume_stay_with_what_they_hold(tmp_path: Path) -> None:
    volume = Volume("web", (BrickSpec(str(tmp_path / "b0"), 64 << 20),))

    async def body(process: Process) -> None:
        for expected in ([], [b"file"]):
            served = ServedVolume(process, DefinedSource(volume))
            await served.start()
            fh = await served.bridge.opendir(Frame(), 1)
            entries = await served.bridge.readdir(Frame(), fh, 2, 100)  # behind `.` and `..`
            assert [e.name for e in entries] == expected
            await served.bridge.releasedir(Frame(), fh)
            if not expected:
                await create(served, b"file")
            await served.stop()

    try:
        in_process(body)
        assert ramdisk.exists(volume.bricks[0].path)
    finally:
        ramdisk.remove(volume.bricks[0].path)


def test_a_throwaway_volume_never_takes_the_ramdisk_that_another_left(tmp_path: Path) -> None:
    volume = read_short("1,name=web", tmp_path)
    ramdisk.provision(volume.bricks[0].path, 64 << 20)

    async def body(process: Process) -> None:
        with pytest.raises(FusemuxError, match=r"left by a server that died; clear .* --replace-stale"):
            await ServedVolume(process, DefinedSource(volume)).start()

    try:
        in_process(body)
        assert ramdisk.exists(volume.bricks[0].path)
    finally:
        ramdisk.remove(volume.bricks[0].path)


def test_space_is_divided_by_the_bricks_that_share_it(tmp_path: Path) -> None:
    volume = on_directories(tmp_path, 3)

    async def body(process: Process) -> None:
        served = ServedVolume(process, DefinedSource(volume))
        await served.start()
        total = await served.bridge.statfs(Frame(), 1)
        await served.stop()
        st = os.statvfs(tmp_path)
        assert total.blocks * total.frsize == pytest.approx(st.f_blocks * st.f_frsize, rel=0.01)

    in_process(body)


def test_options_are_taken_while_running(tmp_path: Path) -> None:
    volume = on_directories(tmp_path, 2)

    async def body(process: Process) -> None:
        served = ServedVolume(process, DefinedSource(volume))
        await served.start()
        changed = set_options(volume, {"ctime.noatime": "off", "storage.reserve": "7%"})
        served.reconfigure(DefinedSource(changed))
        assert served.graph.translators["web-utime"].opt.noatime is False
        assert [brick.posix.opt.reserve for brick in served.bricks] == [("percent", 7.0)] * 2
        await create(served, b"file")
        await served.stop()

    in_process(body)


def test_options_that_are_refused_change_nothing(tmp_path: Path) -> None:
    volume = on_directories(tmp_path, 2)

    async def body(process: Process) -> None:
        served = ServedVolume(process, DefinedSource(volume))
        await served.start()
        wrong = replace(volume, options={"ctime.noatime": "off", "storage.reserve": "lots"})
        with pytest.raises(OptionError, match="reserve"):
            served.reconfigure(DefinedSource(wrong))
        assert served.graph.translators["web-utime"].opt.noatime is True
        with pytest.raises(TopologyChanged):
            served.reconfigure(DefinedSource(replace(volume, options={"performance.write-behind": "off"})))
        await create(served, b"file")
        await served.stop()

    in_process(body)
