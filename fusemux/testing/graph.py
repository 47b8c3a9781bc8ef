"""A volume without a kernel: its graph in the test's process, driven by fops.  What `backend="graph"` gives.

    def test_a_write_survives_a_dead_brick(fusemux_volume):
        async def scenario(volume):
            async with volume.brick(0).down():
                await volume.write("/file", b"data")
            await volume.wait_healed()
            assert volume.bricks_identical()

        fusemux_volume.run(scenario)

An async test (pytest-trio) uses `async with fusemux_volume.serving():` instead.  The names are those of the mounted volume, with
`await` where something may wait.  There is no process to crash.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar

import trio

from fusemux.bricks.storage.posix.late import recorder_of
from fusemux.graph.debug.fault import Fault
from fusemux.graph.debug.trace import Trace
from fusemux.graph.framework import volfile
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Frame, Iatt
from fusemux.serve.bricks import BrickChanges
from fusemux.serve.faults import Faults
from fusemux.serve.healing import Healing
from fusemux.serve.volume import ServedVolume
from fusemux.testing.brick import beside
from fusemux.testing.copies import Comparison, compare
from fusemux.testing.faults import Actions, NotFired, described
from fusemux.testing.place import Place, sets_of
from fusemux.testing.report import POLL_S, NotHealed, pending, report
from fusemux.testing.wish import Wish

__all__ = ["GraphBrick", "GraphFault", "GraphFile", "GraphVolume"]

Result = TypeVar("Result")


class GraphVolume:
    """A volume that serves while `run` or `serving` lasts, also several times in a row."""

    def __init__(self, wish: Wish, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self._place = Place(wish)
        self.name: str = self._place.source.name
        self.frame = Frame()
        self.faults = GraphFaults(self, "mount")
        self.bricks: Sequence[GraphBrick] = [
            GraphBrick(self, index, Path(spec.path), spec.ramdisk_bytes)
            for index, spec in enumerate(self._place.source.bricks)
        ]
        self.process: Process
        self.served: ServedVolume
        self.placed: list[GraphFault] = []
        self._calls: list[str] = []
        self._orders: dict[str, Callable[..., Awaitable[Any]]] = {}
        self._find: Callable[[int], Fault]

    def run(self, scenario: Callable[[GraphVolume], Coroutine[Any, Any, Result]]) -> Result:
        """Serve the volume while `scenario(volume)` runs."""

        async def main() -> Result:
            async with self.serving():
                return await scenario(self)

        return trio.run(main)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[GraphVolume]:
        """The volume is served inside the block."""
        async with Process(seed=self.random.getrandbits(32)) as process:
            self.process = process
            self.served = ServedVolume(process, self._place.current())
            await self.served.start()
            here = SimpleNamespace(volume=self.served, plan=SimpleNamespace(path=""))
            server: Any = SimpleNamespace(served=[here], binding=SimpleNamespace(bypassing=lambda path: set()))
            faults = Faults(server)
            changes = BrickChanges(lambda _: self.served, store=self._place.store)
            self._orders = {**faults.handlers(), **Healing(server).handlers(), **changes.handlers()}
            self._find = lambda number: faults.placed[number].fault
            try:
                yield self
            finally:
                with trio.CancelScope(shield=True):
                    self._calls = self.calls()
                    await faults.clear(self.name)
                    await self.served.stop()

    async def order(self, op: str, **arguments: Any) -> Any:
        """What the control socket of a mounted volume answers to."""
        return await self._orders[op](volume=self.name, **arguments)

    def known(self, value: dict[str, Any]) -> GraphFault:
        """A fault that was just set."""
        self.placed.append(GraphFault(self, value, self._find(value["id"])))
        return self.placed[-1]

    def brick(self, index: int) -> GraphBrick:
        return self.bricks[index]

    @property
    def top(self) -> Edge:
        """Where fops enter: `await volume.top.stat(volume.frame, inode)`."""
        return self.served.graph.top

    # -- files, by path --------------------------------------------------------------------------------------

    async def lookup(self, path: str) -> Inode:
        """Raises FopError (ENOENT), as all of these."""
        table = self.served.graph.itable
        inode = table.root
        await self.top.lookup(self.frame, inode, b"", None)
        for name in filter(None, os.fsencode(path).split(b"/")):
            iatt = await self.top.lookup(self.frame, inode, name, None)
            inode = table.link(iatt.gfid, iatt.type)
        return inode

    async def stat(self, path: str) -> Iatt:
        iatt: Iatt = await self.top.stat(self.frame, await self.lookup(path), None)
        return iatt

    async def _parent(self, path: str) -> tuple[Inode, bytes]:
        above, _, name = path.strip("/").rpartition("/")
        return await self.lookup(above), os.fsencode(name)

    @asynccontextmanager
    async def open(self, path: str, flags: int = os.O_RDWR) -> AsyncIterator[GraphFile]:
        """An open file inside the block; with O_CREAT it is made if it is not there."""
        file = GraphFile(self, await self._opened(path, flags))
        try:
            yield file
        finally:
            await self.top.flush(self.frame, file.fd, None)
            await self.top.release(self.frame, file.fd, None)
            self.served.graph.itable.closed(file.fd)

    async def _opened(self, path: str, flags: int) -> Fd:
        table = self.served.graph.itable
        try:
            inode = await self.lookup(path)
        except FopError as error:
            if error.errno != errno.ENOENT or not flags & os.O_CREAT:
                raise
            parent, name = await self._parent(path)
            gfid = self.process.new_gfid()
            fd = table.fd(table.link(gfid, stat.S_IFREG), flags)
            await self.top.create(self.frame, parent, name, flags, 0o644, gfid, fd, None)
            return fd
        fd = table.fd(inode, flags)
        await self.top.open(self.frame, inode, flags, fd, None)
        return fd

    async def write(self, path: str, data: bytes, *, sync: bool = False) -> None:
        """The whole content of a file, which is made if it is not there."""
        async with self.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as file:
            await file.write(data)
            if sync:
                await file.sync()

    async def read(self, path: str) -> bytes:
        async with self.open(path, os.O_RDONLY) as file:
            return await file.read((await self.stat(path)).size)

    async def mkdir(self, path: str) -> None:
        parent, name = await self._parent(path)
        await self.top.mkdir(self.frame, parent, name, 0o755, self.process.new_gfid(), None)

    async def unlink(self, path: str) -> None:
        parent, name = await self._parent(path)
        await self.top.unlink(self.frame, parent, name, await self.lookup(path), None)

    async def rename(self, old: str, new: str) -> None:
        inode = await self.lookup(old)
        try:
            replaced = await self.lookup(new)
        except FopError:
            replaced = None
        await self.top.rename(self.frame, *await self._parent(old), *await self._parent(new), inode, replaced, 0, None)

    # -- as of a mounted volume ------------------------------------------------------------------------------

    async def power_cut(self) -> None:
        """All bricks lose at the same moment what was not synced, and come back.  The graph stays: it is no crash."""
        await self.order("brick-power-cut")
        for brick in self.bricks:
            await brick.start()

    async def heal(self, *, full: bool = False) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self.order("heal", full=full)
        return rows

    async def heal_info(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self.order("heal-info")
        return rows

    async def wait_healed(self, *, within_s: float = 5) -> None:
        """Raises NotHealed."""
        with trio.move_on_after(within_s):
            while True:
                await self.heal()
                rows = await self.heal_info()
                if all(row["entries"] == [] for row in rows):
                    return
                await trio.sleep(POLL_S)
        raise NotHealed(f"not healed within {within_s:g} s:\n{pending(await self.heal_info())}")

    def bricks_identical(self) -> Comparison:
        recorder_of(self.process).record()
        return compare(sets_of(self._place.current()))

    def calls(self, count: int = 50) -> list[str]:
        """The last calls; after the scenario, those of its end."""
        if not hasattr(self, "served") or not self.served.serving:
            return self._calls[-count:]
        traces = [t for t in self.served.graph.translators.values() if isinstance(t, Trace)]
        return [line for trace in traces for line in list(trace.history)[-count:]]

    @property
    def graph(self) -> str:
        """The client's graph, as a volfile."""
        return volfile.write(self._place.current().client_graph())

    def report(self) -> str:
        """What to know when a test has failed."""
        return report(
            f"volume {self.name} without a mount, seed {self.seed}",
            [str(f) for f in self.placed],
            self.calls(),
            "",
            self.graph,
        )

    def close(self) -> None:
        """Remove everything."""
        self._place.remove()


