"""debug/error-gen, debug/delay-gen and debug/trace over a child that answers."""

from __future__ import annotations

import errno

import pytest
import trio
import trio.testing

from fusemux.graph.debug.delay_gen import DelayGen
from fusemux.graph.debug.error_gen import ErrorGen
from fusemux.graph.debug.trace import Trace
from fusemux.graph.framework.errors import FopError, OptionError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import Frame, StatVfs

SPACE = StatVfs(4096, 4096, 10, 5, 5, 100, 50, 50)
ROOT = Inode(bytes(15) + b"\x01", 0o040000)


class Leaf(Translator):
    type = "test/leaf"
    children_min = children_max = 0

    async def statfs(self, frame: Frame, inode: Inode, xdata: object = None) -> StatVfs:
        return SPACE

    async def readlink(self, frame: Frame, inode: Inode, xdata: object = None) -> bytes:
        return b"target"


def over_a_leaf(layer: Translator) -> Edge:
    edge = Edge(Leaf("leaf", {}, layer.process), layer)
    edge.bind(strict=True)
    layer.children.append(edge)
    top = Edge(layer)
    top.bind(strict=True)
    return top


async def outcomes(top: Edge, fop: str, times: int) -> list[int]:
    seen = []
    for _ in range(times):
        try:
            await getattr(top, fop)(Frame(), ROOT)
            seen.append(0)
        except FopError as error:
            seen.append(error.errno)
    return seen


def test_error_gen_fails_every_nth_enabled_fop_with_its_errno() -> None:
    layer = ErrorGen("e", {"failure": "25", "error-no": "ENOSPC", "enable": "statfs"}, Process())
    top = over_a_leaf(layer)
    seen = trio.run(outcomes, top, "statfs", 8)
    assert seen == [0, 0, 0, errno.ENOSPC] * 2
    assert trio.run(outcomes, top, "readlink", 8) == [0] * 8
    assert layer.injected == 2


def test_random_errors_replay_from_the_seed() -> None:
    def run(seed: int) -> list[int]:
        layer = ErrorGen("e", {"failure": "50", "random-failure": "on"}, Process(seed=seed))
        return trio.run(outcomes, over_a_leaf(layer), "statfs", 40)

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_an_injected_error_says_so_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    layer = ErrorGen("v-error", {"failure": "100"}, Process())
    trio.run(outcomes, over_a_leaf(layer), "statfs", 1)
    assert "v-error: injected EIO into statfs" in caplog.text


@pytest.mark.parametrize("given", [{"enable": "statfs,nonsense"}, {"error-no": "EWHAT"}, {"failure": "101"}])
def test_error_gen_refuses_what_it_does_not_know(given: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="option"):
        ErrorGen("e", given, Process())


def test_glusterfs_names_of_fops_are_understood() -> None:
    layer = ErrorGen("e", {"enable": "FSTAT,ftruncate,readdirp"}, Process())
    assert layer.opt.enable == {"stat", "truncate", "readdir"}


def test_delay_gen_waits_as_long_as_it_was_told() -> None:
    layer = DelayGen("d", {"delay-percentage": "100", "delay-duration": "2000000", "enable": "statfs"}, Process())
    top = over_a_leaf(layer)

    async def main() -> tuple[float, float]:
        began = trio.current_time()
        await top.statfs(Frame(), ROOT)
        waited = trio.current_time()
        await top.readlink(Frame(), ROOT)
        return waited - began, trio.current_time() - waited

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)) == (2.0, 0.0)
    assert top.suspends


def test_trace_records_arguments_reply_and_error() -> None:
    layer = Trace("t", {"include-ops": "statfs,getxattr"}, Process())
    top = over_a_leaf(layer)
    trio.run(outcomes, top, "statfs", 1)
    trio.run(outcomes, top, "readlink", 1)
    with pytest.raises(FopError):
        trio.run(top.getxattr, Frame(), ROOT, b"user.x")
    first, second = layer.history
    assert "statfs(inode=00000000-0000-0000-0000-000000000001) uid=0" in first
    assert "getxattr(" in second
    assert "name=b'user.x'" in second
    assert "FopError(" in second
