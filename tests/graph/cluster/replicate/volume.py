"""A replicated volume on real bricks in this process, the little client that drives it, and a look at what lies on the bricks."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fusemux.bricks import prepare, ramdisk
from fusemux.bricks.brick import Brick
from fusemux.bricks.storage.posix.late import recorder_of
from fusemux.graph.cluster.replicate import Replicate
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import DirEntry, Frame, Iatt, SetAttr
from fusemux.graph.framework.volfile import Section
from tests.graph.cluster.refusal import refused

__all__ = ["Counters", "Volume", "brick_sections", "refused", "served"]

TEMPORARY = "/dev/shm" if os.path.isdir("/dev/shm") else None
VOLUME_ID = str(uuid.UUID(int=7))
Counters = tuple[int, int, int]


class Volume:
    """A replica set over some bricks.  Paths are text, relative to the root."""

    def __init__(self, process: Process, bricks: list[Brick], options: Mapping[str, str], layer: str = "") -> None:
        self.process = process
        self.bricks = bricks
        self.names = [f"v-client-{n}" for n in range(len(bricks))]
        self.layer = layer
        self.graph = Graph(self.sections(options), process)
        self.frame = Frame()
        self.clock = 10**18
        self.reader = Frame()  # without a time: reading leaves no trace

    def sections(self, options: Mapping[str, str]) -> list[Section]:
        sections: list[Section] = []
        children = []
        for name, brick in zip(self.names, self.bricks, strict=True):
            sections.append(Section(name, "protocol/client", {"remote-subvolume": brick.path}))
            children.append(name)
            if self.layer:
                sections.append(Section(f"{name}-{self.layer}", f"debug/{self.layer}", {}, [name]))
                children[-1] = f"{name}-{self.layer}"
        given = {"afr-pending-xattr": ",".join(self.names), "self-heal-daemon": "off", **options}
        sections.append(Section("v-replicate-0", "cluster/replicate", given, children))
        return sections

    def reconfigure(self, **options: str) -> None:
        self.graph.reconfigure(self.sections({key.replace("_", "-"): value for key, value in options.items()}))

    async def remount(self, **options: str) -> None:
        """A fresh graph over the same bricks: nothing is remembered."""
        await self.graph.stop()
        self.graph = Graph(
            self.sections({key.replace("_", "-"): value for key, value in options.items()}), self.process
        )
        await self.graph.start()

    @property
    def replicate(self) -> Replicate:
        found = self.graph.translators["v-replicate-0"]
        assert isinstance(found, Replicate)
        return found

    @property
    def top(self) -> Edge:
        return self.graph.top

    def tick(self) -> Frame:
        """A frame of the next millisecond."""
        self.clock += 10**6
        self.frame = Frame()
        self.frame.time_ns = self.clock
        return self.frame

    # -- paths -----------------------------------------------------------------------------------------------

    async def lookup(self, path: str) -> Iatt:
        table = self.graph.itable
        iatt: Iatt = await self.top.lookup(self.reader, table.root, b"")
        inode = table.root
        for name in os.fsencode(path).split(b"/"):
            if name:
                iatt = await self.top.lookup(self.reader, inode, name)
                inode = table.link(iatt.gfid, iatt.type)
        return iatt

    async def inode(self, path: str) -> Inode:
        iatt = await self.lookup(path)
        return self.graph.itable.link(iatt.gfid, iatt.type)

    async def parent(self, path: str) -> tuple[Inode, bytes]:
        above, _, name = path.strip("/").rpartition("/")
        return await self.inode(above), os.fsencode(name)

    # -- files -----------------------------------------------------------------------------------------------

    async def create(self, path: str, data: bytes | None = None) -> None:
        fd = await self.created(path)
        if data is not None:
            await self.top.writev(self.tick(), fd, data, 0)
        await self.close(fd)

    async def created(self, path: str) -> Fd:
        """A new file, open."""
        parent, name = await self.parent(path)
        gfid = self.process.new_gfid()
        fd = self.graph.itable.fd(self.graph.itable.link(gfid, stat.S_IFREG), os.O_RDWR)
        await self.top.create(self.tick(), parent, name, os.O_RDWR, 0o644, gfid, fd)
        return fd

    async def open(self, path: str, flags: int = os.O_RDWR) -> Fd:
        inode = await self.inode(path)
        fd = self.graph.itable.fd(inode, flags)
        if inode.type == stat.S_IFDIR:
            await self.top.opendir(self.frame, inode, fd)
        else:
            await self.top.open(self.frame, inode, flags, fd)
        return fd

    async def close(self, fd: Fd) -> None:
        if fd.inode.type != stat.S_IFDIR:
            await self.top.flush(self.frame, fd)
        await self.top.release(self.frame, fd)
        self.graph.itable.closed(fd)

    async def write(self, path: str, data: bytes, offset: int = 0) -> None:
        fd = await self.open(path)
        try:
            await self.top.writev(self.tick(), fd, data, offset)
        finally:
            await self.close(fd)

    async def append(self, path: str, data: bytes) -> None:
        await self.write(path, data, (await self.lookup(path)).size)

    async def truncate(self, path: str, size: int) -> None:
        await self.top.truncate(self.tick(), await self.inode(path), size)

    async def read(self, path: str) -> bytes:
        fd = await self.open(path, os.O_RDONLY)
        try:
            return bytes(await self.top.readv(self.reader, fd, 1 << 20, 0))
        finally:
            await self.close(fd)

    async def chmod(self, path: str, mode: int) -> None:
        await self.top.setattr(self.tick(), await self.inode(path), SetAttr(mode=mode))

    async def chown(self, path: str, uid: int, gid: int) -> None:
        await self.top.setattr(self.tick(), await self.inode(path), SetAttr(uid=uid, gid=gid))

    async def setxattr(self, path: str, name: bytes, value: bytes) -> None:
        await self.top.setxattr(self.tick(), await self.inode(path), {name: value}, 0)

    async def getxattr(self, path: str, name: bytes) -> bytes:
        return bytes((await self.top.getxattr(self.reader, await self.inode(path), name))[name])

    async def removexattr(self, path: str, name: bytes) -> None:
        await self.top.removexattr(self.tick(), await self.inode(path), name)

    # -- names -----------------------------------------------------------------------------------------------

    async def mkdir(self, path: str) -> None:
        parent, name = await self.parent(path)
        await self.top.mkdir(self.tick(), parent, name, 0o755, self.process.new_gfid())

    async def symlink(self, path: str, text: bytes) -> None:
        parent, name = await self.parent(path)
        await self.top.symlink(self.tick(), parent, name, text, self.process.new_gfid())

    async def mknod(self, path: str, mode: int, rdev: int = 0) -> None:
        parent, name = await self.parent(path)
        await self.top.mknod(self.tick(), parent, name, mode, rdev, self.process.new_gfid())

    async def link(self, old: str, new: str) -> None:
        inode = await self.inode(old)
        parent, name = await self.parent(new)
        await self.top.link(self.tick(), inode, parent, name)

    async def unlink(self, path: str) -> None:
        parent, name = await self.parent(path)
        await self.top.unlink(self.tick(), parent, name, await self.inode(path))

    async def rmdir(self, path: str) -> None:
        parent, name = await self.parent(path)
        await self.top.rmdir(self.tick(), parent, name, await self.inode(path))

    async def rename(self, old: str, new: str, flags: int = 0) -> None:
        inode = await self.inode(old)
        parent, name = await self.parent(old)
        newparent, newname = await self.parent(new)
        try:
            replaced = await self.inode(new)
        except FopError:
            replaced = None
        await self.top.rename(self.tick(), parent, name, newparent, newname, inode, replaced, flags)

    async def listing(self, path: str, *, plus: bool = False) -> list[DirEntry]:
        fd = await self.open(path, os.O_RDONLY)
        entries: list[DirEntry] = []
        while batch := await self.top.readdir(self.reader, fd, 100, entries[-1].offset if entries else 0, plus):
            entries += batch
        await self.close(fd)
        return entries

    async def names_in(self, path: str) -> list[str]:
        return sorted(os.fsdecode(entry.name) for entry in await self.listing(path))

    # -- the bricks, as they are on the disk -----------------------------------------------------------------

    def at(self, brick: int, path: str) -> str:
        return f"{self.bricks[brick].path}/{path.strip('/')}"

    def content(self, brick: int, path: str) -> bytes:
        with open(self.at(brick, path), "rb") as file:
            return file.read()

    def gfid(self, brick: int, path: str) -> bytes:
        return os.getxattr(self.at(brick, path), "trusted.gfid", follow_symlinks=False)

    def has(self, brick: int, path: str) -> bool:
        return os.path.lexists(self.at(brick, path))

    def handle(self, brick: int, gfid: bytes) -> str:
        """The path of a gfid's handle."""
        text = str(uuid.UUID(bytes=gfid))
        return f"{self.bricks[brick].path}/.glusterfs/{text[:2]}/{text[2:4]}/{text}"

    def lost_handles(self, brick: int) -> list[str]:
        """The handles of files that have no name on a brick."""
        found = []
        for folder, _, files in os.walk(f"{self.bricks[brick].path}/.glusterfs"):
            if len(os.path.basename(folder)) == 2:
                handles = [(name, os.lstat(os.path.join(folder, name))) for name in files]
                found += [name for name, st in handles if stat.S_ISREG(st.st_mode) and st.st_nlink == 1]
        return found

    def set_mark(self, brick: int, path: str, who: str, counters: Counters | None) -> None:
        """Write one xattr of a changelog by hand: `who` is dirty or a child (client-0 ...); None removes it."""
        name = f"trusted.afr.{who if who == 'dirty' else f'v-{who}'}"
        if counters is not None:
            os.setxattr(self.at(brick, path), name, struct.pack(">3i", *counters), follow_symlinks=False)
        elif name in os.listxattr(self.at(brick, path), follow_symlinks=False):
            os.removexattr(self.at(brick, path), name, follow_symlinks=False)

    def marks(self, brick: int, path: str) -> dict[str, Counters]:
        """The changelog of a file on one brick: `{"dirty": ..., "client-0": ...}`, those that are stored."""
        where = self.at(brick, path)
        marks = {}
        for name in os.listxattr(where, follow_symlinks=False):
            _, found, rest = name.partition("trusted.afr.")
            if found:
                raw = os.getxattr(where, name, follow_symlinks=False)
                marks[rest.removeprefix("v-")] = struct.unpack(">3i", raw)
        return marks

    def blames(self, brick: int, path: str) -> dict[str, Counters]:
        """The same without what is zero."""
        return {name: counters for name, counters in self.marks(brick, path).items() if any(counters)}

    def tree(self, brick: int) -> dict[str, tuple[object, ...]]:
        """Everything on a brick that a user can see, by path."""
        recorder_of(self.process).record()
        found: dict[str, tuple[object, ...]] = {}
        root = self.bricks[brick].path
        for folder, folders, files in os.walk(root):
            if folder == root:
                folders.remove(".glusterfs")
            for name in (*folders, *files):
                where = os.path.join(folder, name)
                found[os.path.relpath(where, root)] = _shape(where)
        return found

    def all_marks(self, brick: int) -> dict[str, dict[str, Counters]]:
        """What is not zero of the changelogs on a brick, by path."""
        paths = [".", *self.tree(brick)]
        return {path: blames for path in paths if (blames := self.blames(brick, path))}