class GraphFile:
    """An open file."""

    def __init__(self, volume: GraphVolume, fd: Fd) -> None:
        self.volume = volume
        self.fd = fd

    async def write(self, data: bytes, offset: int = 0) -> int:
        done: int = await self.volume.top.writev(self.volume.frame, self.fd, data, offset, None)
        return done

    async def read(self, size: int, offset: int = 0) -> bytes:
        return bytes(await self.volume.top.readv(self.volume.frame, self.fd, size, offset, None))

    async def sync(self) -> None:
        await self.volume.top.fsync(self.volume.frame, self.fd, False, None)


class GraphFault:
    """One fault that is set."""

    def __init__(self, volume: GraphVolume, value: dict[str, Any], fault: Fault) -> None:
        self._volume = volume
        self._fault = fault
        self.value = value

    @property
    def fired(self) -> int:
        return self._fault.fired

    @property
    def matched(self) -> int:
        return self._fault.matched

    async def wait_fired(self, count: int = 1, *, within_s: float = 5) -> int:
        """Raises NotFired."""
        with trio.move_on_after(within_s):
            await self._fault.wait_fired(count)
            return self.fired
        raise NotFired(f"not fired {count} times within {within_s:g} s: {self}")

    async def clear(self) -> None:
        await self._volume.order("fault-clear", number=self.value["id"])

    def __str__(self) -> str:
        return described({**self.value, "matched": self.matched, "fired": self.fired})


