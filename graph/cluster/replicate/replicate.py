"""cluster/replicate: every file on all children, and on each a record of what the others have missed.

The decisions are pure modules: changelog.py (what to record), readable.py (which copies are good), naming.py (whether a name
exists), quorum.py, errors.py, members.py (who is up), heal/direction.py (who heals whom).  They are performed by core.py (what is known
of the copies), transaction.py (names and attributes), writing.py (data), the fops in fops/ and the self-healer in heal/.

The format on the bricks and the order of steps are GlusterFS's; where this differs, changelog.py says why.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from fusemux.graph.cluster.replicate.eager import Opened
from fusemux.graph.cluster.replicate.fops.entries import Entries
from fusemux.graph.cluster.replicate.fops.locking import Locking
from fusemux.graph.cluster.replicate.fops.lookup import Lookup
from fusemux.graph.cluster.replicate.fops.metadata import Metadata
from fusemux.graph.cluster.replicate.fops.reads import Reads
from fusemux.graph.cluster.replicate.heal.healer import Healer
from fusemux.graph.framework.inode import Fd
from fusemux.graph.framework.process import Past
from fusemux.graph.framework.translator import Event, Translator

__all__ = ["Replicate"]

log = logging.getLogger("fusemux.replicate")

GRACE_S = 10  # how long children that say nothing are waited for


class Replicate(Reads, Entries, Metadata, Locking, Lookup):
    type = "cluster/replicate"
    repeats = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.healer = Healer(self)
        self._healing: trio.CancelScope | None = None
        self._waiting: trio.CancelScope | None = None
        self._old: Replicate | None = None  # whose place this one has taken a moment ago

    @property
    def flushes(self) -> bool:
        """A close(2) has nothing to report that a write has not: the dirty mark is cleared by `release`, soon after."""
        return any(edge.flushes for edge in self.children)

    # -- the graph is edited ---------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return bool(self.locks.held or self.healer.at_work)

    def pause(self) -> None:
        if self._healing is not None:
            self._healing.cancel()
            self._healing = None
        self.healer.interrupt()

    def resume(self) -> None:
        if self._healing is None and self.graph.started:
            self._healing = self.process.spawn(self.healer.run, name=f"{self.name}: self-heal")
            self.healer.ask()

    def adopt(self, old: Translator | None) -> None:
        """Other children: what was known of the copies of each inode holds no more."""
        self._old = old if isinstance(old, Replicate) else None
        for inode in (*self.graph.itable.active.values(), *self.graph.itable.unused.values()):
            inode.ctx[self.inode_slot] = None

    def adopt_open(self, fds: Sequence[Fd]) -> None:
        old, self._old = self._old, None
        if old is not None:
            self.trust.follow(old.trust, {e.index: old.children.index(e) for e in self.children if e in old.children})
            self.settle_ways()
        for fd in fds:
            have = self.has_open(fd)
            if have == self.members.everyone:
                fd.ctx[self.fd_slot] = self.opened
            else:
                fd.ctx[self.fd_slot] = Opened(self.generation, have) if have else None

    async def drain(self) -> None:
        for task in (self._healing, self._waiting):
            if task is not None:
                task.cancel()
        self._healing = self._waiting = None
        self.healer.accessed.stop()
        await super().drain()

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        if event in (Event.CHILD_UP, Event.CHILD_DOWN):
            self._child_changed(source, event is Event.CHILD_UP, data if isinstance(data, Past) else Past.NEW)
            return
        super().notify(event, source, data)
        if event is Event.PARENT_UP and self._healing is None:
            self._healing = self.process.spawn(self.healer.run, name=f"{self.name}: self-heal")
        if event is Event.PARENT_UP and not self.members.all_reported:
            self._waiting = self.process.spawn(self._wait_no_longer, name=f"{self.name}: waiting for children")

    def _child_changed(self, source: Translator | None, up: bool, past: Past) -> None:
        child = next(edge for edge in self.children if edge.translator is source)
        log.info("%s: %s is %s", self.name, child.name, "up" if up else "down")
        if up:
            self.trust.came(child.index, past, first=not self.members.reported >> child.index & 1)
        else:
            self.trust.went(child.index)
        event = self.members.change(child.index, up)
        self.settle_ways()
        self._tell(event)
        if up and self.members.complete:
            self.healer.ask()

    def _tell(self, event: Event | None) -> None:
        if event is None:
            return
        if event is Event.CHILD_DOWN:
            log.warning("%s: the copies that are up are no quorum any more", self.name)
        super().notify(event, self)

    async def _wait_no_longer(self) -> None:
        await trio.sleep(GRACE_S)
        self._tell(self.members.announce(waited=True))

    def reconfigure(self, given: Mapping[str, str]) -> None:
        super().reconfigure(given)
        self._tell(self.members.announce())

    def statedump(self) -> dict[str, Any]:
        members = self.members
        up = {edge.name: bool(members.up >> edge.index & 1) for edge in self.children}
        return {
            "children": up,
            "quorum": members.quorum(members.up),
            "generation": members.generation,
            "dirty-files": len(self.eager),
            "locked-inodes": len(self.locks.held),
            "read-policy": str(self.policy),
        }
