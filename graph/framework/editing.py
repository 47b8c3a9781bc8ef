"""Give a running graph other translators without anybody noticing: bricks are added or removed under open files.

    hold     new calls wait at the top; what runs by itself is stopped; calls that are inside come to their end
    edit     what differs is built anew, all else goes on
    let go   the calls that waited enter the new graph

A translator goes on when its name, type and children are the same; new options are given to it.  One whose children
differ is built anew and takes over (`Translator.adopt`) what its predecessor knew: the edges to children that stay are the very
same objects, with the faults that are set on them, and so is the edge that leads to it.  Inodes and open files keep their
identity; their slots are extended, and those of translators that have gone are emptied and used again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import trio

from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.fops import FOP_NAMES
from fusemux.graph.framework.inode import Fd
from fusemux.graph.framework.linking import Edge, Method
from fusemux.graph.framework.translator import Event

if TYPE_CHECKING:
    from fusemux.graph.framework.graph import Graph
    from fusemux.graph.framework.inode import Inode
    from fusemux.graph.framework.translator import Translator
    from fusemux.graph.framework.volfile import Section

__all__ = ["Gate", "edit"]

PATIENCE_S = 10  # for calls that are inside
_LOOK_S = 0.002
_ENDLESS = ("lk",)  # waits as long as somebody else holds a lock, so it is not waited for


class Gate:
    """At the top of a graph: counts the calls that are inside, where they can wait at all, and holds new ones when asked to."""

    def __init__(self) -> None:
        self.inside = 0
        self._opened: trio.Event | None = None

    @property
    def closed(self) -> bool:
        return self._opened is not None

    def install(self, top: Edge) -> None:
        """`top` was bound anew.  A graph that never waits is empty whenever somebody asks, so its calls are not counted."""
        if self.closed:
            top.now = {}
            for name in FOP_NAMES:
                setattr(top, name, self._waiting(top, name))
        elif top.suspends:
            for name in FOP_NAMES:
                if name not in _ENDLESS:
                    setattr(top, name, self._counted(getattr(top, name)))

    def _counted(self, method: Method) -> Method:
        async def call(*args: Any) -> Any:
            self.inside += 1
            try:
                return await method(*args)
            finally:
                self.inside -= 1

        return call

    def _waiting(self, top: Edge, name: str) -> Method:
        async def call(*args: Any) -> Any:
            while self._opened is not None:
                await self._opened.wait()
            for arg in args:
                if isinstance(arg, Fd):  # which nobody but this call knows of when it is about to be opened
                    top.translator.graph.itable.widen(arg)
            return await getattr(top, name)(*args)

        return call

    async def close(self, graph: Graph) -> None:
        """No call enters until `open`; returns when none is inside.  Raises FusemuxError when some do not end, and is open then."""
        self._opened = trio.Event()
        self.install(graph.top)
        for translator in graph.translators.values():
            translator.pause()
        with trio.move_on_after(PATIENCE_S):
            while self.inside or any(translator.busy for translator in graph.translators.values()):
                await trio.sleep(_LOOK_S)
            return
        count = self.inside
        self.open(graph)
        raise FusemuxError(
            f"calls on the volume do not come to an end ({count} wait): a brick that is frozen or delayed? "
            "`fusemux fault list` shows faults; nothing was changed"
        )

    def open(self, graph: Graph) -> None:
        opened, self._opened = self._opened, None
        graph.relink()
        for translator in graph.translators.values():
            translator.resume()
        if opened is not None:
            opened.set()


async def edit(graph: Graph, sections: Sequence[Section], fds: Iterable[Fd]) -> None:
    """Make `graph` that of `sections`; `fds` are all open files.  The gate is closed.

    Raises FusemuxError when a translator cannot be built or started, or refuses an option, and then nothing was changed.
    """
    old = dict(graph.translators)
    before = {section.name: section for section in graph.sections}
    kept = {s.name for s in sections if s.name in old and _same(s, before[s.name])}
    fresh = {s.name: graph.make(s) for s in sections if s.name not in kept}
    gone = [translator for name, translator in old.items() if name not in kept]
    for translator in reversed(gone):
        await translator.drain()
    was = _Structure(graph)
    _connect(graph, sections, old, fresh)
    emptied = _give_slots(graph, gone, fresh)
    open_files = list(fds)
    _extend(graph, open_files)
    try:
        await _start(graph, sections, fresh)
    except BaseException:
        was.restore(graph)
        raise
    for translator in emptied:
        _empty(graph, translator, open_files)
    graph.watch_forgetting()
    graph.sections = list(sections)
    graph.relink()
    _begin(old, fresh, open_files)
    for translator in reversed(gone):
        await translator.fini()
        graph.process.withdraw(translator)


def _same(section: Section, before: Section) -> bool:
    return (section.type, section.subvolumes) == (before.type, before.subvolumes)


class _Structure:
    """How the translators of a graph are connected."""

    def __init__(self, graph: Graph) -> None:
        self.translators = dict(graph.translators)
        self.parents = {t: list(t.parents) for t in self.translators.values()}
        self.children = {t: list(t.children) for t in self.translators.values()}
        self.edges = [
            (edge, edge.translator, edge.parent, edge.index)
            for edge in (graph.top, *(edge for t in self.translators.values() for edge in t.children))
        ]

    def restore(self, graph: Graph) -> None:
        graph.translators = self.translators
        for translator in self.translators.values():
            translator.parents = self.parents[translator]
            translator.children = self.children[translator]
        for edge, translator, parent, index in self.edges:
            edge.translator, edge.parent, edge.index = translator, parent, index
        graph.collect_edges()
        graph.relink()


def _connect(
    graph: Graph, sections: Sequence[Section], old: dict[str, Translator], fresh: dict[str, Translator]
) -> None:
    """Put the new translators in the old ones' places."""
    inside = set(old.values())
    outside = {name: [parent for parent in t.parents if parent not in inside] for name, t in old.items()}
    graph.translators = {s.name: fresh.get(s.name) or old[s.name] for s in sections}
    for name, translator in graph.translators.items():
        translator.parents = outside.get(name, [])
    for section in sections:
        translator = graph.translators[section.name]
        known = {edge.name: edge for edge in (old[section.name].children if section.name in old else ())}
        if section.name in fresh:
            translator.children = [known.get(name) or Edge(graph.translators[name]) for name in section.subvolumes]
        for index, edge in enumerate(translator.children):
            edge.translator, edge.parent, edge.index = graph.translators[edge.name], translator, index
            edge.translator.parents.append(translator)
    graph.top.translator = graph.translators[sections[-1].name]
    graph.collect_edges()


