"""Which children of a replica set are up, since when, and what the translators above are told.  Pure.

`generation` grows with every child that comes or goes: whatever was learned from the copies holds for one generation.
`since` is the generation in which a child came up last: a file opened before that is not open there any more.

The set serves when the children that are up make a quorum.  Nothing is told upwards before all children have reported,
or have been waited for long enough (`all_reported`): else a mount would start on a single stale copy.
"""

from __future__ import annotations

from fusemux.graph.cluster.replicate.quorum import Quorum
from fusemux.graph.framework.translator import Event

__all__ = ["Members"]


class Members:
    def __init__(self, count: int, quorum: Quorum) -> None:
        self.count = count
        self.everyone = (1 << count) - 1
        self.quorum = quorum
        self.up = 0
        self.generation = 1
        self.since = [0] * count
        self.reported = 0
        self.serving: bool | None = None  # what was told upwards; None: nothing yet

    @property
    def complete(self) -> bool:
        return self.up == self.everyone

    @property
    def all_reported(self) -> bool:
        return self.reported == self.everyone

    def change(self, child: int, up: bool) -> Event | None:
        """A child came up or went down; the event to pass upwards."""
        bit = 1 << child
        first = not self.reported & bit
        self.reported |= bit
        if up == bool(self.up & bit):
            return self.announce() if first else None
        self.generation += 1
        self.up ^= bit
        if up:
            self.since[child] = self.generation
        return self.announce(Event.SOME_DESCENDENT_UP if up else Event.SOME_DESCENDENT_DOWN)

    def announce(self, otherwise: Event | None = None, *, waited: bool = False) -> Event | None:
        """CHILD_UP or CHILD_DOWN when whether the set serves has changed, else `otherwise`."""
        if self.serving is None and not (self.all_reported or waited):
            return None
        serves = self.quorum(self.up)
        if serves == self.serving:
            return otherwise
        self.serving = serves
        return Event.CHILD_UP if serves else Event.CHILD_DOWN
