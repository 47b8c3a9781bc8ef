"""Named points in the middle of a translator's work at which the process can be told to die.

A translator that has such points names them in `crash_points` and, at each, asks `self.crash` if there is something there.  A fault
of action `kill` with a crash point is armed on the translator, not on an edge; what it selects (fops, path, nth, rate) is
what other faults select.  While nothing is armed a point is one look at an attribute, off the plain way altogether.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fusemux.graph.debug.fault import Fault, FaultWeaver, die
from fusemux.graph.framework.fops import FOPS
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.translator import Translator

__all__ = ["CrashPoints", "arm", "disarm"]

log = logging.getLogger("fusemux.fault")


class CrashPoints:
    """What is armed on one translator: it is what the translator calls."""

    def __init__(self, translator: Translator) -> None:
        self.faults: list[Fault] = []
        self._translator = translator
        self._paths = FaultWeaver(Edge(translator))

    async def __call__(self, point: str, fops: frozenset[str], args: Sequence[Any]) -> None:
        """The translator is at `point` of one of `fops`, with its arguments as far as they are known."""
        for fault in self.faults:
            meant = fault.fops & fops if fault.fops else fops
            if fault.crash_point != point or not meant or fault.spent:
                continue
            if await self._paths.matches(fault, FOPS[min(meant)], args) and fault.due():
                log.warning("injected %s at %s of %s in %s", fault, point, min(meant), self._translator.name)
                die()


def arm(translator: Translator, fault: Fault) -> None:
    """Have the process die at `fault.crash_point` of `translator`."""
    points = getattr(translator, "crash", None) or CrashPoints(translator)
    points.faults.append(fault)
    translator.crash = points  # type: ignore[attr-defined]  # who has crash points has this
    translator.graph.relink()


def disarm(translator: Translator, fault: Fault) -> None:
    """ValueError when it is not armed there."""
    points = getattr(translator, "crash", None)
    if points is None:
        raise ValueError("nothing is armed here")
    points.faults.remove(fault)
    if not points.faults:
        translator.crash = None  # type: ignore[attr-defined]
    translator.graph.relink()