def _give_slots(graph: Graph, gone: list[Translator], fresh: dict[str, Translator]) -> list[Translator]:
    """Slots for the new translators: their predecessors', or those of others that have gone; the latter must be emptied."""
    table = graph.itable
    predecessors = {successor: t for t in gone if (successor := _successor(t, fresh)) is not None}
    emptied = [t for t in gone if t not in predecessors.values()]
    inode_slots = [t.inode_slot for t in emptied if t.inode_slots]
    fd_slots = [t.fd_slot for t in emptied if t.fd_slots]
    for translator in fresh.values():
        translator.graph = graph
        predecessor = predecessors.get(translator)
        if predecessor is not None:
            translator.inode_slot, translator.fd_slot = predecessor.inode_slot, predecessor.fd_slot
            continue
        if translator.inode_slots:
            translator.inode_slot = inode_slots.pop() if inode_slots else table.inode_slots
            table.inode_slots = max(table.inode_slots, translator.inode_slot + 1)
        if translator.fd_slots:
            translator.fd_slot = fd_slots.pop() if fd_slots else table.fd_slots
            table.fd_slots = max(table.fd_slots, translator.fd_slot + 1)
    return emptied


def _successor(gone: Translator, fresh: dict[str, Translator]) -> Translator | None:
    found = fresh.get(gone.name)
    return found if found is not None and found.type == gone.type else None


def _extend(graph: Graph, fds: list[Fd]) -> None:
    table = graph.itable
    for inode in _inodes(graph):
        inode.ctx.extend([None] * (table.inode_slots - len(inode.ctx)))
    for fd in fds:
        table.widen(fd)


def _empty(graph: Graph, gone: Translator, fds: list[Fd]) -> None:
    if gone.inode_slots:
        for inode in _inodes(graph):
            inode.ctx[gone.inode_slot] = None
    if gone.fd_slots:
        for fd in fds:
            fd.ctx[gone.fd_slot] = None


def _inodes(graph: Graph) -> list[Inode]:
    return [*graph.itable.active.values(), *graph.itable.unused.values()]


async def _start(graph: Graph, sections: Sequence[Section], fresh: dict[str, Translator]) -> None:
    """Start the new translators and give the others their options; all of it, or nothing."""
    begun: list[Translator] = []
    try:
        for translator in fresh.values():
            await translator.init()
            begun.append(translator)
        graph.give_options(sections)
    except BaseException:
        for translator in reversed(begun):
            await translator.fini()
        for translator in fresh.values():
            graph.process.withdraw(translator)
        raise


def _begin(old: dict[str, Translator], fresh: dict[str, Translator], fds: list[Fd]) -> None:
    """The new translators take over, and hear of their parents and children."""
    for name, translator in fresh.items():
        predecessor = old.get(name)
        translator.adopt(predecessor if predecessor is not None and predecessor.type == translator.type else None)
    for translator in fresh.values():
        if not any(parent in fresh.values() for parent in translator.parents):
            translator.notify(Event.PARENT_UP)
    for translator in fresh.values():
        translator.adopt_open(fds)
