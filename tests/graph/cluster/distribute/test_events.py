"""When distribute says that it serves, what it passes on, and the volume of a single subvolume."""

from __future__ import annotations

import errno
import logging
import os

import pytest
import trio

from fusemux.graph.framework.fops import FOP_NAMES
from fusemux.graph.framework.translator import Event, Translator

from .volume import LAYOUT, Volume, brick_directories, refused, served

UP, DOWN = Event.CHILD_UP, Event.CHILD_DOWN
SOME_UP, SOME_DOWN = Event.SOME_DESCENDENT_UP, Event.SOME_DESCENDENT_DOWN


class Listener:
    """Stands above a graph and hears its events."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.stale: list[object] = []

    def notify(self, event: Event, source: Translator | None = None, data: object = None) -> None:
        if event is Event.UPCALL:
            self.stale.append(data)
        else:
            self.heard.append(event)

    def take(self) -> list[Event]:
        heard, self.heard = self.heard, []
        return heard


def listen(v: Volume) -> Listener:
    listener = Listener()
    v.dht.parents.append(listener)  # type: ignore[arg-type]
    return listener


async def restarted(v: Volume, **options: str) -> Listener:
    """A fresh graph, heard from before its start."""
    await v.graph.stop()
    v.graph = v._graph({key.replace("_", "-"): value for key, value in options.items()})
    listener = listen(v)
    await v.graph.start()
    return listener


def test_child_up_is_passed_on_once_all_children_have_reported() -> None:
    async def main() -> None:
        async with served(3) as v:
            listener = await restarted(v)
            assert listener.take() == [UP]
            await v.bricks[1].kill()
            listener = await restarted(v)
            assert listener.take() == [UP]
            for brick in (0, 2):
                await v.bricks[brick].kill()
            listener = await restarted(v)
            assert listener.take() == [DOWN]
            await v.bricks[0].start()
            assert listener.take() == [UP]

    trio.run(main)


def test_while_a_child_has_not_reported_nothing_is_passed_on() -> None:
    async def main() -> None:
        async with served(2) as v:
            listener = listen(v)
            v.dht._reported.clear()
            v.dht._serving = None
            leaves = [edge.translator for edge in v.dht.children]
            v.dht.notify(UP, leaves[0])
            assert listener.take() == []
            v.dht.notify(DOWN, leaves[1])
            assert listener.take() == [UP]

    trio.run(main)


def test_later_changes_are_told_as_such_until_the_last_child_is_down() -> None:
    async def main() -> None:
        async with served(2) as v:
            listener = listen(v)
            await v.bricks[0].kill()
            assert listener.take() == [SOME_DOWN]
            await v.bricks[1].kill()
            assert listener.take() == [DOWN]
            with refused(errno.ENOTCONN):
                await v.lookup("/")
            await v.bricks[1].start()
            assert listener.take() == [UP]
            await v.bricks[0].start()
            assert listener.take() == [SOME_UP]
            await v.create("file")

    trio.run(main)


def test_directories_that_are_known_above_are_told_stale_when_a_child_comes_or_goes() -> None:
    async def main() -> None:
        async with served(2) as v:
            directory = await v.mkdir("dir")
            await v.create("file")
            listener = listen(v)
            await v.bricks[0].kill()
            assert set(listener.stale) == {v.table.root, directory}
            listener.stale.clear()
            await v.bricks[0].start()
            assert set(listener.stale) == {v.table.root, directory}

    trio.run(main)


def test_assert_no_child_down_takes_the_volume_down_with_one_child() -> None:
    async def main() -> None:
        async with served(2, assert_no_child_down="on") as v:
            listener = listen(v)
            await v.bricks[0].kill()
            assert listener.take() == [DOWN]
            await v.bricks[0].start()
            assert listener.take() == [UP]

    trio.run(main)


def test_a_single_child_is_called_directly_for_all_but_layouts_and_their_xattrs() -> None:
    async def main() -> None:
        async with served(1) as v:
            passed = {fop for fop in FOP_NAMES if not v.dht.intercepts(fop)}
            assert set(FOP_NAMES) - passed == {"mkdir", "getxattr", "setxattr", "removexattr"}

    trio.run(main)


def test_a_single_child_gets_layouts_all_the_same_and_files_are_found_after_a_second_one_is_added() -> None:
    async def main() -> None:
        with brick_directories(2) as paths:
            async with served(paths[:1]) as v:
                await v.mkdir("dir")
                await v.mkdir("dir/below")
                for path in ("dir", "dir/below"):
                    assert v.shares(path) == ["0000000000000000" + "00000000ffffffff"]
                    assert v.xattr(0, path, "trusted.glusterfs.dht.mds") == bytes(4)
                await v.create("dir/below/file", b"data")
                await v.create("file", b"root")
                inode = await v.inode("dir")
                await v.top.setxattr(v.tick(), inode, {b"user.a": b"1"}, 0)
                assert dict(await v.top.getxattr(v.frame, inode, None)) == {b"user.a": b"1"}
                with refused(errno.EPERM):
                    await v.top.setxattr(v.tick(), inode, {LAYOUT.encode(): bytes(16)}, 0)
                assert await v.names_in("/") == ["dir", "file"]
                await v.rename("dir/below", "moved")
                await v.rmdir("dir")
            async with served(paths) as v:
                assert await v.read("moved/file") == b"data"
                assert await v.read("file") == b"root"
                assert v.where("moved") == {0: "dir", 1: "dir"}

    trio.run(main)


def test_nothing_is_logged_while_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with brick_directories(3) as paths:
            async with served(paths) as v:
                await v.mkdir("dir")
                for n in range(10):
                    await v.create(f"dir/f{n}")
                    await v.rename(f"dir/f{n}", f"g{n}")
                    await v.unlink(f"g{n}")
                await v.rmdir("dir")
                assert os.listdir(paths[0]) == [".glusterfs"]

    with caplog.at_level(logging.INFO, "fusemux"):
        trio.run(main)
    assert not [record for record in caplog.records if record.name.startswith("fusemux.distribute")]
