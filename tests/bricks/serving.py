"""One brick and the client's leaf above it, joined as in a real volume but for the mount.

    async def scenario(volume: Volume) -> None: ...
    run(brick, scenario)

`Volume` wraps the fops that nearly every test needs; everything else is called on `volume.top`.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from fusemux.bricks.brick import Brick
from fusemux.bricks.prepare import prepare
from fusemux.bricks.storage.posix import Store, layout
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import DirEntry, Frame, Iatt, Xdata
from fusemux.graph.framework.volfile import Section

VOLUME_ID = uuid.UUID("cbd785b9-f64f-4717-8640-e4a38ebb072a")
START_NS = 1_700_000_000_000_000_000
STEP_NS = 1_000_000_007
_SEEDS = itertools.count()  # the same gfids in each run of the tests, others in each run of a brick


@dataclass
class Place:
    """Where a brick lies and how it is served."""

    path: Path
    options: dict[str, str] = field(default_factory=dict)
    mapped: bool = False

    def prepare(self) -> Place:
        if self.mapped:
            self.path.mkdir(exist_ok=True)
            layout.mark(str(self.path), VOLUME_ID, mapped=True)
        prepare(str(self.path), str(VOLUME_ID))
        return self

    def sections(self) -> list[Section]:
        options = {"directory": str(self.path), "volume-id": str(VOLUME_ID), **self.options}
        return [
            Section("v-posix", "storage/posix", options),
            Section(str(self.path), "debug/io-stats", {}, ["v-posix"]),
            Section("v-server", "protocol/server", {}, [str(self.path)]),
        ]

    def xattr(self, name: bytes) -> bytes:
        """The name under which this brick keeps `trusted.*`."""
        return b"user.fusemux." + name if self.mapped else name

    def stored(self, path: str | bytes, name: bytes) -> bytes | None:
        """What lies on the disk below the brick."""
        where = os.fsencode(self.path) + b"/" + os.fsencode(path)
        try:
            return os.getxattr(where, self.xattr(name), follow_symlinks=False)
        except OSError:
            return None


class Volume:
    """A client graph with one brick."""

    def __init__(self, place: Place, process: Process, brick: Brick, graph: Graph) -> None:
        self.place = place
        self.process = process
        self.brick = brick
        self.graph = graph
        self.now = START_NS

    @property
    def top(self) -> Edge:
        return self.graph.top

    @property
    def root(self) -> Inode:
        return self.graph.itable.root

    @property
    def store(self) -> Store:
        store = self.brick.posix.store
        assert store is not None
        return store

    def frame(
        self, uid: int | None = None, gid: int | None = None, umask: int = 0, pid: int = 1, *, stamped: bool = True
    ) -> Frame:
        """A call by `uid`, a second and a bit after the one before."""
        frame = Frame(os.geteuid() if uid is None else uid, os.getegid() if gid is None else gid, pid, umask)
        if stamped:
            self.now += STEP_NS
            frame.time_ns = self.now
        return frame

    def fd(self, inode: Inode, flags: int = os.O_RDWR) -> Fd:
        return self.graph.itable.fd(inode, flags)

    async def create(
        self,
        name: bytes,
        parent: Inode | None = None,
        mode: int = 0o644,
        frame: Frame | None = None,
        xdata: Xdata = None,
    ) -> tuple[Inode, Fd, Iatt]:
        gfid = self.process.new_gfid()
        inode = self.graph.itable.link(gfid, 0o100000)
        fd = self.fd(inode)
        iatt = await self.top.create(frame or self.frame(), parent or self.root, name, os.O_RDWR, mode, gfid, fd, xdata)
        return inode, fd, iatt

    async def file(self, name: bytes, parent: Inode | None = None, data: bytes = b"", mode: int = 0o644) -> Inode:
        """A closed file that holds `data`."""
        inode, fd, _ = await self.create(name, parent, mode)
        if data:
            await self.top.writev(self.frame(), fd, data, 0, None)
        await self.top.release(self.frame(), fd, None)
        return inode

    async def mkdir(
        self,
        name: bytes,
        parent: Inode | None = None,
        mode: int = 0o755,
        frame: Frame | None = None,
        xdata: Xdata = None,
    ) -> Inode:
        gfid = self.process.new_gfid()
        await self.top.mkdir(frame or self.frame(), parent or self.root, name, mode, gfid, xdata)
        return self.graph.itable.link(gfid, 0o040000)

    async def symlink(self, name: bytes, text: bytes, parent: Inode | None = None) -> Inode:
        gfid = self.process.new_gfid()
        await self.top.symlink(self.frame(), parent or self.root, name, text, gfid, None)
        return self.graph.itable.link(gfid, 0o120000)

    async def mknod(self, name: bytes, mode: int, rdev: int = 0, parent: Inode | None = None) -> Inode:
        gfid = self.process.new_gfid()
        await self.top.mknod(self.frame(), parent or self.root, name, mode, rdev, gfid, None)
        return self.graph.itable.link(gfid, mode & 0o170000)

    async def lookup(self, name: bytes, parent: Inode | None = None, xdata: Xdata = None) -> Iatt:
        iatt: Iatt = await self.top.lookup(self.frame(), parent or self.root, name, xdata)
        return iatt

    async def open(self, inode: Inode, flags: int = os.O_RDWR) -> Fd:
        fd = self.fd(inode, flags)
        await self.top.open(self.frame(), inode, flags, fd, None)
        return fd

    async def read(self, inode: Inode) -> bytes:
        fd = await self.open(inode, os.O_RDONLY)
        try:
            return bytes(await self.top.readv(self.frame(stamped=False), fd, 1 << 20, 0, None))
        finally:
            await self.top.release(self.frame(), fd, None)

    async def unlink(self, name: bytes, inode: Inode, parent: Inode | None = None) -> None:
        await self.top.unlink(self.frame(), parent or self.root, name, inode, None)

    async def rename(
        self,
        name: bytes,
        newname: bytes,
        inode: Inode,
        parent: Inode | None = None,
        newparent: Inode | None = None,
        flags: int = 0,
    ) -> Iatt:
        old, new = parent or self.root, newparent or parent or self.root
        iatt: Iatt = await self.top.rename(self.frame(), old, name, new, newname, inode, None, flags, None)
        return iatt

    async def list(self, inode: Inode | None = None, *, plus: bool = False, batch: int = 100) -> list[DirEntry]:
        inode = inode or self.root
        fd = self.fd(inode, os.O_RDONLY)
        await self.top.opendir(self.frame(), inode, fd, None)
        entries: list[DirEntry] = []
        offset = 0
        while part := await self.top.readdir(self.frame(stamped=False), fd, batch, offset, plus, None):
            entries += part
            offset = part[-1].offset
        await self.top.release(self.frame(), fd, None)
        return entries

    async def list_with(self, asked: Xdata, inode: Inode | None = None) -> dict[bytes, Iatt]:
        """One batch of `readdir` with `plus` that asks for xattrs."""
        inode = inode or self.root
        fd = self.fd(inode, os.O_RDONLY)
        await self.top.opendir(self.frame(), inode, fd, None)
        entries = await self.top.readdir(self.frame(stamped=False), fd, 100, 0, True, asked)
        await self.top.release(self.frame(), fd, None)
        return {entry.name: entry.iatt for entry in entries if entry.iatt is not None}

    async def names(self, inode: Inode | None = None) -> list[bytes]:
        return sorted(entry.name for entry in await self.list(inode))


def client_section(path: Path, index: int = 0) -> Section:
    return Section(f"v-client-{index}", "protocol/client", {"remote-host": "localhost", "remote-subvolume": str(path)})


def run(place: Place, scenario: Callable[[Volume], Awaitable[None]], *, clock: trio.abc.Clock | None = None) -> None:
    """Serve the brick, run `scenario`, and check that nothing stays held."""

    async def main() -> None:
        async with Process(strict=True, seed=next(_SEEDS)) as process:
            brick = await Brick.attach(process, place.sections())
            graph = Graph([client_section(place.path)], process)
            await graph.start()
            await scenario(Volume(place, process, brick, graph))
            await graph.stop()
            held = await brick.detach()
            assert not any(held.values()), held

    trio.run(main, clock=clock)


class failing:
    """`with failing(errno.ENOENT):` the block must raise a FopError with that number."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if error is None:
            pytest.fail(f"expected {' or '.join(map(os.strerror, self.numbers))}, but it worked")
        if not isinstance(error, FopError):
            return False
        assert error.errno in self.numbers, f"expected {self.numbers}, got {error!r}"
        return True
