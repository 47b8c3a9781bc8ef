"""A volume while it is served: its bricks in this process, its client graph, a bridge for each place it is mounted at.

`start` takes everything it needs or nothing: what was begun is undone when a later step fails.  Only when `degraded` was
asked for it goes on without bricks that cannot be served; they count as down.  A brick's directory is locked (flock)
while it is served, so that no two processes write to one brick.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack

from fusemux.bricks import ramdisk
from fusemux.bricks.brick import Brick
from fusemux.bricks.prepare import prepare
from fusemux.fuse.bridge import Bridge, BridgeOptions
from fusemux.fuse.sharing import Company, LockingBridge, SharedBridge
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.graph import Graph, TopologyChanged
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.volfile import Section
from fusemux.serve.claims import claim
from fusemux.volume.definition import BrickSpec
from fusemux.volume.source import Source

__all__ = ["ServedVolume"]

log = logging.getLogger("fusemux.serve")


class ServedVolume:
    """One volume of this process, to be mounted at `places` places.

    `bricks`, `graph` and `bridges` are there between `start` and `stop`.
    """

    def __init__(
        self,
        process: Process,
        source: Source,
        *,
        options: BridgeOptions | None = None,
        degraded: bool = False,
        places: int = 1,
    ) -> None:
        self.process = process
        self.source = source
        self.options = options or BridgeOptions()
        self.degraded = degraded
        self.places = places
        self.bricks: list[Brick] = []  # those that were attached
        self.graph: Graph
        self.bridges: list[Bridge] = []
        self.serving = False
        self._kept = False  # what was provisioned is worth keeping
        self._held: dict[str, AsyncExitStack] = {}  # how to let go of each brick that is ours, by path
        self._undo = AsyncExitStack()

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def bridge(self) -> Bridge:
        """That of the first place."""
        return self.bridges[0]

    async def start(self) -> None:
        """Provision, attach, build and start.  Raises FusemuxError and then leaves nothing behind."""
        try:
            async with AsyncExitStack() as undo:
                undo.push_async_callback(self._let_go_of_all)
                there = [index for index, spec in enumerate(self.source.bricks) if await self._take_if_there(spec)]
                for index, graph in self._brick_graphs(self.source, there).items():
                    await self._attach_if_possible(self.source.bricks[index], graph)
                if not self.bricks:
                    raise FusemuxError(f"volume {self.name!r}: none of its bricks can be served")
                self.graph = self._built(self.source.client_graph())
                await self.graph.start()
                undo.push_async_callback(self.graph.stop)
                self.bridges = self._new_bridges()
                for bridge in self.bridges:
                    undo.callback(bridge.close)
                self._undo = undo.pop_all()
        except BaseException:
            self.bricks.clear()
            raise
        self.serving = self._kept = True
        log.info("volume %s is served: %d of %d bricks", self.name, len(self.bricks), len(self.source.bricks))

    async def stop(self) -> None:
        """Finish what is delayed, detach the bricks, remove throw-away ramdisks.  Again: nothing."""
        self.serving = False
        await self._undo.aclose()
        self.bricks.clear()

    @property
    def in_use(self) -> bool:
        """Whether somebody has a file or directory open."""
        counts = [bridge.statistics() for bridge in self.bridges]
        return any(count.open_files or count.open_directories for count in counts)

    def _new_bridges(self) -> list[Bridge]:
        if self.places > 1:
            company = Company()
            return [SharedBridge(self.graph, company, options=self.options) for _ in range(self.places)]
        return [(LockingBridge if self.options.locks else Bridge)(self.graph, options=self.options)]

    # -- bricks ----------------------------------------------------------------------------------------------

    def brick_at(self, path: str) -> Brick | None:
        """The brick at `path` if it is attached."""
        return next((brick for brick in self.bricks if brick.path == path), None)

    async def acquire(
        self, source: Source, index: int, first: Callable[[Brick], Awaitable[None]] | None = None
    ) -> Brick:
        """Take and attach brick `index` of `source` while serving; nobody sees it before `first(brick)` has prepared it.

        Raises FusemuxError, FopError.
        """
        spec = source.bricks[index]
        await self._take(spec)
        try:
            paths = {brick.path for brick in self.bricks} | {spec.path}
            there = [place for place, other in enumerate(source.bricks) if other.path in paths]
            return await self._attach(spec, self._brick_graphs(source, there)[index], first)
        except BaseException:
            await self.let_go(spec.path)
            raise

    async def let_go(self, path: str) -> None:
        """Detach the brick at `path` and leave it to others; what is not ours is no error."""
        stack = self._held.pop(path, None)
        if stack is not None:
            await stack.aclose()

    async def _let_go_of_all(self) -> None:
        for path in reversed(list(self._held)):
            await self.let_go(path)

    async def _take(self, spec: BrickSpec) -> None:
        """Make a brick ours: its ramdisk, its lock."""
        async with AsyncExitStack() as undo:
            self._provision(spec, undo)
            await claim(spec.path, self.name, undo)
            self._held[spec.path] = undo.pop_all()

    async def _take_if_there(self, spec: BrickSpec) -> bool:
        try:
            await self._take(spec)
        except FusemuxError as error:
            self._missing(error)
            return False
        return True

    async def _attach(
        self, spec: BrickSpec, graph: list[Section], first: Callable[[Brick], Awaitable[None]] | None = None
    ) -> Brick:
        brick = await Brick.attach(self.process, graph, source=f"brick {spec.path}", first=first)
        self._held[spec.path].push_async_callback(self._detach, brick)
        self.bricks.append(brick)
        return brick

    async def _attach_if_possible(self, spec: BrickSpec, graph: list[Section]) -> None:
        try:
            await self._attach(spec, graph)
        except FusemuxError as error:
            self._missing(error)
            await self.let_go(spec.path)

    def _missing(self, error: FusemuxError) -> None:
        """A brick cannot be served: go on without it if that was asked for."""
        if not self.degraded:
            raise error
        log.error("volume %s: %s; it goes on without this brick", self.name, error)

    def _provision(self, spec: BrickSpec, undo: AsyncExitStack) -> None:
        """Make the ramdisk of a brick, if it is to have one and has none yet."""
        if spec.ramdisk_bytes is None:
            return
        fresh = not ramdisk.exists(spec.path)
        if fresh:
            ramdisk.provision(spec.path, spec.ramdisk_bytes)
        elif self.source.throwaway:
            raise FusemuxError(
                f"the ramdisk {spec.path} was left by a server that died; clear what it left with --replace-stale"
            )
        if fresh:
            undo.callback(self._remove_ramdisk, spec.path)
            prepare(spec.path, self.source.volume_id)

    def _remove_ramdisk(self, path: str) -> None:
        """The ramdisks of a stored volume stay once they have been served, until the volume is deleted."""
        if self.source.throwaway or not self._kept:
            ramdisk.remove(path)

    def _brick_graphs(self, source: Source, indices: Iterable[int]) -> dict[int, list[Section]]:
        """The graphs of some bricks; those that lie on one file system share its space."""
        devices = {index: os.stat(source.bricks[index].path).st_dev for index in indices}
        count = Counter(devices.values())
        return {index: source.brick_graph(index, count[device]) for index, device in devices.items()}

    def _built(self, sections: list[Section]) -> Graph:
        graph = Graph(sections, self.process, source=f"volume {self.name!r}", lru_limit=self.options.lru_limit)
        for warning in graph.warnings:
            log.debug("%s", warning)
        return graph

    async def _detach(self, brick: Brick) -> None:
        self.bricks.remove(brick)
        leaks = {what: count for what, count in (await brick.detach()).items() if count}
        if leaks:
            log.warning("brick %s: still held when it was detached: %s", brick.path, leaks)

    def reconfigure(self, source: Source) -> None:
        """Take the options of `source` while running; all of them, or none.

        Raises TopologyChanged when more than options differ, OptionError when a value is refused.
        """
        index_of = {spec.path: index for index, spec in enumerate(source.bricks)}
        graphs = self._brick_graphs(source, [index_of[brick.path] for brick in self.bricks])
        before = self.graph.sections
        self.graph.reconfigure(source.client_graph())
        done: list[tuple[Brick, list[Section]]] = []
        try:
            for brick in self.bricks:
                sections = graphs[index_of[brick.path]]
                if brick.up:
                    brick.graph.reconfigure(sections)
                done.append((brick, brick.sections))
                brick.sections = sections  # one that is down starts with them
        except FusemuxError:
            for brick, sections in done:
                brick.sections = sections
                if brick.up:
                    brick.graph.reconfigure(sections)
            self.graph.reconfigure(before)
            raise
        self.source = source

    async def change_bricks(self, source: Source) -> None:
        """Become the volume of `source`, whose bricks are other ones; all of them that can be served are attached.

        Open files stay open.  Raises FusemuxError, and then nothing was changed.
        """
        sections = source.client_graph()
        try:
            self.graph.reconfigure(sections)
        except TopologyChanged:
            await self.graph.edit(sections, [fd for bridge in self.bridges for fd in bridge.open_fds()])
        self.source = source
