"""A mounted volume of a test: what the fixture `fusemux_volume` is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from fusemux.graph.framework import volfile
from fusemux.graph.framework.errors import FusemuxError
from fusemux.serve.control import Unreachable
from fusemux.serve.unmounting import write_back
from fusemux.testing.brick import Brick
from fusemux.testing.copies import Comparison, compare
from fusemux.testing.faults import Faults, NotFired
from fusemux.testing.place import Place, sets_of
from fusemux.testing.report import POLL_S, NotHealed, pending, report
from fusemux.testing.server import ServerProcess
from fusemux.testing.wish import Wish

__all__ = ["Volume"]

_MARGIN_S = 30


class Volume:
    """A volume that is mounted at `path` and served by a process of its own, `pid`."""

    def __init__(self, wish: Wish, seed: int) -> None:
        """Mounts it.  Raises FusemuxError, and then leaves nothing."""
        self.seed = seed
        self.random = Random(seed)
        self._place = Place(wish)
        self.path: Path = self._place.path
        self.name: str = self._place.source.name
        self.env: dict[str, str] = self._place.environment  # for `fusemux` commands about this volume
        self.faults = Faults(self.order, lambda: self.random.getrandbits(32))
        self.bricks: Sequence[Brick] = [
            Brick(index, Path(spec.path), self.order, self.faults.at(str(index)), spec.ramdisk_bytes)
            for index, spec in enumerate(self._place.source.bricks)
        ]
        self._server = ServerProcess(self._place, wish.mount_options)
        try:
            self._server.start()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The serving process."""
        return self._server.pid

    @property
    def log(self) -> str:
        """What the serving process had to warn of."""
        return self._place.log.read_text(errors="replace") if self._place.log.exists() else ""

    def brick(self, index: int) -> Brick:
        return self.bricks[index]

    def order(self, op: str, **arguments: Any) -> Any:
        """Ask the serving process about this volume.  Raises Refused, Unreachable."""
        patience = arguments.get("within_s", 0) + _MARGIN_S
        return self._server.ask(op, volume=self.name, timeout_s=patience, **arguments)

    # -- the process -----------------------------------------------------------------------------------------

    def crash(self) -> None:
        """kill -9 of the serving process, and a new one with the same bricks.

        What had reached the bricks is there; what the kernel had not handed over, and every open file, is lost.  Faults are gone.
        """
        self._forget_faults()
        self._server.kill()
        self._server.start()

    def power_cut(self) -> None:
        """The machine loses power: what was written and not synced is gone from every brick.  Then as `crash`."""
        self._forget_faults()
        self.order("brick-power-cut")
        self._server.kill()
        self._server.start()

    def remount(self) -> None:
        """Unmount in good order, and mount again.  Raises RuntimeError when the server had to be killed."""
        self._forget_faults()
        self._server.end()
        self._server.start()

    def wait_killed(self, *, within_s: float = 5) -> None:
        """Until a fault has killed the serving process; then `crash` starts another.  Raises NotFired when none does."""
        if not self._server.wait_ended(within_s):
            raise NotFired(f"the serving process of {self.name} is still there after {within_s:g} s")

    def _forget_faults(self) -> None:
        for fault in self.faults:
            with contextlib.suppress(Unreachable):  # it may be this fault that has killed the server
                fault.look()
            fault.gone = True

    # -- healing ---------------------------------------------------------------------------------------------

    def heal(self, *, full: bool = False) -> list[dict[str, Any]]:
        """Heal what is pending, or look at everything; how it went, for each replica set."""
        rows: list[dict[str, Any]] = self.order("heal", full=full)
        return rows

    def heal_info(self) -> list[dict[str, Any]]:
        """For each brick: `brick`, `up`, and `entries`, what it lists as pending (None while it is down)."""
        rows: list[dict[str, Any]] = self.order("heal-info")
        return rows

    def wait_healed(self, *, within_s: float = 5) -> None:
        """Heal until no brick lists anything as pending.  Raises NotHealed: a brick is down, or something cannot be healed."""
        deadline = time.monotonic() + within_s
        while True:
            self.heal()
            rows = self.heal_info()
            if all(row["entries"] == [] for row in rows):
                return
            if time.monotonic() > deadline:
                raise NotHealed(f"not healed within {within_s:g} s:\n{pending(rows)}")
            time.sleep(POLL_S)

    def bricks_identical(self) -> Comparison:
        """Whether all copies are equal; false, and with what differs in its repr, when not."""
        write_back(str(self.path))
        return compare(sets_of(self._place.current()))

    # -- what happened ---------------------------------------------------------------------------------------

    def calls(self, count: int = 50) -> list[str]:
        """The last calls that came through the mount."""
        lines: list[str] = self.order("history", count=count)
        return lines

    @property
    def graph(self) -> str:
        """The client's graph, as a volfile."""
        return volfile.write(self._place.current().client_graph())

    def report(self) -> str:
        """What to know when a test has failed."""
        try:
            calls = self.calls()
            for fault in self.faults:
                fault.look()
        except (FusemuxError, RuntimeError, OSError) as error:
            calls = [f"(the serving process does not answer: {error})"]
        head = f"volume {self.name} at {self.path}, seed {self.seed}"
        return report(head, [str(fault) for fault in self.faults], calls, self.log, self.graph)

    def close(self) -> None:
        """Unmount, end the process, remove everything.  Never raises; again: nothing."""
        try:
            if self._server.running:
                self._server.ask("fault-clear", volume=self.name, timeout_s=5)  # what is frozen could not be unmounted
        except (FusemuxError, Unreachable, OSError):
            pass
        self._server.end()
        self._place.remove()
