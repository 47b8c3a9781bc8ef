"""Linking: a layer that does not intercept a fop costs nothing, and edges follow what changes."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fops import FOP_NAMES
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Frame
from fusemux.graph.framework.volfile import parse
from tests.graph.framework.layers import SPACE, Leaf, Switch

pytestmark = pytest.mark.usefixtures("testing_types")

Journal = list[tuple[str, ...]]


def stack(*types: str) -> str:
    """A volfile with one translator of each type, the first at the bottom, named t0, t1, ..."""
    blocks = []
    for place, type in enumerate(types):
        below = f"subvolumes t{place - 1}\n" if place else ""
        blocks.append(f"volume t{place}\ntype testing/{type}\n{below}end-volume\n")
    return "".join(blocks)


def run(text: str, body: Callable[[Graph], Awaitable[None]], *, strict: bool = False) -> None:
    async def main() -> None:
        async with Process(strict=strict) as process:
            graph = Graph(parse(text), process)
            await graph.start()
            await body(graph)
            await graph.stop()

    trio.run(main)


def test_an_edge_holds_the_very_method_of_the_translator_that_answers() -> None:
    async def body(graph: Graph) -> None:
        leaf = graph.translators["t0"]
        assert isinstance(leaf, Leaf)
        assert graph.top.statfs == leaf.statfs
        assert graph.translators["t2"].child.statfs == leaf.statfs

    run(stack("leaf", "idle", "idle"), body)


def test_fops_pass_through_the_layers_that_intercept_them_and_no_others(journal: Journal) -> None:
    async def body(graph: Graph) -> None:
        journal.clear()
        assert await graph.top.statfs(Frame(), graph.itable.root) == SPACE
        assert journal == [("statfs", "t4"), ("around statfs", "t2"), ("statfs", "t0")]
        journal.clear()
        await graph.top.stat(Frame(), graph.itable.root)
        assert journal == [("around stat", "t2")]

    run(stack("leaf", "idle", "around", "idle", "fan"), body)


def test_a_layer_that_switches_itself_on_is_linked_in_and_out_again(journal: Journal) -> None:
    async def body(graph: Graph) -> None:
        held = graph.translators["t2"].child  # an edge that somebody keeps
        for active, expected in (("on", "t1"), ("off", "t0")):
            graph.translators["t1"].reconfigure({"active": active})
            graph.relink()
            for edge in (held, graph.top):
                journal.clear()
                await edge.statfs(Frame(), graph.itable.root)
                assert journal[0] == ("statfs", expected)

    run(stack("leaf", "switch", "idle"), body)


def test_a_switched_off_layer_is_not_called_at_all() -> None:
    async def body(graph: Graph) -> None:
        leaf = graph.translators["t0"]
        assert isinstance(leaf, Leaf)
        assert isinstance(graph.translators["t1"], Switch)
        assert graph.top.statfs == leaf.statfs

    run(stack("leaf", "switch"), body)


@pytest.mark.parametrize("strict", [False, True])
def test_a_fop_that_nobody_has_is_refused_by_the_leaf(strict: bool) -> None:
    async def body(graph: Graph) -> None:
        with pytest.raises(FopError, match="testing/leaf t0 has no readlink") as caught:
            await graph.top.readlink(Frame(), graph.itable.root)
        assert caught.value.errno == errno.EOPNOTSUPP

    run(stack("leaf", "idle"), body, strict=strict)


def test_a_fop_stops_at_a_translator_with_several_children_that_does_not_have_it() -> None:
    async def body(graph: Graph) -> None:
        with pytest.raises(FopError, match="testing/fan f has no stat"):
            await graph.top.stat(Frame(), graph.itable.root)

    text = "volume a\ntype testing/leaf\nend-volume\nvolume b\ntype testing/leaf\nend-volume\n"
    run(text + "volume f\ntype testing/fan\nsubvolumes a b\nend-volume", body)


def test_before_the_graph_is_started_every_fop_fails_with_enotconn() -> None:
    async def main() -> None:
        async with Process() as process:
            graph = Graph(parse(stack("leaf", "idle")), process)
            for name in FOP_NAMES:
                with pytest.raises(FopError) as caught:
                    await getattr(graph.top, name)(Frame())
                assert caught.value.errno == errno.ENOTCONN

    trio.run(main)


@pytest.mark.parametrize(("slow", "suspends"), [("off", False), ("on", True)])
def test_an_edge_knows_whether_its_subtree_may_wait(slow: str, suspends: bool) -> None:
    async def body(graph: Graph) -> None:
        assert graph.top.suspends is suspends
        assert graph.translators["t1"].child.suspends is suspends

    run(stack("leaf", "idle").replace("leaf\n", f"leaf\noption slow {slow}\n"), body)


def test_a_strict_graph_answers_the_same() -> None:
    replies: list[Any] = []

    async def body(graph: Graph) -> None:
        replies.append(await graph.top.statfs(Frame(), graph.itable.root))
        replies.append(await graph.top.stat(Frame(), graph.itable.root))

    for strict in (False, True):
        run(stack("leaf", "around", "fan", "idle").replace("fan", "switch"), body, strict=strict)
    assert replies[:2] == replies[2:]
