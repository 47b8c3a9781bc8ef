"""One seeded run: a replica set in this process, random operations against a model, and whatever can fail.

    python -m tests.simulation --seeds 1000            seeds 0 to 999
    python -m tests.simulation --seed 17 --verbose     replays one

Everything random comes from the seed, trio's scheduling included.  Between two steps, and in the middle of operations (each
call to a brick may first let other tasks run, kill its brick, cut its power, or find it full), bricks fail as many at a
time as the set tolerates.  While that holds every operation must succeed and every read must see what the model holds.
At any call to a brick, a heal's included, the serving process may be killed; another one then serves the same bricks.

A brick that is killed keeps what it has written; one that loses power goes back to what its disk may hold (power.py).

After each heal nothing may be left in the changelogs or indices.  At the end, and when a killed process was succeeded by another,
all copies must besides be identical to the byte, xattrs and times included, hold what was acknowledged, and keep no file without a name.
"""

from __future__ import annotations

import errno
import hashlib
import random
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio
import trio.testing

from fusemux.bricks.brick import Brick
from fusemux.bricks.features.index import Index
from fusemux.bricks.storage.posix import attributes, stamps
from fusemux.graph.cluster.replicate.heal.report import path_of
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.process import Process
from tests.graph.cluster.replicate.volume import Volume, brick_sections
from tests.simulation.chaos import Chaos, Failure, Killed
from tests.simulation.ground import Ground
from tests.simulation.power import Journal, recorded
from tests.simulation.steps import Steps

__all__ = ["Failure", "simulate"]

_STEPS = 40
_CALLS = 1500  # to bricks in a run, about
_NEEDS_SPACE = frozenset({"create", "mknod", "mkdir", "symlink", "writev"})
_OPTIONS = {
    "self-heal-daemon": "off", "granular-entry-heal": "on", "read-hash-mode": "1", "choose-local": "off",
}  # fmt: skip


