"""A volume while it is served: its bricks in this process, its client graph, its bridge.

`start` takes everything it needs or nothing: what was begun is undone when a later step fails.  A brick's directory is
locked (flock) while it is served, so that no two processes write to one brick.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections import Counter
from contextlib import AsyncExitStack

from fusemux.bricks import ramdisk
from fusemux.bricks.brick import Brick
from fusemux.bricks.prepare import prepare
from fusemux.fuse.bridge import Bridge, BridgeOptions
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.volfile import Section
from fusemux.volume.definition import BrickSpec
from fusemux.volume.source import Source

__all__ = ["ServedVolume"]

log = logging.getLogger("fusemux.serve")


class ServedVolume:
    """One volume of this process.  `bricks`, `graph` and `bridge` are there between `start` and `stop`."""

    def __init__(self, process: Process, source: Source, *, options: BridgeOptions | None = None) -> None:
        self.process = process
        self.source = source
        self.options = options or BridgeOptions()
        self.bricks: list[Brick] = []
        self.graph: Graph
        self.bridge: Bridge
        self.serving = False
        self._kept = False  # what was provisioned is worth keeping
        self._undo = AsyncExitStack()

    @property
    def name(self) -> str:
        return self.source.name

    async def start(self) -> None:
        """Provision, attach, build and start.  Raises FusemuxError and then leaves nothing behind."""
        try:
            async with AsyncExitStack() as undo:
                for spec in self.source.bricks:
                    self._provision(spec, undo)
                    _lock(spec.path, undo)
                shared = self._shared()
                for index, spec in enumerate(self.source.bricks):
                    graph = self.source.brick_graph(index, shared[index])
                    brick = await Brick.attach(self.process, graph, source=f"brick {spec.path}")
                    undo.push_async_callback(self._detach, brick)
                    self.bricks.append(brick)
                self.graph = self._built(self.source.client_graph())
                await self.graph.start()
                undo.push_async_callback(self.graph.stop)
                self.bridge = Bridge(self.graph, options=self.options)
                undo.callback(self.bridge.close)
                self._undo = undo.pop_all()
        except BaseException:
            self.bricks.clear()
            raise
        self.serving = self._kept = True
        log.info("volume %s is served: %d bricks", self.name, len(self.bricks))

    async def stop(self) -> None:
        """Finish what is delayed, detach the bricks, remove throw-away ramdisks.  Again: nothing."""
        self.serving = False
        await self._undo.aclose()
        self.bricks.clear()

    @property
    def in_use(self) -> bool:
        """Whether somebody has a file or directory open."""
        counts = self.bridge.statistics()
        return bool(counts.open_files or counts.open_directories)

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

    def _shared(self) -> list[int]:
        """For each brick, how many bricks of this volume lie on its file system."""
        devices = [os.stat(spec.path).st_dev for spec in self.source.bricks]
        count = Counter(devices)
        return [count[device] for device in devices]

    def _built(self, sections: list[Section]) -> Graph:
        graph = Graph(sections, self.process, source=f"volume {self.name!r}", lru_limit=self.options.lru_limit)
        for warning in graph.warnings:
            log.debug("%s", warning)
        return graph

    async def _detach(self, brick: Brick) -> None:
        leaks = {what: count for what, count in (await brick.detach()).items() if count}
        if leaks:
            log.warning("brick %s: still held when it was detached: %s", brick.path, leaks)

    def reconfigure(self, source: Source) -> None:
        """Take the options of `source` while running; all of them, or none.

        Raises TopologyChanged when more than options differ, OptionError when a value is refused.
        """
        shared = self._shared()
        before = self.graph.sections
        self.graph.reconfigure(source.client_graph())
        changed: list[tuple[Brick, list[Section]]] = []
        try:
            for index, brick in enumerate(self.bricks):
                if brick.up:
                    changed.append((brick, brick.graph.sections))
                    brick.graph.reconfigure(source.brick_graph(index, shared[index]))
        except FusemuxError:
            for brick, sections in reversed(changed):
                brick.graph.reconfigure(sections)
            self.graph.reconfigure(before)
            raise
        self.source = source


def _lock(path: str, undo: AsyncExitStack) -> None:
    """Keep other processes off the brick at `path`.  Raises FusemuxError when one has it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FusemuxError(f"brick {path}: {error.strerror}; is its file system mounted?") from None
    undo.callback(os.close, fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FusemuxError(
            f"brick {path} is already served by another process (`fusemux status` shows which); unmount that volume first"
        ) from None
