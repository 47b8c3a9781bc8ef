"""The operations of a run: random ones, done to the volume and, when it has acknowledged them, to the model."""

from __future__ import annotations

import errno
import random
from collections.abc import Awaitable, Callable

import trio

from fusemux.graph.framework.errors import FopError
from tests.graph.cluster.replicate.volume import Volume
from tests.simulation.chaos import Failure
from tests.simulation.model import Doubt, Model, Stage

__all__ = ["Steps"]

Step = Callable[[list[str], list[str]], Awaitable[None]]


class Steps:
    random: random.Random
    volume: Volume
    verbose: bool

    def __init__(self) -> None:
        self.model = Model()
        self.doubts: list[Doubt] = []  # under way
        self.made = 0

    def say(self, text: str) -> None:
        if self.verbose:
            print(text, flush=True)

    async def step(self) -> None:
        files, dirs = self.model.paths(dirs=False), self.model.paths(dirs=True)
        if files and self.random.random() < 0.25:
            await self._side_by_side(files, dirs)
            return
        choices = self._on_files(files)
        if len(dirs) > 1:
            choices += [self._rmdir, self._rename_dir]
        await self.random.choice(choices)(files, dirs)

    def _on_files(self, files: list[str]) -> list[Step]:
        """The steps that leave directories where they are."""
        choices: list[Step] = [self._create, self._mkdir]
        if files:
            choices += [self._write, self._write, self._truncate, self._read, self._remove, self._rename, self._chmod,
                        self._setxattr, self._link]  # fmt: skip
        return choices

    async def _side_by_side(self, files: list[str], dirs: list[str]) -> None:
        """Two clients at the same time, on different files in the same directories."""
        nodes = {path: id(self.model.node(path)) for path in files}
        ours = {nodes[path] for path in files if self.random.random() < 0.5}
        async with trio.open_nursery() as nursery:
            for mine in (True, False):
                share = [path for path in files if (nodes[path] in ours) is mine]
                nursery.start_soon(self.random.choice(self._on_files(share)), share, dirs)

    async def _do(self, work: Awaitable[object], done: Stage, *halves: Stage) -> None:
        """Have the volume do it.  `halves`: what else it may come to when the process dies over it."""
        doubt = Doubt((done, *halves))
        self.doubts.append(doubt)
        await work
        self.doubts.remove(doubt)
        done(self.model)

    # -- operations ------------------------------------------------------------------------------------------

    def _new(self, dirs: list[str]) -> str:
        self.made += 1
        return f"{self.random.choice(dirs)}/n{self.made}".lstrip("/")

    def _data(self) -> bytes:
        return bytes([self.random.randrange(1, 256)]) * self.random.choice((1, 100, 4096, 10000))

    async def _create(self, files: list[str], dirs: list[str]) -> None:
        path, data = self._new(dirs), self._data()
        self.say(f"create {path} {len(data)}")
        await self._do(
            self.volume.create(path, data),
            lambda m: m.create(path, data),
            lambda m: m.create(path, b""),
            lambda m: m.create(path, data[: len(data) // 2]),  # there was no space for more
        )

    async def _mkdir(self, files: list[str], dirs: list[str]) -> None:
        path = self._new(dirs)
        self.say(f"mkdir {path}")
        await self._do(self.volume.mkdir(path), lambda m: m.mkdir(path))

    async def _write(self, files: list[str], dirs: list[str]) -> None:
        path, data, offset = self.random.choice(files), self._data(), self.random.choice((0, 50, 5000))
        self.say(f"write {path} {len(data)} at {offset}")
        fd = await self.volume.open(path)
        try:
            await self._do(
                self.volume.top.writev(self.volume.tick(), fd, data, offset),
                lambda m: m.write(path, data, offset),
                lambda m: m.write(path, data[: len(data) // 2], offset),  # there was no space for more
            )
            if self.random.random() < 0.2:
                self.say(f"fsync {path}")
                await self.volume.top.fsync(self.volume.tick(), fd, False)
        finally:
            await self.volume.close(fd)

    async def _truncate(self, files: list[str], dirs: list[str]) -> None:
        path, size = self.random.choice(files), self.random.choice((0, 10, 6000))
        self.say(f"truncate {path} {size}")
        await self._do(self.volume.truncate(path, size), lambda m: m.truncate(path, size))

    async def _read(self, files: list[str], dirs: list[str]) -> None:
        await self.read(self.random.choice(files))

    async def read(self, path: str) -> None:
        self.say(f"read {path}")
        if await self.volume.read(path) != bytes(self.model.node(path).content or b""):
            raise Failure(f"{path}: what was read is not what was written")

    async def _remove(self, files: list[str], dirs: list[str]) -> None:
        path = self.random.choice(files)
        self.say(f"unlink {path}")
        await self._do(self.volume.unlink(path), lambda m: m.remove(path))

    async def _rename(self, files: list[str], dirs: list[str]) -> None:
        old = self.random.choice(files)
        new = self.random.choice(files) if self.random.random() < 0.3 else self._new(dirs)
        if self.model.node(old) is self.model.node(new) if new in files else False:
            return  # two names of one file: nothing happens
        self.say(f"rename {old} {new}")
        await self._do(self.volume.rename(old, new), lambda m: m.rename(old, new), lambda m: m.rename_half(old, new))

    async def _rename_dir(self, files: list[str], dirs: list[str]) -> None:
        old = self.random.choice(dirs[1:])
        new = self._new([path for path in dirs if path != old and not path.startswith(f"{old}/")])
        self.say(f"rename {old} {new}")
        await self._do(self.volume.rename(old, new), lambda m: m.rename(old, new))

    async def _rmdir(self, files: list[str], dirs: list[str]) -> None:
        path = self.random.choice(dirs[1:])
        self.say(f"rmdir {path}")
        if self.model.node(path).names:
            try:
                await self.volume.rmdir(path)
            except FopError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return
                raise
            raise Failure(f"{path} was removed though it is not empty")
        await self._do(self.volume.rmdir(path), lambda m: m.remove(path))

    async def _chmod(self, files: list[str], dirs: list[str]) -> None:
        path, mode = self.random.choice(files), self.random.choice((0o600, 0o644, 0o4755))
        self.say(f"chmod {path} {mode:o}")
        await self._do(self.volume.chmod(path, mode), lambda m: m.chmod(path, mode))

    async def _setxattr(self, files: list[str], dirs: list[str]) -> None:
        path, value = self.random.choice(files), self._data()[:100]
        self.say(f"setxattr {path}")
        await self._do(self.volume.setxattr(path, b"user.x", value), lambda m: m.setxattr(path, b"user.x", value))

    async def _link(self, files: list[str], dirs: list[str]) -> None:
        old, new = self.random.choice(files), self._new(dirs)
        self.say(f"link {old} {new}")
        await self._do(self.volume.link(old, new), lambda m: m.link(old, new))