class GraphFaults(Actions[Awaitable[GraphFault]]):
    """`fault = await volume.faults.error(fop="writev", nth=3)`"""

    def __init__(self, volume: GraphVolume, at: str) -> None:
        self._volume = volume
        self._at = at

    async def _add(self, words: dict[str, Any]) -> GraphFault:
        if "rate" in words:
            words.setdefault("seed", self._volume.random.getrandbits(32))
        return self._volume.known(await self._volume.order("fault-add", **{"at": self._at, **words}))


class GraphBrick:
    """Brick `index`, in volume order; `path` is its directory."""

    def __init__(self, volume: GraphVolume, index: int, path: Path, ramdisk_bytes: int | None = None) -> None:
        self._volume = volume
        self._ramdisk_bytes = ramdisk_bytes
        self.index = index
        self.path = path
        self.faults = GraphFaults(volume, str(index))

    async def _order(self, what: str, **more: Any) -> Any:
        return await self._volume.order(f"brick-{what}", brick=str(self.index), **more)

    async def kill(self) -> None:
        await self._order("kill")

    async def start(self) -> None:
        await self._order("start")

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """The brick is down inside the block."""
        await self.kill()
        try:
            yield
        finally:
            await self.start()

    async def freeze(self) -> GraphFault:
        return self._volume.known(await self._order("freeze"))

    async def fill(self) -> GraphFault:
        return self._volume.known(await self._order("fill"))

    async def tamper(self, path: str) -> int:
        return int(await self._order("corrupt", path=path))

    async def power_cut(self) -> None:
        await self._order("power-cut")

    async def replace(self) -> None:
        """Put an empty brick in its place; `path` is then the new one's."""
        new = [beside(self.path), self._ramdisk_bytes]
        paths = await self._volume.order("brick-replace", old=str(self.index), new=new)
        self.path = Path(paths[self.index])

    def read_bytes(self, path: str) -> bytes:
        """What this copy holds."""
        return (self.path / path.lstrip("/")).read_bytes()