def _shape(where: str) -> tuple[object, ...]:
    st = os.lstat(where)
    xattrs = {
        name: os.getxattr(where, name, follow_symlinks=False)
        for name in os.listxattr(where, follow_symlinks=False)
        if "trusted.afr." not in name
    }
    content: object = None
    if stat.S_ISREG(st.st_mode):
        with open(where, "rb") as file:
            content = file.read()
    elif stat.S_ISLNK(st.st_mode):
        content = os.readlink(where)
    return st.st_mode, st.st_nlink, st.st_uid, st.st_gid, xattrs, content


@asynccontextmanager
async def served(
    count: int = 2,
    *,
    strict: bool = True,
    brick: Mapping[str, str] | None = None,
    on_bricks: tuple[str, ...] = (),
    layer: str = "",
    sizes: Mapping[int, int] | None = None,
    **options: str,
) -> AsyncIterator[Volume]:
    """Serve a set of `count` copies.

    `options` are replicate's, `brick` storage/posix's; `on_bricks` are types above it in each brick, `layer` a debug layer
    above each brick; `sizes` gives some bricks a file system of that many bytes of their own.
    """
    base = tempfile.mkdtemp(dir=TEMPORARY)
    mounted = []
    try:
        for place, size in (sizes or {}).items():
            ramdisk.provision(f"{base}/b{place}", size)
            mounted.append(f"{base}/b{place}")
        async with Process(strict=strict, seed=1) as process:
            bricks = []
            for place in range(count):
                path = f"{base}/b{place}"
                prepare.prepare(path, VOLUME_ID)
                arbiter = options.get("arbiter_count") == "1" and place == count - 1
                sections = brick_sections(path, (("features/arbiter",) if arbiter else ()) + on_bricks, brick or {})
                bricks.append(await Brick.attach(process, sections))
            volume = Volume(process, bricks, {k.replace("_", "-"): v for k, v in options.items()}, layer)
            await volume.graph.start()
            try:
                yield volume
            finally:
                await volume.graph.stop()
                leaks = [await one.detach() for one in bricks]
                assert not any(count for leak in leaks for count in leak.values()), leaks
    finally:
        for path in mounted:
            ramdisk.remove(path)
        shutil.rmtree(base)


def brick_sections(path: str, types: tuple[str, ...], posix: Mapping[str, str]) -> list[Section]:
    given = {"directory": path, "volume-id": VOLUME_ID, "io-mode": "inline", **posix}
    sections = [Section("v-posix", "storage/posix", given)]
    for type in types:
        options = {}
        if type == "features/index":
            options = {
                "index-base": f"{path}/.glusterfs/indices",
                "xattrop-dirty-watchlist": "trusted.afr.dirty",
                "xattrop-pending-watchlist": "trusted.afr.v-",
            }
        sections.append(Section(f"v-{type.rpartition('/')[2]}", type, options, [sections[-1].name]))
    return sections
