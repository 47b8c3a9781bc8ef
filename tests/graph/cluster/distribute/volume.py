"""A distributed volume on real bricks in this process, and the little client that these tests drive it with."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext

import pytest

from fusemux.bricks import prepare, ramdisk
from fusemux.bricks.brick import Brick
from fusemux.graph.cluster.distribute import Distribute
from fusemux.graph.cluster.distribute.layout import Layout, decode
from fusemux.graph.framework import volfile
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.graph import Graph, build
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import DirEntry, Frame, Iatt
from tests.graph.cluster.refusal import refused

__all__ = ["Volume", "brick_directories", "refused", "served"]

if os.geteuid() != 0:
    # These tests look at the bricks as GlusterFS would; what ordinary users' bricks do differently is tested with storage/posix.
    pytest.skip("trusted.* attributes and owners need root", allow_module_level=True)

LAYOUT, LINKTO, MDS = "trusted.glusterfs.dht", "trusted.glusterfs.dht.linkto", "trusted.glusterfs.dht.mds"
TEMPORARY = "/dev/shm" if os.path.isdir("/dev/shm") else None


@contextmanager
def brick_directories(count: int, size_bytes: int | Sequence[int] = 0) -> Iterator[list[str]]:
    """Empty bricks' directories in memory; with a size each is a file system of its own."""
    base = tempfile.mkdtemp(dir=TEMPORARY)
    paths = [f"{base}/b{place}" for place in range(count)]
    sizes = list(size_bytes) if isinstance(size_bytes, Sequence) else [size_bytes] * count
    made: list[str] = []
    try:
        for path, size in zip(paths, sizes, strict=True):
            if size:
                ramdisk.provision(path, size)
                made.append(path)
            else:
                os.mkdir(path)
        yield paths
    finally:
        for path in made:
            ramdisk.remove(path)
        shutil.rmtree(base)


