"""cluster/distribute: one volume out of several subvolumes; each file lies whole on one of them.

Which one, its name tells: every directory divides the hashes of names among the subvolumes (hash.py, layout.py).  Nothing else is
kept anywhere, so a lookup or a create asks one subvolume.  When a file cannot be where its name hashes (it was renamed, or there
was no room) a linkto file there points to it (linkto.py).

The pure modules decide: hash, layout, directory (surveys and healing), rename_plan, space.  The others perform: linkto, heal and
vouching vouching what several fops need, and fops/ the fops themselves.  This one holds them together: life cycle, events, and the
volume of a single subvolume, where all fops but a few pass through and layouts are written all the same, so that subvolumes
can be added later.

Not here: rebalance.  What it would need is kept (commit hashes, options).

Source: GlusterFS cluster/distribute (design facts, dht).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusemux.graph.cluster.distribute.directory import Directory
from fusemux.graph.cluster.distribute.fops.metadata import Metadata
from fusemux.graph.cluster.distribute.options import OPTIONS, RebalanceSettings
from fusemux.graph.framework.inode import Fd
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.translator import Event, Translator

__all__ = ["Distribute"]

# With one child only what concerns layouts and their xattrs stops here.
_SINGLE = frozenset({"mkdir", "getxattr", "setxattr", "removexattr"})


class Distribute(Metadata):
    type = "cluster/distribute"
    repeats = True
    children_max = None
    options = OPTIONS

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._reported: set[int] = set()
        self._serving: bool | None = None  # what the parents were told; None: nothing yet

    @property
    def flushes(self) -> bool:
        return any(edge.flushes for edge in self.children)

    @property
    def passes(self) -> bool:
        return any(edge.passes for edge in self.children)

    def backing(self, fd: Fd) -> int | None:
        """A file lies whole on one child; it passes if that one does."""
        edge = fd.inode.ctx[self.inode_slot] if len(self.children) > 1 else self.children[0]
        return edge.backing(fd) if edge.__class__ is Edge else None

    def intercepts(self, fop: str) -> bool:
        return super().intercepts(fop) and (len(self.children) > 1 or fop in _SINGLE)

    async def init(self) -> None:
        await super().init()
        self.up = [False] * len(self.children)

    def linked(self) -> None:
        super().linked()
        self.learn_leaves()

    @property
    def busy(self) -> bool:
        return bool(self.locks.held)

    def adopt(self, old: Translator | None) -> None:
        """Other subvolumes: files are where they were, directories are asked for anew."""
        if not isinstance(old, Distribute):
            return
        self.generation = old.generation + 1
        self._serving = old._serving
        for edge in self.children:
            if edge in old.children:
                place = old.children.index(edge)
                self.up[edge.index] = old.up[place]
                self._reported |= {edge.index} if place in old._reported else set()
        for inode in (*self.table.active.values(), *self.table.unused.values()):
            known = inode.ctx[self.inode_slot]
            if isinstance(known, Edge) and known not in self.children:  # its set is another translator now
                place = old.children.index(known)
                inode.ctx[self.inode_slot] = self.children[place] if place < len(self.children) else None

    def reconfigure(self, given: Mapping[str, str]) -> None:
        super().reconfigure(given)
        if self._serving is not None:
            self._announce(None)

    # -- events ----------------------------------------------------------------------------------------------

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        if event not in (Event.CHILD_UP, Event.CHILD_DOWN) or source is None:
            super().notify(event, source, data)
            return
        is_up = event is Event.CHILD_UP
        changed = False
        for edge in self.children:
            if edge.translator is source:
                changed = changed or self.up[edge.index] != is_up
                self.up[edge.index] = is_up
                self._reported.add(edge.index)
        self.linked()
        if changed:
            self.generation += 1
            self.space.forget()
        if len(self._reported) == len(self.children):
            self._announce(event if changed else None)
            if changed:
                self._tell_stale()

    def _announce(self, event: Event | None) -> None:
        """Tell the parents whether this volume serves: first when every subvolume has reported, then when it changes."""
        serving = all(self.up) if self.opt.assert_no_child_down else any(self.up)
        if serving != self._serving:
            self._serving = serving
            Translator.notify(self, Event.CHILD_UP if serving else Event.CHILD_DOWN, self)
        elif event is not None and serving:
            came = event is Event.CHILD_UP
            Translator.notify(self, Event.SOME_DESCENDENT_UP if came else Event.SOME_DESCENDENT_DOWN, self)

    def _tell_stale(self) -> None:
        """Listings that were cached above lack what is back, or show what is away."""
        for inode in list(self.table.active.values()):
            if isinstance(inode.ctx[self.inode_slot], Directory):
                Translator.notify(self, Event.UPCALL, self, inode)

    # -- what it says of itself ------------------------------------------------------------------------------

    def statedump(self) -> dict[str, Any]:
        space = [None if s is None else {"blocks": s.blocks, "bavail": s.bavail} for s in self.space.stats]
        return {
            "subvolumes": {name: "up" if up else "down" for name, up in zip(self.names, self.up, strict=True)},
            "generation": self.generation,
            "commit-hash": self.volume_commit,
            "layouts": len(self._layouts),
            "locks": len(self.locks.held),
            "filled": [self.names[place] for place, full in enumerate(self.space.filled) if full],
            "space": space,
            "rebalance": RebalanceSettings.of(self.opt)._asdict(),
        }
