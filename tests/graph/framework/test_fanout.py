"""One call to several children: answers and errors in their places; side by side only where somebody can wait."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fanout import fan_out, fan_out_each
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Frame
from fusemux.graph.framework.volfile import parse
from tests.graph.framework.layers import SPACE, Leaf

pytestmark = pytest.mark.usefixtures("testing_types")

VOLFILE = """
volume a
    type testing/leaf
end-volume
volume b
    type testing/leaf
end-volume
volume c
    type testing/leaf
    option slow off
end-volume
volume fan
    type testing/fan
    subvolumes a b c
end-volume
"""


def run(body: Callable[[list[Edge], Inode], Awaitable[None]], *, slow: bool = False) -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            graph = Graph(parse(VOLFILE.replace("slow off", f"slow {'on' if slow else 'off'}")), process)
            await graph.start()
            await body(graph.translators["fan"].children, graph.itable.root)
            await graph.stop()

    trio.run(main)


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


@pytest.mark.parametrize("slow", [False, True])
def test_replies_stand_in_the_order_of_the_children(slow: bool) -> None:
    async def body(edges: list[Edge], root: Inode) -> None:
        assert await fan_out(edges, "statfs", Frame(), root) == [SPACE] * 3
        sizes = [reply.size for reply in await fan_out(edges, "stat", Frame(), root)]
        assert sizes == [1024] * 3

    run(body, slow=slow)


@pytest.mark.parametrize("slow", [False, True])
def test_an_error_is_the_answer_of_its_child_and_the_others_are_still_asked(
    monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    original = Leaf.statfs

    async def statfs(self: Leaf, *args: Any) -> Any:
        if self.name == "b":
            raise FopError(errno.ENOSPC, "full")
        return await original(self, *args)

    monkeypatch.setattr(Leaf, "statfs", statfs)

    async def body(edges: list[Edge], root: Inode) -> None:
        first, second, third = await fan_out(edges, "statfs", Frame(), root)
        assert (first, third) == (SPACE, SPACE)
        assert isinstance(second, FopError)
        assert second.errno == errno.ENOSPC

    run(body, slow=slow)


@pytest.mark.parametrize("slow", [False, True])
def test_each_child_may_get_a_call_of_its_own(slow: bool) -> None:
    async def body(edges: list[Edge], root: Inode) -> None:
        frame = Frame()
        calls = [
            (edges[0], "statfs", (frame, root)),
            (edges[2], "stat", (frame, root)),
            (edges[1], "readlink", (frame, root)),
        ]
        space, attributes, refused = await fan_out_each(calls)
        assert space == SPACE
        assert attributes.gfid == root.gfid
        assert isinstance(refused, FopError)

    run(body, slow=slow)


def test_no_call_is_an_empty_answer() -> None:
    async def body(edges: list[Edge], root: Inode) -> None:
        assert await fan_out([], "statfs", Frame(), root) == []
        assert await fan_out_each([]) == []

    run(body)


def test_children_that_cannot_wait_are_called_without_a_task() -> None:
    seen: list[int] = []

    async def body(edges: list[Edge], root: Inode) -> None:
        before = tasks()

        async def statfs(*args: Any) -> Any:
            seen.append(tasks() - before)
            return SPACE

        for edge in edges:
            edge.statfs = statfs  # type: ignore[attr-defined]
        await fan_out(edges, "statfs", Frame(), root)

    run(body)
    assert seen == [0, 0, 0]


def test_children_of_which_one_can_wait_are_called_side_by_side() -> None:
    async def body(edges: list[Edge], root: Inode) -> None:
        here = 0
        all_here = trio.Event()

        async def statfs(*args: Any) -> Any:
            nonlocal here
            here += 1
            if here == 3:
                all_here.set()
            with trio.fail_after(5):
                await all_here.wait()
            return SPACE

        for edge in edges:
            edge.statfs = statfs  # type: ignore[attr-defined]
        assert await fan_out(edges, "statfs", Frame(), root) == [SPACE] * 3

    run(body, slow=True)


def test_cancelling_a_fan_out_cancels_every_child() -> None:
    async def body(edges: list[Edge], root: Inode) -> None:
        cancelled: list[int] = []

        async def statfs(*args: Any) -> Any:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                cancelled.append(1)
                raise

        for edge in edges:
            edge.statfs = statfs  # type: ignore[attr-defined]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fan_out, edges, "statfs", Frame(), root)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert len(cancelled) == 3

    run(body, slow=True)