class Volume:
    """A graph over some bricks, each child of distribute `replica` of them.  Paths are text, relative to the root."""

    def __init__(
        self,
        process: Process,
        bricks: list[Brick],
        names: list[str],
        options: dict[str, str],
        above: str,
        replica: int = 1,
    ) -> None:
        self.replica = replica
        self.process = process
        self.bricks = bricks
        self.names = names
        self.above = above
        self.graph = self._graph(options)
        self.frame = Frame()
        self.clock = 10**18

    def _graph(self, options: dict[str, str]) -> Graph:
        lines: list[str] = []
        for place, name in enumerate(self.names):
            bricks = self.bricks[place * self.replica : (place + 1) * self.replica]
            wrapped = bool(self.above) or self.replica > 1
            leaves = [f"{name}-leaf-{n}" for n in range(len(bricks))] if wrapped else [name]
            for leaf, brick in zip(leaves, bricks, strict=True):
                lines += [
                    f"volume {leaf}",
                    "type protocol/client",
                    f"option remote-subvolume {brick.path}",
                    "end-volume",
                ]
            if wrapped:
                type_ = "type cluster/replicate" if self.replica > 1 else self.above
                lines += [f"volume {name}", type_, f"subvolumes {' '.join(leaves)}", "end-volume"]
        lines += ["volume v-dht", "type cluster/distribute"]
        lines += [f"option {key} {volfile._quoted(value)}" for key, value in options.items()]
        lines += ["subvolumes " + " ".join(self.names), "end-volume"]
        return build("\n".join(lines), self.process)

    @property
    def dht(self) -> Distribute:
        found = self.graph.translators["v-dht"]
        assert isinstance(found, Distribute)
        return found

    @property
    def top(self):  # type: ignore[no-untyped-def]
        return self.graph.top

    @property
    def table(self):  # type: ignore[no-untyped-def]
        return self.graph.itable

    def tick(self) -> Frame:
        """A frame of the next second."""
        self.clock += 10**9
        self.frame = Frame(self.frame.uid, self.frame.gid, umask=self.frame.umask)
        self.frame.time_ns = self.clock
        return self.frame

    async def remount(self, **options: str) -> None:
        """A fresh graph over the same bricks: nothing is remembered."""
        await self.graph.stop()
        self.graph = self._graph({key.replace("_", "-"): value for key, value in options.items()})
        await self.graph.start()

    # -- paths -----------------------------------------------------------------------------------------------

    async def lookup(self, path: str) -> Iatt:
        iatt: Iatt = await self.top.lookup(self.frame, self.table.root, b"")
        inode = self.table.root
        for name in os.fsencode(path).split(b"/"):
            if name:
                if inode.type != stat.S_IFDIR:
                    raise FopError(errno.ENOTDIR)  # as the kernel would
                iatt = await self.top.lookup(self.frame, inode, name)
                inode = self.table.link(iatt.gfid, iatt.type)
        return iatt

    async def inode(self, path: str) -> Inode:
        iatt = await self.lookup(path)
        return self.table.link(iatt.gfid, iatt.type)

    async def parent(self, path: str) -> tuple[Inode, bytes]:
        above, _, name = path.strip("/").rpartition("/")
        inode = await self.inode(above)
        if inode.type != stat.S_IFDIR:
            raise FopError(errno.ENOTDIR)
        return inode, os.fsencode(name)

    async def exists(self, path: str) -> bool:
        try:
            await self.lookup(path)
        except FopError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    # -- files -----------------------------------------------------------------------------------------------

    async def create(self, path: str, data: bytes = b"", mode: int = 0o644) -> Inode:
        parent, name = await self.parent(path)
        gfid = self.process.new_gfid()
        inode = self.table.link(gfid, stat.S_IFREG)
        fd = self.table.fd(inode, os.O_RDWR)
        frame = self.tick()
        await self.top.create(frame, parent, name, os.O_RDWR, mode, gfid, fd)
        if data:
            await self.top.writev(frame, fd, data, 0)
        await self.close(fd)
        return inode

    async def open(self, path: str, flags: int = os.O_RDWR) -> Fd:
        inode = await self.inode(path)
        fd = self.table.fd(inode, flags)
        await (self.top.opendir(self.frame, inode, fd) if inode.type == stat.S_IFDIR else
               self.top.open(self.frame, inode, flags, fd))  # fmt: skip
        return fd

    async def close(self, fd: Fd) -> None:
        if fd.inode.type != stat.S_IFDIR:
            await self.top.flush(self.frame, fd)
        await self.top.release(self.frame, fd)
        self.table.closed(fd)

    async def read(self, path: str) -> bytes:
        fd = await self.open(path, os.O_RDONLY)
        data = bytes(await self.top.readv(self.frame, fd, 1 << 20, 0))
        await self.close(fd)
        return data

    async def unlink(self, path: str) -> None:
        parent, name = await self.parent(path)
        await self.top.unlink(self.tick(), parent, name, await self.inode(path))

    async def link(self, old: str, new: str) -> Iatt:
        parent, name = await self.parent(new)
        iatt: Iatt = await self.top.link(self.tick(), await self.inode(old), parent, name)
        return iatt

    async def rename(self, old: str, new: str, flags: int = 0) -> Iatt:
        parent, name = await self.parent(old)
        newparent, newname = await self.parent(new)
        inode = await self.inode(old)
        replaced = await self.inode(new) if await self.exists(new) else None
        iatt: Iatt = await self.top.rename(self.tick(), parent, name, newparent, newname, inode, replaced, flags)
        return iatt

    # -- directories -----------------------------------------------------------------------------------------

    async def mkdir(self, path: str, mode: int = 0o755) -> Inode:
        parent, name = await self.parent(path)
        gfid = self.process.new_gfid()
        await self.top.mkdir(self.tick(), parent, name, mode, gfid)
        return self.table.link(gfid, stat.S_IFDIR)

    async def rmdir(self, path: str) -> None:
        parent, name = await self.parent(path)
        await self.top.rmdir(self.tick(), parent, name, await self.inode(path))

    async def entries(self, path: str, count: int = 1000, *, plus: bool = False) -> list[DirEntry]:
        fd = await self.open(path, os.O_RDONLY)
        entries: list[DirEntry] = []
        while batch := await self.top.readdir(self.frame, fd, count, entries[-1].offset if entries else 0, plus):
            entries += batch
        await self.close(fd)
        return entries

    async def names_in(self, path: str) -> list[str]:
        return sorted(os.fsdecode(entry.name) for entry in await self.entries(path))

    # -- the bricks, as they are on the disk -----------------------------------------------------------------

    def brick_path(self, place: int, path: str) -> str:
        """`path` on the first brick of child `place`."""
        return f"{self.bricks[place * self.replica].path}/{path.strip('/')}"

    def where(self, path: str) -> dict[int, str]:
        """What lies at `path` on each brick that has something there: `dir`, `file`, or `->NAME` for a linkto file."""
        found: dict[int, str] = {}
        for place in range(len(self.names)):
            try:
                st = os.lstat(self.brick_path(place, path))
            except FileNotFoundError:
                continue
            found[place] = "dir" if stat.S_ISDIR(st.st_mode) else self._file(place, path, st)
        return found

    def _file(self, place: int, path: str, st: os.stat_result) -> str:
        target = self.xattr(place, path, LINKTO)
        if target is None:
            return "file"
        assert (stat.S_IMODE(st.st_mode), st.st_size) == (0o1000, 0)
        assert target.endswith(b"\0")
        return "->" + target[:-1].decode()

    def xattr(self, place: int, path: str, name: str) -> bytes | None:
        try:
            return os.getxattr(self.brick_path(place, path), name, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOENT):
                raise
            return None

    def shares(self, path: str) -> list[str | None]:
        """The layout xattr of a directory on each brick, in hex."""
        raw = [self.xattr(place, path, LAYOUT) for place in range(len(self.names))]
        return [None if value is None else value.hex() for value in raw]

    def hashed(self, path: str, name: str) -> int:
        """The brick that `name` belongs to in directory `path`, from what the bricks say."""
        share = self.dht.opt.xattr_name
        layout = Layout(decode(place, self.xattr(place, path, share)) for place in range(len(self.names)))
        return layout.find(self.dht.hash(os.fsencode(name)))

    def name_for(self, place: int, path: str = "/", start: str = "n") -> str:
        """A name that hashes to brick `place` in directory `path`; names with different `start` differ."""
        return next(n for n in (f"{start}{i}" for i in range(1000)) if self.hashed(path, n) == place)


