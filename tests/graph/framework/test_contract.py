"""Strict mode catches each way in which a translator can break the contract of an edge, and names the edge."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import pytest
import trio

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import DirEntry, Frame, Iatt, SetAttr
from fusemux.graph.framework.volfile import parse
from tests.graph.framework.layers import SPACE, Broken, iatt

pytestmark = pytest.mark.usefixtures("testing_types")

VOLFILE = "volume low\ntype testing/broken\nend-volume\nvolume high\ntype testing/idle\nsubvolumes low\nend-volume"
GFID = bytes(range(16))
INODE = Inode(GFID, 0o100000)
FD = Fd(INODE)


@asynccontextmanager
async def replying(reply: Any) -> AsyncIterator[Edge]:
    """The top of a strict graph whose leaf gives `reply`."""
    async with Process(strict=True) as process:
        graph = Graph(parse(VOLFILE), process)
        await graph.start()
        leaf = graph.translators["low"]
        assert isinstance(leaf, Broken)
        leaf.reply = reply
        yield graph.top
        await graph.stop()


def call(reply: Any, fop: str, *args: Any, frame: Any = None) -> Any:
    """The answer of `fop(*args)` where the leaf gives `reply`."""

    async def main() -> Any:
        async with replying(reply) as top:
            return await getattr(top, fop)(Frame() if frame is None else frame, *args)

    return trio.run(main)


def entry(name: bytes) -> DirEntry:
    return DirEntry(name, 1, 1, 0)


KEPT = [
    (iatt(GFID), "stat", (INODE,)),
    (iatt(GFID), "stat", (FD, MappingProxyType({b"user.x": None}))),
    (SPACE, "statfs", (INODE, None)),
    (b"", "readv", (FD, 4096, 0)),
    (memoryview(b"abc"), "readv", (FD, 3, 0)),
    (3, "writev", (FD, memoryview(b"abc"), 0)),
    ([entry(b"a")], "readdir", (FD, 10, 0, False)),
    ({b"user.a": b"1"}, "getxattr", (INODE, None)),
    (None, "release", (FD,)),
]


@pytest.mark.parametrize(("reply", "fop", "args"), KEPT)
def test_what_keeps_the_contract_passes_unchanged(reply: Any, fop: str, args: tuple[Any, ...]) -> None:
    assert call(reply, fop, *args) == reply


BROKEN_BY_CALLEE = [
    (None, "stat", (INODE,), "replied None, not Iatt"),
    ((0,) * 12, "stat", (INODE,), "not Iatt"),
    (iatt(b"short"), "stat", (INODE,), "not Iatt"),
    ("text", "readv", (FD, 4096, 0), "not bytes-like"),
    (b"four", "readv", (FD, 3, 0), "more or less than was asked for"),
    (4, "writev", (FD, b"abc", 0), "more or less than was asked for"),
    (-1, "writev", (FD, b"abc", 0), "not int"),
    ([entry(b"a"), entry(b"b")], "readdir", (FD, 1, 0, False), "more or less than was asked for"),
    ([entry(b".")], "readdir", (FD, 10, 0, False), "more or less than was asked for"),
    ((entry(b"a"),), "readdir", (FD, 10, 0, False), "not list[DirEntry]"),
    ({"user.a": b"1"}, "getxattr", (INODE, None), "not Mapping"),
    ({b"user.a": "1"}, "getxattr", (INODE, None), "not Mapping"),
    (0, "release", (FD,), "replied 0, not None"),
    (FopError(0), "stat", (INODE,), "unknown errno 0"),
    (FopError(-errno.EIO), "stat", (INODE,), "unknown errno -5"),
    (FopError(9999), "stat", (INODE,), "unknown errno 9999"),
]


@pytest.mark.parametrize(("reply", "fop", "args", "message"), BROKEN_BY_CALLEE)
def test_a_wrong_answer_is_caught_and_the_edge_named(reply: Any, fop: str, args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        call(reply, fop, *args)
    assert message in str(caught.value)
    assert f"<testing/idle high>: {fop}" in str(caught.value)


BROKEN_BY_CALLER = [
    ("stat", (), "takes frame, 1 arguments, xdata; got 1"),
    ("stat", (INODE, None, None), "takes frame, 1 arguments, xdata; got 4"),
    ("stat", (GFID,), "is no target"),
    ("stat", (INODE, [b"user.x"]), "xdata is list"),
    ("statfs", (FD,), "is no inode"),
    ("readv", (INODE, 1, 0), "is no fd"),
    ("readv", (FD, "1", 0), "size='1' is no int"),
    ("writev", (FD, "abc", 0), "is no bytes"),
    ("readdir", (FD, 1, 0, 1), "plus=1 is no bool"),
    ("lookup", (INODE, "name"), "name='name' is no name"),
    ("lookup", (INODE, b"a/b"), "is no name"),
    ("lookup", (INODE, b"a\0"), "is no name"),
    ("lookup", (INODE, b"x" * 256), "is no name"),
    ("mkdir", (INODE, b"d", 0o755, b"short"), "is no gfid"),
    ("getxattr", (INODE, "user.a"), "is no xattr name?"),
    ("setxattr", (INODE, {"user.a": b""}, 0), "is no xattrs"),
    ("setxattr", (INODE, {b"user.a": b""}, 4), "flags=4 has unknown flags"),
    ("rename", (INODE, b"a", INODE, b"b", INODE, None, 4), "flags=4 has unknown flags"),
    ("rename", (INODE, b"a", INODE, b"b", None, None, 0), "inode=None is no inode"),
    ("seek", (FD, 0, 0), "whence=0 has unknown flags"),
    ("setattr", (INODE, {"mode": 0}), "is no setattr"),
    ("lk", (FD, 5, None), "is no flock"),
    ("inodelk", (b"domain", INODE, 6, None), "is no text"),
]


@pytest.mark.parametrize(("fop", "args", "message"), BROKEN_BY_CALLER)
def test_a_wrong_call_is_caught_before_it_goes_down(fop: str, args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(AssertionError, match=r"<testing/idle high>") as caught:
        call(AssertionError("the leaf was reached"), fop, *args)
    assert message in str(caught.value)


def test_a_caller_must_say_who_calls() -> None:
    with pytest.raises(AssertionError, match="no Frame but 'root'"):
        call(SPACE, "statfs", INODE, frame="root")


def test_changing_the_xdata_that_came_from_above_is_caught() -> None:
    def change(frame: Frame, target: Inode, xdata: Any) -> Iatt:
        xdata[b"mine"] = b"1"
        return iatt(GFID)

    with pytest.raises(AssertionError, match="xdata was changed below"):
        call(change, "stat", INODE, {b"user.x": None})


def test_an_errno_that_exists_passes_as_it_is() -> None:
    with pytest.raises(FopError) as caught:
        call(FopError(errno.ENODATA, "absent"), "getxattr", INODE, b"user.a")
    assert (caught.value.errno, caught.value.message) == (errno.ENODATA, "absent")


async def sleeping() -> None:
    await trio.sleep_forever()


async def turning() -> Iatt:
    try:
        await trio.sleep_forever()
    except BaseException:
        raise FopError(errno.EINTR) from None
    return iatt(GFID)


async def timing_out() -> Iatt:
    with trio.move_on_after(0):
        await trio.sleep_forever()
    raise FopError(errno.ETIMEDOUT)


def cancelled(answer: Callable[[], Awaitable[Any]]) -> bool:
    """Whether a call of `answer` through a strict edge, in a scope that is cancelled, ends by that cancellation."""

    async def main() -> bool:
        async with replying(lambda *args: answer()) as top:
            with trio.CancelScope() as scope:
                scope.cancel()
                await top.stat(Frame(), INODE)
            return scope.cancelled_caught

    return trio.run(main)


def test_cancellation_passes_through() -> None:
    assert cancelled(sleeping)


def test_a_cancellation_turned_into_an_error_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"turned a cancellation into FopError\(4"):
        cancelled(turning)


def test_a_time_limit_of_ones_own_is_no_violation() -> None:
    with pytest.raises(FopError) as caught:
        call(lambda *args: timing_out(), "stat", INODE)
    assert caught.value.errno == errno.ETIMEDOUT


def test_a_fop_that_the_leaf_lacks_is_checked_and_then_refused() -> None:
    with pytest.raises(FopError, match="testing/broken low has no setattr"):
        call(None, "setattr", INODE, SetAttr(mode=0o600))
