"""Faults on command: one engine, placeable on any edge of a graph.

A `Fault` selects fops (by name, path pattern, which one, how many, how often) and does something to them: an error, a delay, a
short, corrupt or torn transfer.  `place(edge, fault)` weaves it into the edge by linking it anew; `lift` takes it out. An edge without
faults is linked as if this module did not exist, so faults cost nothing while none is set.

Every fault counts what it fired, can be waited for, and says in the log that it was injected.  Random choices come
from a seed: a run replays.  Several faults on one edge act in the order they were placed.

The actions:
    error    answer `errno` and do not call the child ("full" is error with ENOSPC for what needs space)
    delay    wait `delay_s`, then call
    short    a read answers, a write stores and reports, only the first half
    corrupt  one bit in the middle of what is read, or written, is flipped
    torn     the first half is written, then EIO: what a power cut in the middle of a write leaves
    freeze   wait until the fault is lifted
    kill     the process dies, as by SIGKILL, before the child is called, or at a `crash_point` (crash.py)

Paths are those of the volume ("/dir/file"), matched as in fnmatch(3) without FNM_PATHNAME, or by the last name when the
pattern has no slash.  They are asked of the bricks (`glusterfs.ancestry.path`) only while a fault with a pattern is placed.
"""

from __future__ import annotations

import errno
import fnmatch
import logging
import math
import os
import random
import signal
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.fops import FOPS, Class, Fop, Kind, fops_named
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.linking import Edge, Method
from fusemux.graph.framework.options import nearest
from fusemux.graph.framework.types import Frame

__all__ = ["ACTIONS", "CRASH_POINTS", "NEEDS_SPACE", "Fault", "FaultWeaver", "die", "lift", "place"]

log = logging.getLogger("fusemux.fault")

ACTIONS = ("error", "delay", "short", "corrupt", "torn", "freeze", "kill")
CRASH_POINTS = ("pre-op-done", "op-done", "before-post-op")  # of cluster/replicate
NEEDS_SPACE = frozenset(
    {"create", "tmpfile", "mknod", "mkdir", "symlink", "link", "writev", "truncate", "fallocate", "setxattr"}
)
_TRANSFERS = frozenset({"readv", "writev"})
_PATHS_KEPT = 4096


@dataclass(eq=False)
class Fault:
    """What to do to which fops.  Raises FusemuxError for a combination that could never fire."""

    action: str
    fops: frozenset[str] = frozenset()  # empty: every fop the action can be done to
    path: str | None = None
    errno: int = errno.EIO
    delay_s: float = 0.0
    nth: int | None = None  # only the n-th that matches, counted from 1
    times: int | None = None  # at most so often
    rate: float = 1.0  # this share of what matches
    seed: int | None = None
    label: str = ""
    crash_point: str | None = None
    matched: int = 0
    fired: int = 0
    _random: random.Random = field(init=False, repr=False)
    thawed: trio.Event = field(init=False, repr=False, default_factory=trio.Event)  # set when it is lifted
    _changed: trio.Event = field(init=False, repr=False, default_factory=trio.Event)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            hint = nearest(self.action, ACTIONS)
            raise FusemuxError(f"no fault {self.action!r}{hint}; there are {', '.join(ACTIONS)}")
        self.fops = fops_named(self.fops)
        possible = _TRANSFERS if self.action in ("short", "corrupt") else frozenset({"writev"})
        if self.action in ("short", "corrupt", "torn"):
            self.fops = self.fops or possible
            if not self.fops <= possible:
                raise FusemuxError(f"fault {self.action!r} is for {', '.join(sorted(possible))} only")
        if self.crash_point is not None and (self.action != "kill" or self.crash_point not in CRASH_POINTS):
            hint = nearest(self.crash_point, CRASH_POINTS)
            raise FusemuxError(
                f"crash point {self.crash_point!r}{hint}: there are {', '.join(CRASH_POINTS)}, for action kill"
            )
        if not 0 < self.rate <= 1:
            raise FusemuxError(f"fault rate {self.rate:g}: expected a share above 0 and at most 1")
        self._random = random.Random(self.seed)

    @property
    def spent(self) -> bool:
        """Whether it will never fire again."""
        return (self.times is not None and self.fired >= self.times) or (
            self.nth is not None and self.matched >= self.nth
        )

    async def wait_fired(self, count: int = 1) -> None:
        """Until it has fired `count` times in all."""
        while self.fired < count:
            await self._changed.wait()

    def due(self) -> bool:
        """Count one match; whether the fault fires for it."""
        if self.spent:
            return False
        self.matched += 1
        if (self.nth is not None and self.matched != self.nth) or self._random.random() >= self.rate:
            return False
        self.fired += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        return True

    def __str__(self) -> str:
        what = errno.errorcode[self.errno] if self.action == "error" else self.action
        return self.label or what