def _brick_sections(path: str, volume_id: str, options: dict[str, str]) -> list[volfile.Section]:
    return [volfile.Section("v-posix", "storage/posix", {"directory": path, "volume-id": volume_id, **options})]


@asynccontextmanager
async def served(
    bricks: int | Sequence[str], names: Sequence[str] | None = None, *, above: str = "", replica: int = 1,
    brick: dict[str, str] | None = None, **options: str,
) -> AsyncIterator[Volume]:  # fmt: skip
    """Serve a volume on so many new bricks, or on those at these paths.

    `options` are distribute's, `brick` storage/posix's, `above` a layer over each brick.
    """
    volume_id = str(uuid.UUID(int=7))
    wanted = {key.replace("_", "-"): value for key, value in options.items()}
    with brick_directories(bricks) if isinstance(bricks, int) else nullcontext(bricks) as paths:
        async with Process(strict=True, seed=1) as process:
            attached = []
            for path in paths:
                prepare.prepare(path, volume_id)
                attached.append(await Brick.attach(process, _brick_sections(path, volume_id, brick or {})))
            children = list(names or [f"v-client-{n}" for n in range(len(paths) // replica)])
            volume = Volume(process, attached, children, wanted, above, replica)
            await volume.graph.start()
            await volume.lookup("/")  # as a mount does; a new root gets its layout by this
            try:
                yield volume
            finally:
                await volume.graph.stop()
                leaks = [await one.detach() for one in attached]
                assert not any(count for leak in leaks for count in leak.values()), leaks
