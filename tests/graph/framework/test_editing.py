"""A graph is edited while it runs: who goes on, who is built anew, what happens to calls, inodes and open files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from fusemux.graph.framework import editing
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Frame
from fusemux.graph.framework.volfile import Section
from tests.graph.framework.layers import SPACE, Fan

pytestmark = pytest.mark.usefixtures("testing_types")

Journal = list[tuple[str, ...]]


def tree(*leaves: str, fan: str = "testing/fan", slow: str = "off", extra: str = "") -> list[Section]:
    sections = [Section(name, "testing/leaf", {"slow": slow}) for name in leaves]
    sections.append(Section("fan", fan, {}, list(leaves)))
    sections.append(Section("top", extra or "testing/idle", {}, ["fan"]))
    return sections


def with_graph(sections: list[Section], body: Callable[[Graph], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            graph = Graph(sections, process)
            await graph.start()
            try:
                await body(graph)
            finally:
                await graph.stop()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def edited(graph: Graph, sections: list[Section], fds: Sequence[Fd] = ()) -> None:
    await graph.gate.close(graph)
    try:
        await graph.edit(sections, fds)
    finally:
        graph.gate.open(graph)


def of(journal: Journal, *what: str) -> list[str]:
    return [f"{entry[0]} {entry[1]}" for entry in journal if entry[0] in what]


def test_what_is_the_same_goes_on_and_what_differs_is_built_anew(journal: Journal) -> None:
    async def body(graph: Graph) -> None:
        before = dict(graph.translators)
        edges = list(before["fan"].children)
        journal.clear()
        await edited(graph, tree("b", "c"))
        after = graph.translators
        assert list(after) == ["b", "c", "fan", "top"]
        assert after["b"] is before["b"]
        assert after["top"] is before["top"]
        assert after["fan"] is not before["fan"]
        assert after["fan"].children[0] is edges[1], "the edge to a child that stays is the same object"
        assert (edges[1].index, edges[1].parent) == (0, after["fan"])
        assert after["top"].children[0].translator is after["fan"]
        assert after["b"].parents == [after["fan"]]
        assert of(journal, "init", "drain", "fini") == [
            "drain fan",
            "drain a",
            "init c",
            "init fan",
            "fini fan",
            "fini a",
        ]
        assert of(journal, "PARENT_UP") == ["PARENT_UP fan", "PARENT_UP b", "PARENT_UP c"]
        assert await graph.top.statfs(Frame(), graph.itable.root, None) == SPACE
        assert of(journal, "statfs") == ["statfs fan", "statfs b"]

    with_graph(tree("a", "b"), body)


def test_a_successor_takes_over_the_slots_and_hears_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(Fan, "adopt", lambda self, old: heard.append(old), raising=False)
    monkeypatch.setattr(Fan, "adopt_open", lambda self, fds: heard.append(fds), raising=False)

    async def body(graph: Graph) -> None:
        old = graph.translators["fan"]
        inode = graph.itable.link(bytes(15) + b"\7", 0o100000)
        fd = graph.itable.fd(inode, 0)
        inode.ctx[old.inode_slot] = fd.ctx[old.fd_slot] = "known"
        await edited(graph, tree("a", "b"), [fd])
        new = graph.translators["fan"]
        assert heard == [old, [fd]]
        assert (new.inode_slot, new.fd_slot) == (old.inode_slot, old.fd_slot)
        assert (inode.ctx[new.inode_slot], fd.ctx[new.fd_slot]) == ("known", "known")
        graph.itable.closed(fd)

    with_graph(tree("a"), body)


def test_slots_grow_for_who_is_new_and_are_emptied_and_used_again() -> None:
    async def body(graph: Graph) -> None:
        inode = graph.itable.link(bytes(15) + b"\7", 0o100000)
        unused = graph.itable.learn(bytes(15) + b"\x08", 0o100000)
        fd = graph.itable.fd(inode, 0)
        assert (inode.ctx, fd.ctx) == ([], [])
        await edited(graph, tree("a", fan="testing/fan"), [fd])
        fan = graph.translators["fan"]
        assert (inode.ctx, unused.ctx, fd.ctx) == ([None], [None], [None])
        inode.ctx[fan.inode_slot] = fd.ctx[fan.fd_slot] = "old"
        await edited(graph, tree("a", fan="testing/idle"), [fd])
        assert (inode.ctx, fd.ctx) == ([None], [None])
        await edited(graph, tree("a", fan="testing/fan"), [fd])
        assert len(inode.ctx) == graph.itable.inode_slots
        assert len(fd.ctx) == graph.itable.fd_slots
        graph.itable.closed(fd)

    with_graph(tree("a", fan="testing/idle"), body)


def test_what_waits_to_be_opened_during_an_edit_has_all_slots_after_it() -> None:
    async def body(graph: Graph) -> None:
        fd = graph.itable.fd(graph.itable.root, 0)
        await graph.gate.close(graph)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(graph.top.stat, Frame(), fd, None)
            await trio.testing.wait_all_tasks_blocked()
            await graph.edit(tree("a", fan="testing/fan"), [])
            graph.gate.open(graph)
        assert fd.ctx == [None]
        graph.itable.closed(fd)

    with_graph(tree("a", fan="testing/idle"), body)


@pytest.mark.parametrize("broken", ["testing/failing", "testing/nowhere"])
def test_an_edit_that_fails_changes_nothing(journal: Journal, broken: str) -> None:
    async def body(graph: Graph) -> None:
        before = dict(graph.translators)
        edges = [list(t.children) for t in before.values()]
        wrong = [
            *tree("a", "b", "c")[:3],
            Section("x", broken, {}, ["c"]),
            Section("fan", "testing/fan", {}, ["a", "x"]),
        ]
        wrong.append(Section("top", "testing/idle", {}, ["fan"]))
        with pytest.raises(FusemuxError):
            await edited(graph, wrong)
        assert graph.translators == before
        assert [list(t.children) for t in before.values()] == edges
        assert [edge.index for edge in before["fan"].children] == [0, 1]
        journal.clear()
        assert await graph.top.statfs(Frame(), graph.itable.root, None) == SPACE
        assert of(journal, "statfs") == ["statfs fan", "statfs a"]

    with_graph(tree("a", "b"), body)


def test_an_edit_waits_for_calls_that_are_inside_and_holds_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(graph: Graph) -> None:
        go = trio.Event()
        leaf = graph.translators["a"]

        async def wait(*args: Any) -> Any:
            await go.wait()
            return SPACE

        monkeypatch.setattr(leaf, "statfs", wait, raising=False)
        graph.relink()
        order: list[str] = []

        async def call(name: str) -> None:
            await graph.top.statfs(Frame(), graph.itable.root, None)
            order.append(name)

        async def edit() -> None:
            await edited(graph, tree("b", slow="on"))
            order.append("edited")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "before")
            await trio.testing.wait_all_tasks_blocked()
            assert graph.gate.inside == 1
            nursery.start_soon(edit)
            await trio.sleep(0.1)
            nursery.start_soon(call, "after")
            await trio.sleep(0.1)
            assert (order, graph.gate.inside) == ([], 1)
            go.set()
        assert order[0] == "before"
        assert sorted(order) == ["after", "before", "edited"]
        assert graph.gate.inside == 0

    with_graph(tree("a", slow="on"), body)


def test_calls_that_do_not_end_are_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(graph: Graph) -> None:
        monkeypatch.setattr(graph.translators["a"], "statfs", _forever, raising=False)
        graph.relink()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(graph.top.statfs, Frame(), graph.itable.root, None)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(FusemuxError, match=r"calls on the volume do not come to an end \(1 wait\)"):
                await graph.gate.close(graph)
            assert not graph.gate.closed
            nursery.cancel_scope.cancel()

    with_graph(tree("a", slow="on"), body)


async def _forever(*args: Any) -> Any:
    await trio.sleep_forever()


def test_a_graph_that_never_waits_does_not_count_its_calls() -> None:
    async def body(graph: Graph) -> None:
        assert graph.top.statfs.__qualname__ != editing.Gate._counted.__qualname__ + ".<locals>.call"

    with_graph(tree("a"), body)
