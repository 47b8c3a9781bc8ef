"""Bridges of several mounts on one graph: what each kernel knows, and what it is told of the others' changes."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from fusemux.fuse.bridge import Bridge, BridgeOptions
from fusemux.fuse.sharing import Company, SharedBridge
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Flock, Frame, Iatt, SetAttr
from tests.fusemux.fuse.memory import Memory, memory_graph

F = Frame(0, 0, 1)
ROOT = 1
Scene = Callable[["Kernel", "Kernel", Memory], Awaitable[None]]


class Kernel:
    """One of two mounts, and the nodes it was told to ask for again."""

    def __init__(self, bridge: SharedBridge) -> None:
        self.bridge = bridge
        self.stale: set[int] = set()
        bridge.on_invalidate = self.stale.add

    async def make(self, name: bytes, content: bytes = b"") -> int:
        nodeid, _, fh = await self.bridge.create(F, ROOT, name, os.O_RDWR, 0o644)
        await self.bridge.write(F, fh, 0, content)
        await self.bridge.release(F, fh)
        return nodeid

    async def find(self, name: bytes) -> int:
        return (await self.bridge.lookup(F, ROOT, name))[0]

    def told(self) -> set[int]:
        told = set(self.stale)
        self.stale.clear()
        return told


def play(scene: Scene) -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            graph = await memory_graph(process)
            company, options = Company(), BridgeOptions(locks=True)
            bridges = [SharedBridge(graph, company, options=options) for _ in range(2)]
            memory = graph.top.translator
            assert isinstance(memory, Memory)
            await scene(Kernel(bridges[0]), Kernel(bridges[1]), memory)
            for bridge in bridges:
                await bridge.disconnect()
                bridge.close()
            assert not company.bridges
            assert not company.unlinked
            assert {inode.nlookup for inode in graph.itable.active.values()} == {1}  # the root
            await graph.stop()

    trio.run(main)


def test_a_node_lives_until_the_last_kernel_forgets_it() -> None:
    async def scene(one: Kernel, two: Kernel, memory: Memory) -> None:
        node = await one.make(b"file")
        for _ in range(3):
            assert await two.find(b"file") == node
        inode = one.bridge.known[node]
        assert inode.nlookup == 4
        one.bridge.forget(node, 1)
        assert node not in one.bridge.known
        assert one.bridge.nodes.child(ROOT, b"file") is None
        two.bridge.forget(node, 2)
        assert two.bridge.nodes.child(ROOT, b"file") is inode
        assert inode.nlookup == 1
        two.bridge.forget(node, 1)
        assert (inode.nlookup, two.bridge.statistics().nodes) == (0, 1)

    play(scene)


Change = Callable[[Bridge, int, int], Awaitable[object]]


async def _written(bridge: Bridge, node: int, fh: int) -> None:
    await bridge.write(F, fh, 0, b"x")


async def _truncated(bridge: Bridge, node: int, fh: int) -> None:
    await bridge.setattr(F, node, fh, 1, SetAttr())


async def _attributes(bridge: Bridge, node: int, fh: int) -> None:
    await bridge.setattr(F, node, 0, None, SetAttr(mode=0o600))


async def _xattr(bridge: Bridge, node: int, fh: int) -> None:
    await bridge.setxattr(F, node, b"user.a", b"1", 0)


async def _opened_to_truncate(bridge: Bridge, node: int, fh: int) -> None:
    await bridge.release(F, await bridge.open(F, node, os.O_RDWR | os.O_TRUNC))


@pytest.mark.parametrize("change", [_written, _truncated, _attributes, _xattr, _opened_to_truncate])
def test_the_other_kernel_is_told_of_a_changed_file_before_the_change_is_answered(change: Change) -> None:
    async def scene(one: Kernel, two: Kernel, memory: Memory) -> None:
        node = await one.make(b"file", b"content")
        await two.find(b"file")
        fh = await one.bridge.open(F, node, os.O_RDWR)
        one.told()
        two.told()
        await change(one.bridge, node, fh)
        assert two.told() == {node}
        assert not one.told()
        await one.bridge.release(F, fh)

    play(scene)


@pytest.mark.parametrize("change", ["mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename"])
def test_the_other_kernel_is_told_of_a_changed_directory(change: str) -> None:
    async def scene(one: Kernel, two: Kernel, memory: Memory) -> None:
        file = await one.make(b"file")
        folder = (await one.bridge.mkdir(F, ROOT, b"folder", 0o755))[0]
        for name in (b"file", b"folder"):
            await two.find(name)
        two.told()
        calls: dict[str, tuple[tuple[object, ...], set[int]]] = {
            "mkdir": ((ROOT, b"new", 0o755), {ROOT}),
            "mknod": ((ROOT, b"new", 0o100644, 0), {ROOT}),
            "symlink": ((ROOT, b"new", b"text"), {ROOT}),
            "link": ((file, ROOT, b"new"), {ROOT, file}),
            "unlink": ((ROOT, b"file"), {ROOT, file}),
            "rmdir": ((ROOT, b"folder"), {ROOT, folder}),
            "rename": ((ROOT, b"file", folder, b"new", 0), {ROOT, file, folder}),
        }
        arguments, told = calls[change]
        await getattr(one.bridge, change)(F, *arguments)
        assert two.told() == told
        if change in ("unlink", "rmdir", "rename"):
            assert two.bridge.nodes.child(ROOT, b"folder" if change == "rmdir" else b"file") is None

    play(scene)


def test_what_one_kernel_removes_while_the_other_is_in_it_answers_as_it_was_last() -> None:
    async def scene(one: Kernel, two: Kernel, memory: Memory) -> None:
        await one.bridge.mkdir(F, ROOT, b"folder", 0o755)
        folder = await two.find(b"folder")
        await one.bridge.rmdir(F, ROOT, b"folder")
        assert (await two.bridge.getattr(F, folder)).nlink == 0
        for call in (two.bridge.lookup(F, folder, b"name"), two.bridge.mkdir(F, folder, b"name", 0o755)):
            with pytest.raises(FopError) as refused:
                await call
            assert refused.value.errno == errno.ENOENT

    play(scene)


def test_a_name_given_by_one_kernel_keeps_a_file_alive_for_the_other() -> None:
    async def scene(one: Kernel, two: Kernel, memory: Memory) -> None:
        file = await two.make(b"file")
        await one.find(b"file")
        await one.bridge.link(F, file, ROOT, b"other")
        await two.bridge.unlink(F, ROOT, b"file")
        assert (await two.bridge.getattr(F, file)).nlink == 1

    play(scene)


def test_what_is_appended_goes_to_the_end_wherever_the_kernel_believes_it_to_be() -> None:
    async def scene(one: Kernel, two: Kernel, memory: Memory) -> None:
        node = await one.make(b"log", b"first ")
        await two.find(b"log")
        fh = await two.bridge.open(F, node, os.O_WRONLY | os.O_APPEND)
        await two.bridge.append(F, fh, b"second ")
        await two.bridge.write(F, fh, 0, b"FIRST")  # a mapped page that is written back
        await two.bridge.release(F, fh)
        assert memory.root.entries[b"log"][0].data == b"FIRST second "

    play(scene)


def test_attributes_read_before_a_change_and_answered_after_it_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(one: Kernel, two: Kernel, memory: Memory) -> None:
        node = await one.make(b"file")
        go = trio.Event()
        real = memory.lookup

        async def slow(*args: object, **more: object) -> Iatt:
            iatt: Iatt = await real(*args, **more)  # type: ignore[arg-type]
            await go.wait()
            return iatt

        monkeypatch.setattr(two.bridge.top, "lookup", slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(two.find, b"file")
            await trio.testing.wait_all_tasks_blocked()
            await one.bridge.setattr(F, node, 0, None, SetAttr(mode=0o600))
            go.set()
        assert two.bridge.doubtful == {node}
        two.bridge.forget(node, 1)
        assert not two.bridge.doubtful

    play(scene)


@pytest.mark.parametrize("fop", ["setattr", "link"])
def test_attributes_that_a_change_answers_are_not_kept_when_the_file_changed_meanwhile(
    fop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(one: Kernel, two: Kernel, memory: Memory) -> None:
        node = await one.make(b"file")
        await two.find(b"file")
        go = trio.Event()
        real = getattr(memory, fop)

        async def slow(*args: object) -> Iatt:
            iatt: Iatt = await real(*args)
            await go.wait()
            return iatt

        monkeypatch.setattr(two.bridge.top, fop, slow)
        async with trio.open_nursery() as nursery:
            if fop == "link":
                nursery.start_soon(two.bridge.link, F, node, ROOT, b"other")
            else:
                nursery.start_soon(two.bridge.setattr, F, node, 0, None, SetAttr(mode=0o600))
            await trio.testing.wait_all_tasks_blocked()
            fh = await one.bridge.open(F, node, os.O_WRONLY)
            await one.bridge.write(F, fh, 0, b"longer")
            await one.bridge.release(F, fh)
            go.set()
        assert two.bridge.doubtful == {node}

    play(scene)


def test_two_closes_that_end_the_same_lock_do_not_meet_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(one: Kernel, two: Kernel, memory: Memory) -> None:
        bridge, go = one.bridge, trio.Event()
        node = await one.make(b"file")
        shared, own = [await bridge.open(F, node, os.O_RDWR) for _ in range(2)]

        async def lk(frame: Frame, fd: object, cmd: int, flock: Flock) -> Flock:
            if flock.type == fcntl.F_UNLCK:
                await go.wait()
            return flock

        monkeypatch.setattr(bridge.top, "lk", lk)
        for owner in (1, 2):
            await bridge.setlk(F, shared, Flock(fcntl.F_WRLCK, owner, 1, owner=owner), wait=False)
        closing = Frame(0, 0, 1)
        closing.lk_owner = 2
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bridge.release, F, shared)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(bridge.flush, closing, own)
            await trio.testing.wait_all_tasks_blocked()
            go.set()
        assert list(bridge.files) == [own]

    play(scene)


def test_changes_of_one_directory_from_two_places_come_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(one: Kernel, two: Kernel, memory: Memory) -> None:
        await one.make(b"file")
        await one.bridge.mkdir(F, ROOT, b"folder", 0o755)
        folder = await two.find(b"folder")
        go, real = trio.Event(), memory.unlink

        async def slow(*args: Any, **more: Any) -> None:
            await go.wait()
            await real(*args, **more)

        monkeypatch.setattr(one.bridge.top, "unlink", slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.bridge.unlink, F, ROOT, b"file")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(two.bridge.symlink, F, ROOT, b"file", b"text")
            await trio.testing.wait_all_tasks_blocked()
            await two.bridge.symlink(F, folder, b"elsewhere", b"text")
            assert memory.calls["symlink"] == 1
            go.set()
        assert memory.calls["symlink"] == 2
        assert not two.bridge.company.changing.held

    play(scene)
