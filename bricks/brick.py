"""A brick in this process: attached, served, killed, started again, detached.

A brick is a unit of failure.  It has its own graph, from the names of its volfile down to storage/posix, and its own open
files.  `kill` does to it what SIGKILL does to a brick process: open files are lost, everybody is told, whatever is
called answers ENOTCONN; `start` brings it back.  `detach` ends with a count of what is left, which must be nothing.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from fusemux.bricks.debug.volatile import Volatile
from fusemux.bricks.features.index import Index
from fusemux.bricks.storage.posix import Posix
from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.fops import FOP_NAMES
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd
from fusemux.graph.framework.linking import Now
from fusemux.graph.framework.process import Past, Process
from fusemux.graph.framework.translator import Event, Translator
from fusemux.graph.framework.volfile import Section

__all__ = ["Brick"]

log = logging.getLogger("fusemux.bricks")


class Brick:
    """One brick served from this process, found there as `process.bricks[path]`."""

    def __init__(self, process: Process, sections: Sequence[Section], source: str) -> None:
        self.process = process
        self.sections = list(sections)
        self.source = source
        self.path = _directory(sections, source)
        self.up = False
        self.past = Past.NEW
        self.session = object()
        self.edge: Any = None  # to the top of the brick's graph, while it is up
        self.fd_slots = 0
        self._graph: Graph | None = None
        self._calls: _Calls | None = None
        self._power_lost = False
        self._listeners: list[Callable[[bool], None]] = []

    @classmethod
    async def attach(
        cls,
        process: Process,
        sections: Sequence[Section],
        *,
        source: str = "brick volfile",
        first: Callable[[Brick], Awaitable[None]] | None = None,
    ) -> Brick:
        """Build and start the brick of `sections` and serve it, after `first(brick)` has prepared it.  Raises FusemuxError."""
        brick = cls(process, sections, source)
        if brick.path in process.bricks:
            raise FusemuxError(f"brick {brick.path} is served by this process already")
        await brick._begin()
        try:
            if first is not None:
                await first(brick)
        except BaseException:
            await brick._stop(abort=True)
            raise
        process.attach_brick(brick)
        return brick

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            raise FusemuxError(f"brick {self.path} is down")
        return self._graph

    @property
    def posix(self) -> Posix:
        """Its storage/posix."""
        return next(t for t in self.graph.translators.values() if isinstance(t, Posix))

    # -- life ------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        graph = Graph(self.sections, self.process, source=self.source)
        for warning in graph.warnings:
            log.debug("%s", warning)
        graph.top.translator.parents.append(_Ear(self))
        await graph.start()
        self._graph = graph
        self._power_lost = False
        self.past = next((index.run.past for index in self._indices() if index.run is not None), Past.NEW)
        self.fd_slots = graph.itable.fd_slots
        self.session = object()
        self._calls = _Calls(graph, self.path) if graph.top.suspends else None
        self.edge = self._calls or graph.top
        self.up = True

    async def start(self) -> None:
        """Serve again after `kill` or a failure.  Raises FusemuxError."""
        if self.up:
            return
        await self._stop(abort=True)
        await self._begin()
        self._tell()

    async def kill(self) -> None:
        """Go down as if the brick's process had died; calls that wait answer ENOTCONN."""
        self._mark_down()
        indices = self._indices()
        await self._stop(abort=True)
        if self._power_lost:
            for index in indices:
                index.lose_power()

    def _indices(self) -> list[Index]:
        translators = self._graph.translators.values() if self._graph is not None else ()
        return [translator for translator in translators if isinstance(translator, Index)]

    def lose_power(self) -> None:
        """Go down as when the power fails; `kill` then ends it, and what was not synced is gone (debug/volatile).

        Several bricks can thus go down at the same moment.  Raises FusemuxError when the brick cannot lose anything.
        """
        volatile = [t for t in self.graph.translators.values() if isinstance(t, Volatile)]
        if not volatile:
            raise FusemuxError(
                f"brick {self.path} keeps what was not synced: volume option debug.volatile is not 'posix'"
            )
        for translator in volatile:
            translator.lose_power()
        self._power_lost = True
        self._mark_down()

    def fail(self, call: str, error: Exception) -> None:
        """An unexpected exception in `call`: go down, and say so once."""
        if self.up:
            log.error("brick %s: unexpected error in %s; the brick is down", self.path, call, exc_info=error)
            self._mark_down()

    async def detach(self) -> dict[str, int]:
        """Stop serving for good.  Returns what is still held, all zero if nothing leaks."""
        self._mark_down()
        store = None if self._graph is None else self.posix.store
        indices = self._indices()
        await self._stop(abort=False)
        for index in indices:
            await index.ended_well()
        self.process.detach_brick(self)
        self._listeners.clear()
        return {} if store is None else store.leaks()

    def _mark_down(self) -> None:
        if self.up:
            self.up = False
            self._tell()

    async def _stop(self, *, abort: bool) -> None:
        """Let the calls in flight end, or make them, then stop the graph."""
        graph, self._graph = self._graph, None
        calls, self._calls = self._calls, None
        self.edge = None
        if graph is None:
            return
        with trio.CancelScope(shield=True):
            if calls is not None:
                await calls.ended(abort=abort)
            await graph.stop()

    # -- who listens -----------------------------------------------------------------------------------------

    def watch(self, listener: Callable[[bool], None]) -> None:
        self._listeners.append(listener)

    def unwatch(self, listener: Callable[[bool], None]) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _tell(self) -> None:
        self.process.brick_changed(self.path)
        for listener in list(self._listeners):
            listener(self.up)

    def heard(self, event: Event, data: Any) -> None:
        """The brick's own graph has something to say: its file system failed, for example."""
        if event is Event.CHILD_DOWN and self.up:
            log.error("brick %s is down%s", self.path, f": {data}" if data else "")
            self._mark_down()

    def statedump(self) -> dict[str, Any]:
        if self._graph is None:
            return {"path": self.path, "up": False}
        return {"path": self.path, "up": self.up, **{t.name: t.statedump() for t in self._graph.translators.values()}}


