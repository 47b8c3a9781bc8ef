"""features/utime: what changes is stamped once for all copies, what only reads is not even intercepted."""

from __future__ import annotations

import pytest
import trio

from fusemux.graph.features.utime import Utime
from fusemux.graph.framework.fops import FOPS
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import Frame

FILE = Inode(bytes.fromhex("aa" * 16), 0o100000)


class Clock(Translator):
    """Records the stamps that reach it."""

    type = "test/clock"
    children_min = children_max = 0

    def __init__(self) -> None:
        super().__init__("clock", {}, Process())
        self.stamps: list[int] = []

    async def writev(self, frame: Frame, fd: Fd, data: bytes, offset: int, xdata: object = None) -> int:
        self.stamps.append(frame.time_ns)
        return len(data)

    async def readv(self, frame: Frame, fd: Fd, size: int, offset: int, xdata: object = None) -> bytes:
        self.stamps.append(frame.time_ns)
        return b""


def over_a_clock(given: dict[str, str]) -> tuple[Edge, Clock]:
    layer, clock = Utime("v-utime", given, Process()), Clock()
    edge = Edge(clock, layer)
    edge.bind(strict=True)
    layer.children.append(edge)
    top = Edge(layer)
    top.bind(strict=True)
    return top, clock


def test_a_write_carries_a_stamp_and_later_writes_later_ones() -> None:
    top, clock = over_a_clock({})
    for _ in range(2):
        trio.run(top.writev, Frame(), Fd(FILE), b"x", 0)
    assert 0 < clock.stamps[0] < clock.stamps[1]


@pytest.mark.parametrize(("noatime", "stamped"), [("on", False), ("off", True)])
def test_a_read_is_stamped_only_when_access_times_are_wanted(noatime: str, stamped: bool) -> None:
    top, clock = over_a_clock({"noatime": noatime})
    trio.run(top.readv, Frame(), Fd(FILE), 1, 0)
    assert (clock.stamps[0] > 0) is stamped


def test_every_fop_that_changes_something_is_stamped_and_no_other() -> None:
    layer = Utime("v-utime", {}, Process())
    stamped = {name for name in FOPS if layer.intercepts(name)}
    assert stamped == {fop.name for fop in FOPS.values() if fop.changes}
