"""A graph's life: built, started from the leaves up, reconfigured all or not at all, stopped from the top down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from fusemux.graph.framework.errors import FusemuxError, OptionError
from fusemux.graph.framework.graph import TopologyChanged, build
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Frame
from fusemux.graph.framework.volfile import VolfileError, parse
from tests.graph.framework.layers import Leaf

pytestmark = pytest.mark.usefixtures("testing_types")

Journal = list[tuple[str, ...]]

TREE = """
volume a
    type testing/leaf
    option size 1KB
end-volume
volume b
    type testing/leaf
end-volume
volume fan
    type testing/fan
    subvolumes a b
end-volume
volume top
    type testing/stubborn
    option threads 3
    subvolumes fan
end-volume
"""


def with_process(body: Callable[[Process], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Process(strict=False) as process:
            await body(process)

    trio.run(main)


def events(journal: Journal, *names: str) -> list[str]:
    return [entry[1] for entry in journal if entry[0] in names]


def test_children_are_initialised_first_and_finalised_last(journal: Journal) -> None:
    async def body(process: Process) -> None:
        graph = build(TREE, process)
        await graph.start()
        assert events(journal, "init") == ["a", "b", "fan", "top"]
        await graph.stop()
        assert events(journal, "drain") == ["top", "fan", "b", "a"]
        assert events(journal, "fini") == ["top", "fan", "b", "a"]

    with_process(body)


def test_the_parent_is_announced_from_the_top_after_all_are_initialised(journal: Journal) -> None:
    async def body(process: Process) -> None:
        graph = build(TREE, process)
        await graph.start()
        assert [kind for kind, _ in journal] == ["init"] * 4 + ["PARENT_UP"] * 4
        assert events(journal, "PARENT_UP") == ["top", "fan", "a", "b"]

    with_process(body)


def test_what_is_delayed_is_finished_while_every_child_still_serves(journal: Journal) -> None:
    async def body(process: Process) -> None:
        graph = build(TREE, process)
        await graph.start()
        journal.clear()
        await graph.stop()
        assert [kind for kind, _ in journal] == ["PARENT_DOWN"] * 4 + ["drain"] * 4 + ["fini"] * 4

    with_process(body)


def test_stopping_twice_or_before_the_start_does_nothing(journal: Journal) -> None:
    async def body(process: Process) -> None:
        graph = build(TREE, process)
        await graph.stop()
        assert journal == []
        await graph.start()
        await graph.stop()
        journal.clear()
        await graph.stop()
        assert journal == []

    with_process(body)


def test_when_one_cannot_start_those_that_did_are_finalised_and_nothing_is_announced(journal: Journal) -> None:
    text = TREE + "volume bad\ntype testing/failing\nsubvolumes top\nend-volume\n"
    text += "volume last\ntype testing/idle\nsubvolumes bad\nend-volume"

    async def body(process: Process) -> None:
        graph = build(text, process)
        with pytest.raises(FusemuxError, match="bad cannot start"):
            await graph.start()
        assert events(journal, "init") == ["a", "b", "fan", "top"]
        assert events(journal, "fini") == ["top", "fan", "b", "a"]
        assert events(journal, "PARENT_UP") == []
        assert not graph.started
        assert process.pool.threads == Process().pool.threads, "what the graph had asked for is withdrawn"

    with_process(body)


def test_a_type_that_does_not_exist_is_reported_with_its_name_its_line_and_a_suggestion() -> None:
    async def body(process: Process) -> None:
        with pytest.raises(VolfileError) as caught:
            build("volume a\n\ntype features/utmie\nend-volume", process, source="web.vol")
        assert str(caught.value) == (
            "web.vol, line 3: there is no translator 'features/utmie' ('a') here, did you mean 'features/utime'?"
        )

    with_process(body)


def test_a_stand_in_costs_nothing_and_is_mentioned() -> None:
    text = TREE + "volume cache\ntype performance/quick-read\nsubvolumes top\nend-volume"

    async def body(process: Process) -> None:
        graph = build(text, process, source="web.vol")
        await graph.start()
        fan = graph.translators["fan"]
        assert graph.top.statfs == fan.statfs  # type: ignore[attr-defined]
        assert any("performance/quick-read 'cache' is not there yet" in warning for warning in graph.warnings)

    with_process(body)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("volume a\ntype testing/idle\nend-volume", "line 1: testing/idle 'a' takes 1 subvolumes, got 0"),
        ("volume a\ntype testing/fan\nend-volume", "line 1: testing/fan 'a' takes at least 1 subvolumes, got 0"),
        (TREE + "volume z\ntype testing/leaf\nsubvolumes a\nend-volume", "testing/leaf 'z' takes 0 subvolumes, got 1"),
        (TREE.replace("1KB", "1XB"), "line 2: 'a': option size '1XB': expected a size"),
    ],
)
def test_what_is_wrong_with_a_layer_is_said_with_its_line(text: str, message: str) -> None:
    async def body(process: Process) -> None:
        with pytest.raises(VolfileError) as caught:
            build(text, process)
        assert message in str(caught.value)

    with_process(body)


def test_an_unknown_option_is_a_warning_with_its_line() -> None:
    async def body(process: Process) -> None:
        graph = build(TREE.replace("option size", "option colour"), process, source="web.vol")
        assert graph.warnings == ["web.vol, line 2: testing/leaf 'a' has no option 'colour', ignored"]

    with_process(body)


def test_slots_are_given_to_those_who_want_them() -> None:
    async def body(process: Process) -> None:
        graph = build(TREE.replace("testing/stubborn", "testing/fan").replace("option threads 3", ""), process)
        slots = {graph.translators[name].inode_slot for name in ("fan", "top")}
        assert slots == {0, 1}
        assert graph.translators["a"].inode_slot == -1
        assert len(graph.itable.root.ctx) == 2

    with_process(body)


def test_forgotten_inodes_are_announced_to_those_who_listen(journal: Journal) -> None:
    async def body(process: Process) -> None:
        graph = build(TREE, process, lru_limit=0)
        graph.itable.settle(graph.itable.link(b"g" * 16, 0o100000))
        assert journal == [("forget", "fan")]

    with_process(body)


def test_new_options_reach_the_running_translators() -> None:
    async def body(process: Process) -> None:
        graph = build(TREE, process)
        await graph.start()
        graph.reconfigure(parse(TREE.replace("1KB", "2KB").replace("threads 3", "threads 5")))
        leaf = graph.translators["a"]
        assert isinstance(leaf, Leaf)
        assert (await leaf.stat(Frame(), graph.itable.root)).size == 2048
        assert process.pool.threads == 5

    with_process(body)


@pytest.mark.parametrize("bad", ["threads 99", "threads many"])
def test_when_one_refuses_its_new_options_all_keep_the_old_ones(bad: str) -> None:
    async def body(process: Process) -> None:
        graph = build(TREE, process)
        await graph.start()
        with pytest.raises(OptionError, match="threads"):
            graph.reconfigure(parse(TREE.replace("1KB", "2KB").replace("threads 3", bad)))
        assert graph.translators["a"].opt.size == 1024
        assert graph.translators["top"].opt.threads == 3
        assert process.pool.threads == 3
        graph.reconfigure(parse(TREE.replace("1KB", "4KB")))
        assert graph.translators["a"].opt.size == 4096

    with_process(body)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("subvolumes a b", "subvolumes b a"),
        lambda text: text.replace("subvolumes a b", "subvolumes a"),
        lambda text: text.replace("volume top", "volume upper"),
        lambda text: text.replace("testing/stubborn", "testing/idle"),
        lambda text: text + "volume more\ntype testing/idle\nsubvolumes top\nend-volume",
    ],
)
def test_another_topology_needs_another_graph(change: Callable[[str], str]) -> None:
    async def body(process: Process) -> None:
        graph = build(TREE, process)
        await graph.start()
        with pytest.raises(TopologyChanged):
            graph.reconfigure(parse(change(TREE).replace("1KB", "2KB")))
        assert graph.translators["a"].opt.size == 1024

    with_process(body)


def test_reconfiguring_links_anew(journal: Journal) -> None:
    text = "volume a\ntype testing/leaf\nend-volume\nvolume s\ntype testing/switch\noption active off\nsubvolumes a\nend-volume"

    async def body(process: Process) -> None:
        graph = build(text, process)
        await graph.start()
        graph.reconfigure(parse(text.replace("active off", "active on")))
        journal.clear()
        await graph.top.statfs(Frame(), graph.itable.root)
        assert journal == [("statfs", "s"), ("statfs", "a")]

    with_process(body)


def test_a_stopped_graph_asks_nothing_of_the_process_any_more() -> None:
    async def body(process: Process) -> None:
        before = process.pool.threads
        graph = build(TREE.replace("threads 3", "threads 30"), process)
        await graph.start()
        assert process.pool.threads == 30
        await graph.stop()
        assert process.pool.threads == before

    with_process(body)
