"""One seeded run: a replica set in this process, random operations against a model, bricks that die and come back.

    python -m tests.simulation --seeds 1000            seeds 0 to 999
    python -m tests.simulation --seed 17 --verbose     replays one

Everything random comes from the seed, trio's scheduling included.  Between two steps, and in the middle of operations (each
call to a brick may first let other tasks run, kill its brick, or find it full), bricks fail as many at a time as the
set tolerates.  While that holds every operation must succeed and every read must see what the model holds.  After the last
heal all copies must be identical to the byte, xattrs and times included, nothing may be left in the changelogs or indices,
and the content must be what was acknowledged.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
import trio.testing

from fusemux.bricks.storage.posix import attributes, stamps
from fusemux.graph.cluster.replicate.heal.report import path_of
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fops import Fop
from fusemux.graph.framework.linking import Method
from tests.graph.cluster.replicate.volume import Volume, served
from tests.simulation.model import Model

__all__ = ["Failure", "simulate"]

_STEPS = 40
Step = Callable[[list[str], list[str]], Awaitable[None]]
_NEEDS_SPACE = frozenset({"create", "mknod", "mkdir", "symlink", "writev"})


class Failure(AssertionError):
    """The run of a seed broke a promise."""


class Chaos:
    """Woven into the edge above one brick: decides before and after each call what happens to it."""

    def __init__(self, sim: Simulation, brick: int, *, suspends: bool) -> None:
        self.sim = sim
        self.brick = brick
        self.suspends = suspends

    def weave(self, fop: Fop, method: Method) -> Method:
        if fop.name in ("release", "inodelk", "entrylk"):
            return method
        sim, brick = self.sim, self.brick

        async def call(*args: Any) -> Any:
            if await sim.before(brick, fop.name):
                return await self._without_space(fop, method, args)
            reply = await method(*args)
            await sim.after(brick)
            return reply

        return call

    async def _without_space(self, fop: Fop, method: Method, args: tuple[Any, ...]) -> Any:
        """A part of what is written still fits, and the caller may or may not hear how much."""
        if fop.name == "writev" and self.sim.random.random() < 0.6:
            frame, fd, data, *rest = args
            if half := len(data) // 2:
                written = await method(frame, fd, data[:half], *rest)
                if self.sim.random.random() < 0.5:
                    return written
        raise FopError(errno.ENOSPC, "simulated")


class Simulation:
    def __init__(self, seed: int, volume: Volume, *, verbose: bool = False) -> None:
        self.random = random.Random(seed)
        self.volume = volume
        self.model = Model()
        self.verbose = verbose
        self.down: set[int] = set()
        self.behind: set[int] = set()  # failed since the last complete heal: no others may fail
        self.full: int | None = None
        self.calm = False
        self.suspends = seed % 4 > 0  # else all goes the way of bricks that never wait
        self.made = 0
        self.calls = hashlib.md5()  # of the calls to bricks, in their order: equal for two runs of one seed
        self.tolerated = (len(volume.bricks) - 1) // 2 if len(volume.bricks) > 2 else 1

    def say(self, text: str) -> None:
        if self.verbose:
            print(text, flush=True)

    # -- trouble ---------------------------------------------------------------------------------------------

    async def before(self, brick: int, fop: str) -> bool:
        """What may happen just before a call to a brick; whether there is no space for it."""
        self.calls.update(b"%d %s\n" % (brick, fop.encode()))
        roll = self.random.random()
        if roll < 0.2 and self.suspends:
            await trio.lowlevel.checkpoint()
        if not self.calm and roll > 0.985 and brick not in self.down and self.may_fail(brick):
            await self.kill(brick)
        return brick == self.full and fop in _NEEDS_SPACE

    async def after(self, brick: int) -> None:
        """A brick may die when it has done what it was asked for, and has not said so."""
        if not self.calm and self.random.random() > 0.993 and brick not in self.down and self.may_fail(brick):
            await self.kill(brick)
            raise FopError(errno.ENOTCONN, "simulated: died after the call")

    def may_fail(self, brick: int) -> bool:
        return len(self.behind | {brick}) <= self.tolerated

    async def kill(self, brick: int) -> None:
        self.say(f"  brick {brick} dies")
        self.down.add(brick)
        self.behind.add(brick)
        await self.volume.bricks[brick].kill()

    async def start(self, brick: int) -> None:
        self.say(f"  brick {brick} comes back")
        await self.volume.bricks[brick].start()
        self.down.discard(brick)

    async def trouble(self) -> None:
        """Between two operations."""
        if self.random.random() < 0.1:
            await trio.sleep(2)  # delayed post-ops are due
        roll = self.random.random()
        if self.full is not None and roll < 0.3:
            self.say(f"  brick {self.full} has space again")
            self.full = None
        elif self.down and roll < 0.3:
            await self.start(self.random.choice(sorted(self.down)))
            if self.random.random() < 0.7:
                await self.heal()
        elif not self.down and self.full is None and roll < 0.15:
            brick = self.random.randrange(len(self.volume.bricks))
            if not self.may_fail(brick):
                await self.heal()
            if self.random.random() < 0.25:
                self.full = brick
                self.behind.add(brick)
                self.say(f"  brick {brick} is full")
            else:
                await self.kill(brick)

    async def heal(self) -> None:
        """With all bricks up and nothing else going wrong."""
        self.calm = True
        self.full = None
        for brick in sorted(self.down):
            await self.start(brick)
        progress = await self.volume.replicate.healer.sweep()
        self.say(f"  healed: {progress}")
        listed = await self.volume.replicate.healer.listed()
        if listed or progress.failed:
            paths = [await path_of(self.volume.replicate.healer, gfid) for gfid in sorted(listed)]
            raise Failure(f"still pending after a heal: {paths} {[gfid.hex() for gfid in sorted(listed)]}, {progress}")
        self.behind.clear()
        self.calm = False

    # -- operations ------------------------------------------------------------------------------------------

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

    def _new(self, dirs: list[str]) -> str:
        self.made += 1
        return f"{self.random.choice(dirs)}/n{self.made}".lstrip("/")

    def _data(self) -> bytes:
        return bytes([self.random.randrange(1, 256)]) * self.random.choice((1, 100, 4096, 10000))

    async def _create(self, files: list[str], dirs: list[str]) -> None:
        path, data = self._new(dirs), self._data()
        self.say(f"create {path} {len(data)}")
        await self.volume.create(path, data)
        self.model.create(path, data)

    async def _mkdir(self, files: list[str], dirs: list[str]) -> None:
        path = self._new(dirs)
        self.say(f"mkdir {path}")
        await self.volume.mkdir(path)
        self.model.mkdir(path)

    async def _write(self, files: list[str], dirs: list[str]) -> None:
        path, data, offset = self.random.choice(files), self._data(), self.random.choice((0, 50, 5000))
        self.say(f"write {path} {len(data)} at {offset}")
        await self.volume.write(path, data, offset)
        self.model.write(path, data, offset)

    async def _truncate(self, files: list[str], dirs: list[str]) -> None:
        path, size = self.random.choice(files), self.random.choice((0, 10, 6000))
        self.say(f"truncate {path} {size}")
        await self.volume.truncate(path, size)
        self.model.truncate(path, size)

    async def _read(self, files: list[str], dirs: list[str]) -> None:
        path = self.random.choice(files)
        self.say(f"read {path}")
        if await self.volume.read(path) != bytes(self.model.node(path).content or b""):
            raise Failure(f"{path}: what was read is not what was written")

    async def _remove(self, files: list[str], dirs: list[str]) -> None:
        path = self.random.choice(files)
        self.say(f"unlink {path}")
        await self.volume.unlink(path)
        self.model.remove(path)

    async def _rename(self, files: list[str], dirs: list[str]) -> None:
        old = self.random.choice(files)
        new = self.random.choice(files) if self.random.random() < 0.3 else self._new(dirs)
        if self.model.node(old) is self.model.node(new) if new in files else False:
            return  # two names of one file: nothing happens
        self.say(f"rename {old} {new}")
        await self.volume.rename(old, new)
        self.model.rename(old, new)

    async def _rename_dir(self, files: list[str], dirs: list[str]) -> None:
        old = self.random.choice(dirs[1:])
        new = self._new([path for path in dirs if path != old and not path.startswith(f"{old}/")])
        self.say(f"rename {old} {new}")
        await self.volume.rename(old, new)
        self.model.rename(old, new)

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
        await self.volume.rmdir(path)
        self.model.remove(path)

    async def _chmod(self, files: list[str], dirs: list[str]) -> None:
        path, mode = self.random.choice(files), self.random.choice((0o600, 0o644, 0o4755))
        self.say(f"chmod {path} {mode:o}")
        await self.volume.chmod(path, mode)
        self.model.chmod(path, mode)

    async def _setxattr(self, files: list[str], dirs: list[str]) -> None:
        path, value = self.random.choice(files), self._data()[:100]
        self.say(f"setxattr {path}")
        await self.volume.setxattr(path, b"user.x", value)
        self.model.setxattr(path, b"user.x", value)

    async def _link(self, files: list[str], dirs: list[str]) -> None:
        old, new = self.random.choice(files), self._new(dirs)
        self.say(f"link {old} {new}")
        await self.volume.link(old, new)
        self.model.link(old, new)

    # -- the end ---------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Heal, and compare all copies with each other and with the model."""
        await trio.sleep(2)  # delayed post-ops are due
        await self.heal()
        self.calm = True
        first = self.volume.tree(0)
        for brick in range(len(self.volume.bricks)):
            marks = self.volume.all_marks(brick)
            if marks:
                raise Failure(f"brick {brick} still accuses: {marks}")
            tree = self.volume.tree(brick)
            wanted = first
            if self.volume.replicate.arbiters >> brick & 1:
                tree, wanted = _without_contents(tree), _without_contents(first)
            if tree != wanted:
                differing = sorted(p for p in tree.keys() | wanted.keys() if tree.get(p) != wanted.get(p))
                details = [(p, wanted.get(p), tree.get(p)) for p in differing[:2]]
                raise Failure(f"brick {brick} differs from brick 0 in {differing}: {details}")
        self._compare(first)

    def _compare(self, tree: dict[str, tuple[Any, ...]]) -> None:
        wanted = set(self.model.paths(dirs=False)) | set(self.model.paths(dirs=True)[1:])
        if wanted != tree.keys():
            raise Failure(f"missing {sorted(wanted - tree.keys())}, too many {sorted(tree.keys() - wanted)}")
        for path in self.model.paths(dirs=False):
            node, shape = self.model.node(path), tree[path]
            if shape[5] != bytes(node.content or b""):
                raise Failure(f"{path}: the content is not what was acknowledged")
            if shape[0] & 0o7777 != node.mode:
                raise Failure(f"{path}: mode {shape[0]:o}, acknowledged {node.mode:o}")
            xattrs = {os.fsencode(k): v for k, v in shape[4].items() if k.startswith("user.")}
            if xattrs != node.xattrs:
                raise Failure(f"{path}: xattrs are not what was acknowledged")


