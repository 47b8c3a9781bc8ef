"""A brick in this process: attached, served, killed, started again, detached.

A brick is a unit of failure.  It has its own graph, from the names of its volfile down to storage/posix, and its own open
files.  `kill` does to it what SIGKILL does to a brick process: open files are lost, everybody is told, whatever is
called answers ENOTCONN; `start` brings it back.  `detach` ends with a count of what is left, which must be nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import trio

from fusemux.bricks.storage.posix import Posix
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
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
        self.session = object()
        self._graph: Graph | None = None
        self._listeners: list[Callable[[bool], None]] = []

    @classmethod
    async def attach(cls, process: Process, sections: Sequence[Section], *, source: str = "brick volfile") -> Brick:
        """Build and start the brick of `sections` and serve it.  Raises FusemuxError."""
        brick = cls(process, sections, source)
        if brick.path in process.bricks:
            raise FusemuxError(f"brick {brick.path} is served by this process already")
        await brick._begin()
        process.attach_brick(brick)
        return brick

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            raise FusemuxError(f"brick {self.path} is down")
        return self._graph

    @property
    def edge(self) -> Edge:
        """To the top of the brick's graph."""
        return self.graph.top

    @property
    def fd_slots(self) -> int:
        return self.graph.itable.fd_slots

    @property
    def store(self) -> Posix:
        """Its storage/posix."""
        return next(t for t in self.graph.translators.values() if isinstance(t, Posix))

    # -- life ------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        graph = Graph(self.sections, self.process, source=self.source)
        for warning in graph.warnings:
            log.debug("%s", warning)
        await graph.start()
        self._graph = graph
        self.session = object()
        self.up = True

    async def start(self) -> None:
        """Serve again after `kill` or a failure.  Raises FusemuxError."""
        if self.up:
            return
        await self._stop()
        await self._begin()
        self._tell()

    async def kill(self) -> None:
        """Go down as if the brick's process had died."""
        self._mark_down()
        await self._stop()

    def fail(self, call: str, error: Exception) -> None:
        """An unexpected exception in `call`: go down, and say so once."""
        if self.up:
            log.error("brick %s: unexpected error in %s; the brick is down", self.path, call, exc_info=error)
            self._mark_down()

    async def detach(self) -> dict[str, int]:
        """Stop serving for good.  Returns what is still held, all zero if nothing leaks."""
        self._mark_down()
        store = self.store.store if self._graph is not None else None
        await self._stop()
        self.process.detach_brick(self)
        self._listeners.clear()
        return {} if store is None else store.leaks()

    def _mark_down(self) -> None:
        if self.up:
            self.up = False
            self._tell()

    async def _stop(self) -> None:
        """Wait for the calls in flight, then stop the graph."""
        graph, self._graph = self._graph, None
        if graph is not None:
            with trio.CancelScope(shield=True):
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

    def statedump(self) -> dict[str, Any]:
        if self._graph is None:
            return {"path": self.path, "up": False}
        return {"path": self.path, "up": self.up, **{t.name: t.statedump() for t in self._graph.translators.values()}}


def _directory(sections: Sequence[Section], source: str) -> str:
    for section in sections:
        if section.type == Posix.type and "directory" in section.options:
            return section.options["directory"]
    raise FusemuxError(f"{source}: no storage/posix with option directory, so this is no brick's volfile")