class Simulation(Steps):
    def __init__(self, seed: int, paths: list[str], *, arbiter: bool = False, verbose: bool = False) -> None:
        super().__init__()
        self.seed = seed
        self.random = random.Random(seed)
        self.paths = paths
        self.arbiter = arbiter
        self.verbose = verbose
        self.down: set[int] = set()
        self.behind: set[int] = set()  # failed since the last complete heal: no others may fail
        self.full: int | None = None
        self.calm = False
        self.suspends = seed % 4 > 0  # else all goes the way of bricks that never wait
        self.journals = [Journal(path) for path in paths] if seed % 3 == 0 else []
        self.lives = 0
        self.dead = False
        self.left = -1  # calls until the process is killed
        self.deaths = self.random.choice((0, 0, 1, 1, 2))
        self.steps = _STEPS
        self.calls = hashlib.md5()  # of the calls to bricks, in their order: equal for two runs of one seed
        self.tolerated = (len(paths) - 1) // 2 if len(paths) > 2 else 1

    # -- lives -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while not await self._live():
            self.say("  the process is killed")

    async def _live(self) -> bool:
        """Serve the bricks from one process; whether it lived to the end."""
        self.lives += 1
        self.dead, self.calm, self.full = False, False, None
        self.left = self.random.randrange(_CALLS) if self.lives <= self.deaths else -1
        self.down.clear()
        try:
            async with Process(strict=False, seed=self.seed * 8 + self.lives) as process:
                bricks = [await Brick.attach(process, self._sections(place)) for place in range(len(self.paths))]
                try:
                    await self._serve(process, bricks)
                finally:
                    if self.dead:
                        for brick in bricks:
                            await brick.kill()
        except BaseException:
            if not self.dead:
                raise
        return not self.dead

    def _sections(self, place: int) -> Any:
        arbiter = self.arbiter and place == len(self.paths) - 1
        types = (("features/arbiter",) if arbiter else ()) + ("features/index",)
        return brick_sections(self.paths[place], types, {"health-check-interval": "0"})  # that has a thread

    async def _serve(self, process: Process, bricks: list[Brick]) -> None:
        options = {**_OPTIONS, "arbiter-count": "1"} if self.arbiter else _OPTIONS
        self.volume = Volume(process, bricks, options)
        await self.volume.graph.start()
        for index, edge in enumerate(self.volume.replicate.children):
            edge.weaver = Chaos(self, index, suspends=self.suspends)
        self.volume.graph.relink()
        if self.lives > 1:
            await self._recover()
        while self.steps > 0:
            await self.trouble()
            self.steps -= 1
            await self.step()
        await self.check()
        for edge in self.volume.replicate.children:
            edge.weaver = None
        await self.volume.graph.stop()
        leaks = [await brick.detach() for brick in bricks]
        if any(count for leak in leaks for count in leak.values()):
            raise Failure(f"bricks still hold: {leaks}")

    async def _recover(self) -> None:
        """Another process died: what it had acknowledged is there, what it was about to do may be."""
        self.calm = True
        models = list(self.model.after(self.doubts))
        for path in self._undoubted(models):
            await self.read(path)
        await self.heal()
        tree = self._equal_tree()
        troubles = [model.difference(tree) for model in models]
        if None not in troubles:
            raise Failure(f"nothing that {len(self.doubts)} operations under way explain: {troubles}")
        self.model = models[troubles.index(None)]
        self.doubts.clear()

    def _undoubted(self, models: list[Any]) -> list[str]:
        """Some files that are what they were, whatever has become of the operations under way."""
        files = [set(model.paths(dirs=False)) for model in models]
        sure = sorted(set.intersection(*files))
        sure = [path for path in sure if len({bytes(model.node(path).content) for model in models}) == 1]
        return self.random.sample(sure, min(len(sure), 3))

    # -- trouble ---------------------------------------------------------------------------------------------

    async def before(self, brick: int, fop: str) -> bool:
        """What may happen just before a call to a brick; whether there is no space for it."""
        self._mortal()
        self.calls.update(b"%d %s\n" % (brick, fop.encode()))
        roll = self.random.random()
        if roll < 0.2 and self.suspends:
            await trio.lowlevel.checkpoint()
            self._mortal(0)
        if not self.calm and roll > 0.985 and brick not in self.down and self.may_fail(brick):
            await self.kill(brick)
        return brick == self.full and fop in _NEEDS_SPACE

    async def after(self, brick: int) -> None:
        """A brick may die when it has done what it was asked for, and has not said so."""
        self._mortal(0)
        if not self.calm and self.random.random() > 0.993 and brick not in self.down and self.may_fail(brick):
            await self.kill(brick)
            raise FopError(errno.ENOTCONN, "simulated: died after the call")

    def _mortal(self, calls: int = 1) -> None:
        self.left -= calls
        if self.left == -1 and calls:
            self.dead = True
        elif self.left < -1:
            self.left = -2
        if self.dead:
            raise Killed

    def may_fail(self, brick: int) -> bool:
        return len(self.behind | {brick}) <= self.tolerated

    async def kill(self, brick: int) -> None:
        self.down.add(brick)
        self.behind.add(brick)
        found = self.volume.bricks[brick]
        if not self.journals or self.random.random() < 0.5:
            self.say(f"  brick {brick} dies")
            await found.kill()
            return
        indices = [t for t in found.graph.translators.values() if isinstance(t, Index)]
        self.say(f"  brick {brick} loses power: {self.journals[brick].cut(self.random)}")
        await found.kill()
        for index in indices:
            index.lose_power()

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
        if self.volume.replicate.trust.unclean:
            raise Failure("a sweep went through, and still not everything was looked at")
        self.behind.clear()
        self.calm = False

    # -- the end ---------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Heal, and compare all copies with each other and with the model."""
        await trio.sleep(2)  # delayed post-ops are due
        await self.heal()
        self.calm = True
        trouble = self.model.difference(self._equal_tree())
        if trouble is not None:
            raise Failure(trouble)

    def _equal_tree(self) -> dict[str, tuple[Any, ...]]:
        """What all bricks hold alike."""
        first = self.volume.tree(0)
        for brick in range(len(self.volume.bricks)):
            marks = self.volume.all_marks(brick)
            if marks:
                raise Failure(f"brick {brick} still accuses: {marks}")
            if lost := self.volume.lost_handles(brick):
                raise Failure(f"brick {brick} keeps files without names: {lost}")
            tree = self.volume.tree(brick)
            wanted = first
            if self.volume.replicate.arbiters >> brick & 1:
                tree, wanted = _without_contents(tree), _without_contents(first)
            if tree != wanted:
                differing = sorted(p for p in tree.keys() | wanted.keys() if tree.get(p) != wanted.get(p))
                details = [(p, wanted.get(p), tree.get(p)) for p in differing[:2]]
                raise Failure(f"brick {brick} differs from brick 0 in {differing}: {details}")
        return first


def _without_contents(tree: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """What an arbiter must have: writes do not reach it, and so it does not know when there was one."""
    kept = {}
    for path, (mode, nlink, uid, gid, xattrs, _) in tree.items():
        times = b"" if stat.S_ISREG(mode) else xattrs.get("trusted.glusterfs.mdata", b"")
        kept[path] = (mode, nlink, uid, gid, {**xattrs, "trusted.glusterfs.mdata": times})
    return kept


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


def simulate(seed: int, ground: Ground, *, copies: int = 3, arbiter: bool = False, verbose: bool = False) -> str:
    """Run one seed; a digest of all calls to the bricks.  With `arbiter` the last copy holds no contents.

    Raises Failure, or whatever an operation that had to succeed has raised.
    """
    with _deterministic(seed), ground.bricks(copies) as paths:
        sim = Simulation(seed, paths, arbiter=arbiter, verbose=verbose)
        clock = trio.testing.MockClock(autojump_threshold=0)
        with recorded(sim.journals):
            trio.run(sim.run, clock=clock)
    return sim.calls.hexdigest()
