"""The bricks change hands: each scenario yields, check by check, what was found wrong.

What GlusterFS itself leaves different between copies it has healed (`gluster_alone` shows it) is not asked of bricks that it
healed: the time of change of what was renamed meanwhile, and the times of a directory in which only a name was healed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from at_rest import Times, check_copies, check_handles, check_pending, index_entries
from machine import WORK, until
from owners import Fusemux, GlusterFS
from workload import change, differences, picture, populate

__all__ = ["SHAPES", "Checked", "Takeover"]

SHAPES = {
    "distribute": (2, 1),
    "replica 2": (2, 2),
    "replica 3": (3, 3),
    "2x2": (4, 2),
    "arbiter": (3, 3),
}  # bricks, copies

# Where the server dies: the fop that never ends, and on which bricks it is held up.
CRASHES = {
    "before the write, marked dirty": ("writev", 1, "all"),
    "one copy is not written": ("writev", 3, "one"),
    "written, the mark not cleared": ("xattrop", 2, "all"),
    "one copy lacks the new name": ("create", 1, "one"),
    "one copy still has the name": ("unlink", 1, "one"),
}


class Checked(NamedTuple):
    what: str
    problems: list[str]


class Takeover:
    """One volume `gv` of some shape, made by GlusterFS or by fusemux, and stopped."""

    def __init__(self, shape: str, maker: str) -> None:
        count, self.copies = SHAPES[shape]
        self.bricks = [WORK / "bricks" / f"b{i}" for i in range(count)]
        for brick in self.bricks:
            brick.mkdir(parents=True)
        self.arbiter = shape == "arbiter"
        words = ("replica", str(self.copies)) if self.replicated else ()
        words += ("arbiter", "1") if self.arbiter else ()
        self.fusemux = Fusemux()
        if maker == "fusemux":  # glusterd reads the folder of volumes when it starts
            self.fusemux.create(words, self.bricks)
        self.gluster = GlusterFS()
        if maker == "glusterfs":
            self.gluster.create(words, self.bricks)

    @property
    def replicated(self) -> bool:
        return self.copies > 1

    @property
    def victims(self) -> list[Path]:
        """A brick of each replica set."""
        return self.bricks[1 :: self.copies] if self.replicated else []

    def fusemux_writes(self) -> Iterator[Checked]:
        """fusemux writes, a copy misses a part; GlusterFS heals what fusemux recorded."""
        with self.fusemux.mounted() as point:
            self._work(point / "by-fusemux", self.fusemux.kill)
            said = picture(point)
            listed = self.fusemux.pending() if self.replicated else 0
        yield Checked("fusemux logged nothing unexpected", self._unexpected())
        if self.replicated:
            entries = [entry for brick in self.bricks for entry in index_entries(brick)]
            missing = [k for k in ("xattrop", "entry-changes") if not any(entry.startswith(k) for entry in entries)]
            yield Checked(f"a heal is pending ({listed} entries)", [f"no {kind} in the indices" for kind in missing])
        yield from self._gluster_agrees(said)

    def gluster_writes(self) -> Iterator[Checked]:
        """GlusterFS writes, a copy misses a part; fusemux heals what GlusterFS recorded."""
        self.gluster.start()
        with self.gluster.mounted() as point:
            self._work(point / "by-gluster", self.gluster.kill)
            os.sync()
        with self.gluster.mounted() as point:
            said = picture(point)
        self.gluster.stop()
        yield from self._fusemux_agrees(said)

    def gluster_alone(self) -> Iterator[Checked]:
        """For comparison: GlusterFS heals what GlusterFS wrote.  What is wrong then is not ours."""
        self.gluster.start()
        with self.gluster.mounted() as point:
            self._work(point / "alone", self.gluster.kill)
            said = picture(point)
        self.gluster.stop()
        yield from self._gluster_agrees(said)

    def fusemux_dies(self) -> Iterator[Checked]:
        """fusemux is killed in the middle of fops; GlusterFS makes the copies equal, and nothing acknowledged is lost."""
        acknowledged = {}
        for moment, (fop, nth, held) in CRASHES.items():
            if self.replicated or fop == "writev":
                top = f"crash-{len(acknowledged)}"
                acknowledged[top] = self._crash(top, fop, nth, self._held(held))
                yield Checked(f"died when {moment}", self._trace_problems(top, fop, held))
        self.gluster.start()
        with self.gluster.mounted() as point:
            for top in acknowledged:
                self._look_up(point, top)
            if self.replicated:
                self.gluster.heal()
        with self.gluster.mounted() as point:
            for top, contents in acknowledged.items():
                yield Checked(f"nothing of {top} is lost", _lost(point / top, contents))
        self.gluster.stop()
        yield Checked("the copies are equal, nothing is pending, all handles are right", self._at_rest(Times.OF_FILES))

    # -- parts -----------------------------------------------------------------------------------------------------

    def _work(self, top: Path, kill: Callable[[Path], None]) -> None:
        """Write, and let a copy of each replica set miss what is changed then."""
        populate(top)
        for brick in self.victims:
            kill(brick)
        change(top)

    def _held(self, which: str) -> list[Path]:
        """All bricks, or one of each replica set."""
        return self.bricks if which == "all" else self.victims

    def _trace_problems(self, top: str, fop: str, held: str) -> list[str]:
        """A crash that left nothing to heal would show nothing."""
        listed = [entry for brick in self.bricks for entry in index_entries(brick) if entry.startswith("dirty")]
        if self.replicated and fop in ("writev", "xattrop") and not listed:
            return ["nothing is marked dirty"]
        names = [sorted(os.listdir(brick / top)) for brick in self.bricks]
        if fop in ("create", "unlink") and all(names[i] == names[i - i % self.copies] for i in range(len(names))):
            return ["the copies have the same names"]
        return []

    def _look_up(self, point: Path, folder: str) -> None:
        """Each name that any copy has: a create or unlink that was broken off is in no index, looking heals it."""
        for name in sorted({name for brick in self.bricks for name in os.listdir(brick / folder)}):
            with contextlib.suppress(FileNotFoundError):
                os.stat(point / folder / name)

    def _gluster_agrees(self, said: dict[str, dict[str, object]]) -> Iterator[Checked]:
        self.gluster.start()
        if self.replicated:
            self.gluster.heal()
        with self.gluster.mounted() as point:
            yield Checked("GlusterFS shows what was shown before", differences(said, picture(point), ctime=False))
        yield Checked("GlusterFS's client complains of nothing", self.gluster.complaints())
        with self.gluster.mounted() as point:
            yield Checked("and again on a fresh mount", differences(said, picture(point), ctime=False))
        if self.replicated:
            yield Checked("heal info lists nothing", [] if self.gluster.pending() == 0 else ["it lists something"])
        self.gluster.stop()
        yield Checked("the copies are equal, nothing is pending, all handles are right", self._at_rest(Times.MODIFIED))

    def _fusemux_agrees(self, said: dict[str, dict[str, object]]) -> Iterator[Checked]:
        with self.fusemux.mounted() as point:
            if self.replicated:
                self.fusemux.heal()
            yield Checked("fusemux shows what GlusterFS showed", differences(said, picture(point), ctime=True))
            if self.replicated:
                yield Checked("heal info lists nothing", [] if self.fusemux.pending() == 0 else ["it lists something"])
        yield Checked("fusemux logged nothing unexpected", self._unexpected())
        yield Checked(
            "the copies are equal, nothing is pending, all handles are right",
            self._at_rest(Times.MODIFIED, "by-gluster"),
        )

    def _at_rest(self, times: Times, exact: str = "") -> list[str]:
        problems = self._pending_and_handles()
        for first in range(0, len(self.bricks), self.copies):
            problems += check_copies(self.bricks[first : first + self.copies], times, exact, arbiter=self.arbiter)
        return problems

    def _pending_and_handles(self) -> list[str]:
        return [problem for brick in self.bricks for problem in (*check_pending(brick), *check_handles(brick))]

    def _unexpected(self) -> list[str]:
        return [line for line in self.fusemux.complaints() if not any(str(brick) in line for brick in self.victims)]

    def _crash(self, name: str, fop: str, nth: int, held: list[Path]) -> dict[str, bytes]:
        """Write until the n-th `fop` hangs on some bricks, and kill the server; what was acknowledged, name to content."""
        # What the kernel gathers or writes by itself is not what dies here; and GlusterFS shall heal, not the next mount.
        point = self.fusemux.mount("nowriteback-cache", "nopassthrough", "cluster.self-heal-daemon=off")
        (point / name).mkdir()
        for brick in held:
            self.fusemux("fault", "add", "gv", "freeze", "--at", brick, "--fop", fop, "--nth", str(nth))
        with subprocess.Popen(
            [sys.executable, __file__, str(point / name)], stdout=subprocess.PIPE, text=True
        ) as writer:
            until(f"{fop} hangs", lambda: self.fusemux.faults_fired() > 0)
            self.fusemux.crash()
            said = writer.communicate()[0].split()
        return {file: _block(file) * int(count) for file, count in zip(said[::2], said[1::2], strict=True)}


def _block(name: str) -> bytes:
    return (name.encode() + b" ") * 512


def _lost(top: Path, acknowledged: dict[str, bytes]) -> list[str]:
    """What was acknowledged and is not there; more may be: what was under way."""
    problems = []
    for name, content in acknowledged.items():
        path = top / name
        if not path.exists():
            problems.append(f"{name}: is lost")
        elif not path.read_bytes().startswith(content):
            problems.append(f"{name}: has lost what was acknowledged")
    return problems


def _write_until_it_breaks(top: Path) -> None:
    """Says after each step what is acknowledged: NAME COUNT, so many blocks."""
    for i in range(8):
        fd = os.open(top / f"f{i}", os.O_CREAT | os.O_WRONLY)
        for count in range(1, 5):
            os.write(fd, _block(f"f{i}"))
            print(f"f{i} {count}", flush=True)
        os.close(fd)
        os.close(os.open(top / f"f{i}.gone", os.O_CREAT | os.O_WRONLY))
        os.unlink(top / f"f{i}.gone")


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        _write_until_it_breaks(Path(sys.argv[1]))
