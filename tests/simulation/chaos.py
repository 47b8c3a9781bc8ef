"""What is woven into the edge above each brick: before and after each call it asks the simulation what happens."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fops import Fop
from fusemux.graph.framework.linking import Method

if TYPE_CHECKING:
    from tests.simulation.run import Simulation

__all__ = ["Chaos", "Failure", "Killed"]

_UNTOUCHED = frozenset({"release", "inodelk", "entrylk"})


class Failure(AssertionError):
    """The run of a seed broke a promise."""


class Killed(BaseException):
    """The serving process was killed: whoever is asked for something in it goes no further."""


class Chaos:
    def __init__(self, sim: Simulation, brick: int, *, suspends: bool) -> None:
        self.sim = sim
        self.brick = brick
        self.suspends = suspends

    def weave(self, fop: Fop, method: Method) -> Method:
        if fop.name in _UNTOUCHED:
            return self._until_death(method)
        sim, brick, name = self.sim, self.brick, fop.name

        async def call(*args: Any) -> Any:
            without_space = await sim.before(brick, name)
            if without_space:
                return await self._without_space(fop, method, args)
            reply = await method(*args)
            await sim.after(brick)
            return reply

        return call

    def _until_death(self, method: Method) -> Method:
        async def call(*args: Any) -> Any:
            if self.sim.dead:
                raise Killed
            return await method(*args)

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