def _without_contents(tree: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """What an arbiter must have: writes do not reach it, and so it does not know when there was one."""
    kept = {}
    for path, (mode, nlink, uid, gid, xattrs, _) in tree.items():
        times = b"" if stat.S_ISREG(mode) else xattrs.get("trusted.glusterfs.mdata", b"")
        kept[path] = (mode, nlink, uid, gid, {**xattrs, "trusted.glusterfs.mdata": times})
    return kept


async def _simulate(seed: int, copies: int, arbiter: bool, verbose: bool) -> str:
    options = {"self_heal_daemon": "off", "granular_entry_heal": "on", "read_hash_mode": "1", "choose_local": "off"}
    if arbiter:
        options["arbiter_count"] = "1"
    async with served(copies, strict=False, on_bricks=("features/index",), **options) as volume:
        volume.process.random.seed(seed)
        sim = Simulation(seed, volume, verbose=verbose)
        for index, edge in enumerate(volume.replicate.children):
            edge.weaver = Chaos(sim, index, suspends=sim.suspends)
        volume.graph.relink()
        for _ in range(_STEPS):
            await sim.trouble()
            await sim.step()
        await sim.check()
        for edge in volume.replicate.children:
            edge.weaver = None
        return sim.calls.hexdigest()


class _Clock:
    """What the bricks take for the present: every look at it is a moment of its own, so nothing looks alike by chance."""

    def __init__(self) -> None:
        self.now = 10**18

    def __call__(self) -> int:
        self.now += 1
        return self.now


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """trio schedules by the seed, and the bricks' clocks stand still but for being looked at."""
    from trio._core import _run  # the only way to have trio schedule by a seed

    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, stamps.time_ns, attributes.time_ns
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # sets of tasks are sorted before they are shuffled
    stamps.time_ns = attributes.time_ns = _Clock()  # type: ignore[attr-defined]
    _run._r.seed(seed)
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING, stamps.time_ns, attributes.time_ns = before  # type: ignore


def simulate(seed: int, *, copies: int = 3, arbiter: bool = False, verbose: bool = False) -> str:
    """Run one seed; a digest of all calls to the bricks.  With `arbiter` the last copy holds no contents.

    Raises Failure, or whatever an operation that had to succeed has raised.
    """
    with _deterministic(seed):
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(_simulate, seed, copies, arbiter, verbose, clock=clock)