def place(edge: Edge, fault: Fault) -> None:
    """Put `fault` on `edge`; it acts on the next fop."""
    weaver = edge.weaver
    if not isinstance(weaver, FaultWeaver):
        weaver = edge.weaver = FaultWeaver(edge)
    weaver.faults.append(fault)
    fault.thawed = trio.Event()
    edge.rebind()


def lift(edge: Edge, fault: Fault) -> None:
    """Take `fault` off `edge` again.  ValueError when it is not there."""
    weaver = edge.weaver
    if not isinstance(weaver, FaultWeaver):
        raise ValueError("no fault is placed here")
    weaver.faults.remove(fault)
    fault.thawed.set()
    if not weaver.faults:
        edge.weaver = None
    edge.rebind()


class FaultWeaver:
    """Wraps the methods of one edge that its faults may act on."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.faults: list[Fault] = []
        self.paths: OrderedDict[bytes, bytes] = OrderedDict()

    @property
    def suspends(self) -> bool:
        return any(fault.action in ("delay", "freeze") for fault in self.faults)

    def weave(self, fop: Fop, method: Method) -> Method:
        faults = [fault for fault in self.faults if not fault.fops or fop.name in fault.fops]
        if fop.name == "release" or not faults:
            return method

        async def faulty(*args: Any) -> Any:
            call: Method = method
            for fault in faults:
                if not fault.spent and await self.matches(fault, fop, args) and fault.due():
                    log.warning("injected %s into %s of %s (number %d)", fault, fop.name, self.edge.name, fault.fired)
                    call = _afflicted(fault, fop, call)
            if fop.name == "rename":
                self.paths.clear()
            return await call(*args)

        return faulty

    async def matches(self, fault: Fault, fop: Fop, args: Sequence[Any]) -> bool:
        if fault.path is None:
            return True
        for path in await self._paths_of(fop, args):
            subject = path if "/" in fault.path else path.rpartition("/")[2]
            if fnmatch.fnmatchcase(subject, fault.path):
                return True
        return False

    async def _paths_of(self, fop: Fop, args: Sequence[Any]) -> list[str]:
        """The paths a fop is about: parent and name for entry fops, those of the inode for others."""
        given = list(zip(fop.args, args[1:], strict=False))
        paths = []
        for (arg, value), (after, name) in zip(given, [*given[1:], (None, None)], strict=True):
            if after is not None and after.kind is Kind.NAME and name:
                parent = await self._path(args[0], value)
                paths.append(f"{parent.rstrip('/')}/{name.decode(errors='surrogateescape')}")
            elif arg.kind in (Kind.INODE, Kind.FD, Kind.TARGET) and fop.kind is not Class.ENTRY:
                paths.append(await self._path(args[0], getattr(value, "inode", value)))
        return paths

    async def _path(self, frame: Frame, inode: Inode) -> str:
        path = self.paths.get(inode.gfid)
        if path is None:
            try:
                answer = await self.edge.translator.graph.top.getxattr(frame, inode, b"glusterfs.ancestry.path")
                path = bytes(next(iter(answer.values()))).rstrip(b"\0")
            except FopError:
                path = b""
            self.paths[inode.gfid] = path
            if len(self.paths) > _PATHS_KEPT:
                self.paths.popitem(last=False)
        return path.decode(errors="surrogateescape")


def _afflicted(fault: Fault, fop: Fop, call: Method) -> Method:
    """`call` with what `fault` does to it."""

    async def error(*args: Any) -> Any:
        raise FopError(fault.errno, f"injected: {fault}")

    async def delay(*args: Any) -> Any:
        await trio.sleep(fault.delay_s)
        return await call(*args)

    async def freeze(*args: Any) -> Any:
        await fault.thawed.wait()
        return await call(*args)

    async def short(*args: Any) -> Any:
        if fop.name == "writev":
            return await call(*_with_data(args, args[2][: math.ceil(len(args[2]) / 2)]))
        data = await call(*args)
        return data[: len(data) // 2]

    async def corrupt(*args: Any) -> Any:
        if fop.name == "writev":
            return await call(*_with_data(args, _flipped(args[2])))
        return _flipped(await call(*args))

    async def torn(*args: Any) -> Any:
        await call(*_with_data(args, args[2][: len(args[2]) // 2]))
        raise FopError(errno.EIO, "injected: torn write")

    async def kill(*args: Any) -> Any:
        die()

    actions = {"error": error, "delay": delay, "short": short, "corrupt": corrupt, "torn": torn, "freeze": freeze,
               "kill": kill}  # fmt: skip
    return actions[fault.action]


def die() -> None:
    """What kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _with_data(args: Sequence[Any], data: Any) -> tuple[Any, ...]:
    return (*args[:2], data, *args[3:])


def _flipped(data: Any) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[len(changed) // 2] ^= 1
    return bytes(changed)


assert FOPS.keys() >= NEEDS_SPACE