class _Ear(Translator):
    """Stands above the brick's graph and hears what comes up."""

    type = ""
    children_min = 0

    def __init__(self, brick: Brick) -> None:
        super().__init__(f"{brick.path} (boundary)", {}, brick.process)
        self._brick = brick

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        self._brick.heard(event, data)


class _Calls:
    """The edge to a brick that may wait, with its calls counted, so that it can be stopped.

    A brick that never waits has no calls in flight when anything else runs, and needs none of this.
    """

    def __init__(self, graph: Graph, path: str) -> None:
        self.suspends = True
        self.flushes = graph.top.flushes
        self.translator = graph.top.translator
        self.now: dict[str, Now] = {}
        self._top = graph.top
        self._path = path
        self._scopes: set[trio.CancelScope] = set()
        self._idle = trio.Event()
        self._stopping = False
        for name in FOP_NAMES:
            setattr(self, name, self._counted(graph, name))

    @property
    def passes(self) -> bool:
        return self._top.passes

    def backing(self, fd: Fd) -> int | None:
        return self._top.backing(fd)

    @property
    def recalls(self) -> bool:
        return self._top.recalls

    def _counted(self, graph: Graph, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any) -> Any:
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    return await getattr(graph.top, name)(*args)
                finally:
                    self._scopes.discard(scope)
                    if self._stopping and not self._scopes:
                        self._idle.set()
            raise FopError(errno.ENOTCONN, f"brick {self._path} went down")

        return call

    async def ended(self, *, abort: bool) -> None:
        """Wait until no call is in flight; with `abort` end those that wait.  A system call is never abandoned."""
        self._stopping = True
        if abort:
            for scope in list(self._scopes):
                scope.cancel()
        if self._scopes:
            await self._idle.wait()


def _directory(sections: Sequence[Section], source: str) -> str:
    for section in sections:
        if section.type == Posix.type and "directory" in section.options:
            return section.options["directory"]
    raise FusemuxError(f"{source}: no storage/posix with option directory, so this is no brick's volfile")
