"""Faults on an edge: what is selected, what is done to it, and that nothing is left when they are lifted."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from fusemux.graph.debug.fault import Fault, lift, place
from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import Frame
from fusemux.graph.framework.volfile import Section

FILE = Inode(bytes.fromhex("aa" * 16), 0o100000)
OTHER = Inode(bytes.fromhex("bb" * 16), 0o100000)
PATHS = {FILE.gfid: b"/db/main.wal", OTHER.gfid: b"/db/main.db"}


class Store(Translator):
    """One buffer; knows the paths of two inodes."""

    type = "test/store"
    children_min = children_max = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.data = b"0123456789"

    async def writev(self, frame: Frame, fd: Fd, data: bytes, offset: int, xdata: object = None) -> int:
        self.data = self.data[:offset] + bytes(data)
        return len(data)

    async def readv(self, frame: Frame, fd: Fd, size: int, offset: int, xdata: object = None) -> bytes:
        return self.data[offset : offset + size]

    async def fsync(self, frame: Frame, fd: Fd, datasync: bool, xdata: object = None) -> None:
        return None

    async def getxattr(
        self, frame: Frame, target: Inode, name: bytes | None, xdata: object = None
    ) -> Mapping[bytes, bytes]:
        return {name or b"": PATHS[target.gfid]}


class Layer(Translator):
    type = "test/layer"


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Graph:
    """store <- layer <- top, where the layer intercepts nothing."""
    types = {"test/store": Store, "test/layer": Layer}
    monkeypatch.setattr("fusemux.graph.framework.registry.find", types.get)
    built = Graph(
        [
            Section("store", "test/store"),
            Section("mid", "test/layer", {}, ["store"]),
            Section("top", "test/layer", {}, ["mid"]),
        ],
        Process(strict=True),
    )
    trio.run(built.start)
    return built


def write(edge: Edge, data: bytes = b"abcdef", inode: Inode = FILE) -> int:
    return int(trio.run(edge.writev, Frame(), Fd(inode), data, 0))


def read(edge: Edge) -> bytes:
    return bytes(trio.run(edge.readv, Frame(), Fd(FILE), 100, 0))


def failing(edge: Edge, times: int, inode: Inode = FILE) -> list[bool]:
    seen = []
    for _ in range(times):
        try:
            write(edge, inode=inode)
            seen.append(False)
        except FopError:
            seen.append(True)
    return seen


def test_an_error_answers_its_errno_and_does_not_reach_the_child(graph: Graph) -> None:
    place(graph.top, Fault("error", frozenset({"writev"}), errno=errno.ENOSPC))
    with pytest.raises(FopError) as failed:
        write(graph.top)
    assert failed.value.errno == errno.ENOSPC
    assert read(graph.top) == b"0123456789"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("error", nth=3), [False, False, True, False, False]),
        (Fault("error", times=2), [True, True, False, False, False]),
        (Fault("error"), [True] * 5),
    ],
    ids=["nth", "times", "always"],
)
def test_which_fops_fail(graph: Graph, fault: Fault, expected: list[bool]) -> None:
    place(graph.top, fault)
    assert failing(graph.top, 5) == expected
    assert fault.fired == sum(expected)


def test_a_rate_replays_from_its_seed(graph: Graph) -> None:
    runs = []
    for seed in (1, 1, 2):
        fault = Fault("error", rate=0.5, seed=seed)
        place(graph.top, fault)
        runs.append(failing(graph.top, 40))
        lift(graph.top, fault)
    assert runs[0] == runs[1] != runs[2]
    assert 5 < sum(runs[0]) < 35


def test_a_fault_between_two_layers_is_met_from_above_though_nobody_intercepts(graph: Graph) -> None:
    middle = graph.translators["mid"].children[0]
    fault = Fault("error")
    place(middle, fault)
    assert failing(graph.top, 1) == [True]
    lift(middle, fault)
    assert failing(graph.top, 1) == [False]


@pytest.mark.parametrize(
    ("pattern", "hit"), [("*.wal", True), ("/db/*", True), ("main.db", False), ("/other/*", False)]
)
def test_a_path_pattern_selects_files(graph: Graph, pattern: str, hit: bool) -> None:
    place(graph.top, Fault("error", frozenset({"writev"}), path=pattern))
    assert failing(graph.top, 1) == [hit]


def test_short_corrupt_and_torn_transfers(graph: Graph) -> None:
    for action, stored in (("short", b"abc"), ("corrupt", b"abceef"), ("torn", b"abc")):
        fault = Fault(action, frozenset({"writev"}))
        place(graph.top, fault)
        if action == "torn":
            with pytest.raises(FopError):
                write(graph.top)
        else:
            assert write(graph.top) == len(stored)
        lift(graph.top, fault)
        assert read(graph.top) == stored


def test_a_read_can_be_short(graph: Graph) -> None:
    place(graph.top, Fault("short", frozenset({"readv"})))
    assert read(graph.top) == b"01234"


def test_a_delay_waits_and_makes_the_edge_one_that_suspends(graph: Graph) -> None:
    fault = Fault("delay", delay_s=5.0)
    place(graph.top, fault)

    async def main() -> float:
        began = trio.current_time()
        await graph.top.fsync(Frame(), Fd(FILE), False)
        return trio.current_time() - began

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)) == 5.0
    assert graph.top.suspends
    lift(graph.top, fault)
    assert not graph.top.suspends


def test_fired_can_be_waited_for(graph: Graph) -> None:
    fault = Fault("error", nth=2)
    place(graph.top, fault)

    async def main() -> list[str]:
        order = []
        async with trio.open_nursery() as nursery:

            async def waiter() -> None:
                await fault.wait_fired()
                order.append("fired")

            nursery.start_soon(waiter)
            await trio.testing.wait_all_tasks_blocked()
            await graph.top.fsync(Frame(), Fd(FILE), False)
            await trio.testing.wait_all_tasks_blocked()
            order.append("one passed")
            with pytest.raises(FopError):
                await graph.top.fsync(Frame(), Fd(FILE), False)
        return order

    assert trio.run(main) == ["one passed", "fired"]


def test_an_injected_fault_says_so_in_the_log(graph: Graph, caplog: pytest.LogCaptureFixture) -> None:
    place(graph.top, Fault("error", errno=errno.ENOSPC))
    failing(graph.top, 1)
    assert "injected ENOSPC into writev" in caplog.text


def test_an_edge_without_faults_is_linked_as_before(graph: Graph) -> None:
    graph.process.strict = False
    graph.relink()
    before = graph.top.writev
    fault = Fault("error")
    place(graph.top, fault)
    assert graph.top.writev != before
    lift(graph.top, fault)
    assert graph.top.writev == before == graph.translators["store"].writev  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"action": "eror"}, "did you mean 'error'"),
        ({"action": "torn", "fops": frozenset({"readv"})}, "writev only"),
        ({"action": "error", "rate": 0.0}, "share above 0"),
    ],
)
def test_a_fault_that_could_never_fire_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(FusemuxError, match=message):
        Fault(**words)
