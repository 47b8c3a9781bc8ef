"""A process that mounts file systems in memory through pyfuse3, for the tests of the binding.

    python -m tests.fusemux.fuse.server [--lru N] [--writeback] [--bad-place] DIR ...

It writes `ready`, then answers each line of its input (a command and its arguments) with a line of JSON, and at the end says
what the files of each volume hold.  Some names make trouble: looking up `bug` raises; reading a file that is named `slow...` waits until `go` is created.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import trio

from fusemux.fuse.binding import MountOptions, MountPoint
from fusemux.fuse.bridge import Bridge, BridgeOptions
from fusemux.fuse.pyfuse3_binding import Pyfuse3Binding
from fusemux.graph.framework import registry
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Event
from fusemux.graph.framework.types import Frame, Iatt
from fusemux.graph.framework.volfile import Section
from tests.fusemux.fuse.memory import Memory


class Troubled(Memory):
    type = "test/troubled"

    def __init__(self, name: str, given: Mapping[str, str], process: Process) -> None:
        super().__init__(name, given, process)
        self.go = trio.Event()

    @property
    def suspends(self) -> bool:
        return True

    async def lookup(self, frame: Frame, inode: Inode, name: bytes, xdata: Any = None) -> Iatt:
        if name == b"bug":
            raise RuntimeError("a bug")
        return await super().lookup(frame, inode, name, xdata)

    async def create(self, frame: Frame, parent: Inode, name: bytes, *args: Any) -> Iatt:
        if name == b"go":
            self.go.set()
        return await super().create(frame, parent, name, *args)

    async def readv(self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Any = None) -> bytes:
        if any(
            name.startswith(b"slow") and thing.gfid == fd.inode.gfid for name, (thing, _) in self.root.entries.items()
        ):
            await self.go.wait()
        return await super().readv(frame, fd, size, offset, xdata)


registry._cache[Troubled.type] = Troubled


class Served:
    def __init__(self, options: argparse.Namespace, binding: Pyfuse3Binding) -> None:
        self.options = options
        self.binding = binding
        self.bridges: dict[str, Bridge] = {}

    async def mount(self, process: Process) -> None:
        mount_options = MountOptions(
            writeback_cache=self.options.writeback,
            read_only=self.options.read_only,
            allow_other=os.geteuid() == 0,
        )
        points = []
        for number, path in enumerate(self.options.paths):
            graph = Graph([Section(f"memory{number}", Troubled.type)], process)
            await graph.start()
            wishes = BridgeOptions(lru_limit=self.options.lru, writeback_cache=self.options.writeback)
            bridge = self.bridges[path] = Bridge(graph, options=wishes)
            points.append(MountPoint(bridge, path, f"source {number}", mount_options))
        await self.binding.mount(points)

    async def answer(self, words: list[str]) -> Any:
        match words:
            case ["statistics", path]:
                return self.bridges[path].statistics()._asdict()
            case ["calls", path, fop]:
                return self._memory(path).calls[fop]
            case ["overwrite", path, name, text]:  # as another client would
                memory = self._memory(path)
                thing = memory.root.entries[os.fsencode(name)][0]
                thing.data[:] = text.encode()
                thing.changed()
                inode = self.bridges[path].itable.find(thing.gfid)
                memory.notify(Event.UPCALL, data=inode)
                return None
            case ["unmount", path]:
                return await self.binding.unmount(path)
            case ["detach", path]:
                return await self.binding.unmount(path, lazy=True)
            case ["stop"]:
                return await self.binding.stop()
        raise FusemuxError(f"no command {words}")

    def contents(self, path: str) -> dict[str, str]:
        entries = self._memory(path).root.entries
        return {name.decode(): thing.data[:100].decode(errors="replace") for name, (thing, _) in entries.items()}

    def _memory(self, path: str) -> Memory:
        memory = self.bridges[path].top.translator
        assert isinstance(memory, Memory)
        return memory

    async def answer_all(self) -> None:
        async with trio.lowlevel.FdStream(os.dup(0)) as stream:
            pending = b""
            async for data in stream:
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    try:
                        print(json.dumps({"ok": await self.answer(json.loads(line))}), flush=True)
                    except FusemuxError as error:
                        print(json.dumps({"error": str(error)}), flush=True)


async def stop_on_sigterm(binding: Pyfuse3Binding, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as received:
        task_status.started()
        async for _ in received:
            await binding.stop()


async def main(options: argparse.Namespace) -> None:
    binding = Pyfuse3Binding()
    served = Served(options, binding)
    async with Process() as process, trio.open_nursery() as nursery:
        await nursery.start(stop_on_sigterm, binding)
        try:
            await served.mount(process)
        except FusemuxError as error:
            print(f"error: {error}", flush=True)
            nursery.cancel_scope.cancel()
            return
        print("ready", flush=True)
        nursery.start_soon(served.answer_all)
        await binding.serve()
        print(json.dumps({path: served.contents(path) for path in served.bridges}), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    parser = argparse.ArgumentParser()
    parser.add_argument("--lru", type=int, default=65536)
    parser.add_argument("--writeback", action="store_true")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("paths", nargs="+")
    trio.run(main, parser.parse_args())
