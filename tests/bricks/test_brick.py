"""A brick as a unit of failure: attached, killed, started, detached, broken."""

from __future__ import annotations

import errno
import gc
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fusemux.bricks.brick import Brick
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Event, Translator
from fusemux.graph.framework.types import ROOT_GFID, Frame
from fusemux.graph.framework.volfile import Section
from tests.bricks.serving import Place, Volume, client_section, failing, run


class Listener(Translator):
    """Stands above the client graph and notes what it hears."""

    type = ""

    def __init__(self, process: Process) -> None:
        super().__init__("listener", {}, process)
        self.heard: list[Event] = []

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        self.heard.append(event)


def listen(graph: Graph) -> list[Event]:
    listener = Listener(graph.process)
    graph.top.translator.parents.append(listener)
    return listener.heard


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_killed_brick_refuses_everything_and_comes_back_with_its_files(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        heard = listen(volume.graph)
        inode, fd, _ = await volume.create(b"f")
        await volume.top.writev(volume.frame(), fd, b"before", 0, None)
        directory = volume.fd(volume.root, os.O_RDONLY)
        await volume.top.opendir(volume.frame(), volume.root, directory, None)
        await volume.brick.kill()
        assert heard == [Event.CHILD_DOWN]
        for call in (
            lambda: volume.lookup(b"f"),
            lambda: volume.top.writev(volume.frame(), fd, b"x", 0, None),
            lambda: volume.top.readdir(volume.frame(), directory, 10, 0, False, None),
            lambda: volume.top.statfs(volume.frame(), volume.root, None),
            lambda: volume.open(inode),
        ):
            with failing(errno.ENOTCONN):
                await call()
        await volume.brick.start()
        assert heard == [Event.CHILD_DOWN, Event.CHILD_UP]
        await volume.top.writev(volume.frame(), fd, b" and after", 6, None)
        assert await volume.read(inode) == b"before and after"
        assert [e.name for e in await volume.top.readdir(volume.frame(), directory, 10, 0, False, None)] == [b"f"]
        await volume.top.release(volume.frame(), fd, None)
        await volume.top.release(volume.frame(), directory, None)

    run(brick, scenario)


def test_a_file_truncated_at_open_is_not_truncated_again_when_the_brick_returns(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f", data=b"old")
        fd = await volume.open(inode, os.O_RDWR | os.O_TRUNC)
        await volume.top.writev(volume.frame(), fd, b"new", 0, None)
        await volume.brick.kill()
        await volume.brick.start()
        assert bytes(await volume.top.readv(volume.frame(), fd, 10, 0, None)) == b"new"
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_closing_what_was_open_on_a_dead_brick_is_no_error(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        _, fd, _ = await volume.create(b"f")
        _, other, _ = await volume.create(b"g")
        await volume.brick.kill()
        await volume.top.flush(volume.frame(), fd, None)
        await volume.top.release(volume.frame(), fd, None)
        await volume.brick.start()
        await volume.top.release(volume.frame(), other, None)
        assert volume.store.leaks() == {"files": 0, "streams": 0, "directories": 1}

    run(brick, scenario)


def test_a_graph_started_before_its_brick_comes_up_with_it(brick: Place) -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            graph = Graph([client_section(brick.path)], process)
            heard = listen(graph)
            await graph.start()
            assert heard == [Event.CHILD_DOWN]
            with failing(errno.ENOTCONN):
                await graph.top.statfs(Frame(), graph.itable.root, None)
            attached = await Brick.attach(process, brick.sections())
            assert heard == [Event.CHILD_DOWN, Event.CHILD_UP]
            assert graph.top.suspends is attached.edge.suspends
            assert (await graph.top.lookup(Frame(), graph.itable.root, b"", None)).gfid == ROOT_GFID
            await attached.detach()
            assert heard[-1] is Event.CHILD_DOWN
            with failing(errno.ENOTCONN):
                await graph.top.statfs(Frame(), graph.itable.root, None)
            await graph.stop()

    trio.run(main)


def test_two_volumes_may_share_a_brick(brick: Place) -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            attached = await Brick.attach(process, brick.sections())
            graphs = [Graph([client_section(brick.path)], process) for _ in range(2)]
            for graph in graphs:
                await graph.start()
            await graphs[0].stop()
            await graphs[1].top.statfs(Frame(), graphs[1].itable.root, None)
            await graphs[1].stop()
            await attached.detach()

    trio.run(main)


@pytest.mark.parametrize("fop", ["lookup", "writev", "create", "readdir", "stat", "release"])
def test_a_bug_in_a_brick_is_eio_for_the_call_and_takes_only_that_brick_down(
    brick: Place, fop: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(volume: Volume) -> None:
        inode, fd, _ = await volume.create(b"f")
        directory = volume.fd(volume.root, os.O_RDONLY)
        await volume.top.opendir(volume.frame(), volume.root, directory, None)

        def bug(*args: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(type(volume.store), fop, bug)
        calls = {
            "lookup": lambda: volume.lookup(b"f"),
            "writev": lambda: volume.top.writev(volume.frame(), fd, b"x", 0, None),
            "create": lambda: volume.create(b"g"),
            "readdir": lambda: volume.top.readdir(volume.frame(), directory, 1, 0, False, None),
            "stat": lambda: volume.top.stat(volume.frame(), fd, None),
            "release": lambda: volume.top.release(volume.frame(), fd, None),
        }
        with failing(errno.EIO):
            await calls[fop]()
        assert not volume.brick.up
        with failing(errno.ENOTCONN):
            await volume.top.statfs(volume.frame(), volume.root, None)
        monkeypatch.undo()
        await volume.brick.start()
        assert await volume.read(inode) == b""
        await volume.top.release(volume.frame(), directory, None)

    run(brick, scenario)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert fop in errors[0].getMessage()
    assert "a bug" in str(errors[0].exc_info)


def test_detach_waits_for_the_calls_in_flight_and_kill_ends_those_that_only_wait(ram: Path) -> None:
    place = Place(ram / "brick", {"io-mode": "pool"}).prepare()
    sections = place.sections()
    sections[1] = Section(
        str(place.path), "debug/delay-gen", {"delay-percentage": "100", "delay-duration": "300000000"}, ["v-posix"]
    )

    async def main() -> None:
        async with Process(strict=True) as process:
            attached = await Brick.attach(process, sections)
            graph = Graph([client_section(place.path)], process)
            await graph.start()
            refused = trio.Event()

            async def waits() -> None:
                with failing(errno.ENOTCONN):
                    await graph.top.statfs(Frame(), graph.itable.root, None)
                refused.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(waits)
                await trio.testing.wait_all_tasks_blocked()
                assert not refused.is_set()
                await attached.kill()
                with trio.fail_after(10):
                    await refused.wait()
            await graph.stop()
            await attached.detach()

    trio.run(main)


def test_attaching_and_detaching_many_times_leaves_nothing(brick: Place) -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            counts, gone = [], []
            for turn in range(12):
                attached = await Brick.attach(process, brick.sections())
                graph = Graph([client_section(brick.path)], process)
                await graph.start()
                volume = Volume(brick, process, attached, graph)
                directory = await volume.mkdir(b"d%d" % turn)
                inode, _, _ = await volume.create(b"left open", directory)
                stream: Fd = volume.fd(directory, os.O_RDONLY)
                await volume.top.opendir(volume.frame(), directory, stream, None)
                gone += [weakref.ref(volume.store), weakref.ref(attached), weakref.ref(graph)]
                await graph.stop()
                held = await attached.detach()
                assert held == {"files": 0, "streams": 0, "directories": 0}
                assert process.bricks == {}
                del attached, graph, volume, directory, inode, stream
                gc.collect()
                counts.append(open_descriptors())
            assert len(set(counts[2:])) == 1, counts
            await process.pool.run("idle", gc.collect)  # a thread remembers its last call
            assert not [ref for ref in gone if ref() is not None]

    trio.run(main)


def test_a_brick_is_attached_once(brick: Place) -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            attached = await Brick.attach(process, brick.sections())
            with pytest.raises(FusemuxError, match="already"):
                await Brick.attach(process, brick.sections())
            await attached.detach()
            again = await Brick.attach(process, brick.sections())
            await again.detach()

    trio.run(main)


def test_a_volfile_without_a_directory_is_no_brick() -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            with pytest.raises(FusemuxError, match="no brick's volfile"):
                await Brick.attach(process, [client_section(Path("/nowhere"))])

    trio.run(main)


def test_a_brick_that_cannot_start_holds_nothing(ram: Path) -> None:
    place = Place(ram / "brick").prepare()
    sections = place.sections()
    sections[0].options["volume-id"] = "00000000-0000-0000-0000-00000000ffff"

    async def main() -> None:
        async with Process(strict=True) as process:
            with pytest.raises(FusemuxError, match="belongs to volume"):
                await Brick.attach(process, sections)
            assert process.bricks == {}

    before = open_descriptors()
    trio.run(main)
    gc.collect()
    assert open_descriptors() == before
