"""A graph: the translators of one volfile, built, linked, started, reconfigured, stopped.

Building resolves types and options; `start` initialises children first, links, and sends PARENT_UP from the top; `stop`
sends PARENT_DOWN, waits for what was delayed, and finalises parents first.  `reconfigure` takes a new volfile: with the
same names, types and children the new options are given to the running translators (all of them, or, when one refuses,
none); otherwise `TopologyChanged` says that the graph must be edited, or another built beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from fusemux.graph.framework import registry, volfile
from fusemux.graph.framework.editing import Gate, edit
from fusemux.graph.framework.errors import FusemuxError, OptionError
from fusemux.graph.framework.inode import Fd, Inode, InodeTable
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Event, Translator
from fusemux.graph.framework.volfile import Section, VolfileError

__all__ = ["Graph", "TopologyChanged"]

log = logging.getLogger("fusemux.graph")


class TopologyChanged(FusemuxError):
    """The new volfile has other translators or other edges: build a new graph."""


class Graph:
    """The running form of one volfile.  `top` is the edge through which fops enter."""

    def __init__(
        self, sections: Sequence[Section], process: Process, *, source: str = "volfile", lru_limit: int = 16384
    ) -> None:
        """Build, not start.  Raises VolfileError, which names the line, and OptionError."""
        self.process = process
        self.source = source
        self.sections = list(sections)
        self.warnings: list[str] = []
        self.translators: dict[str, Translator] = {}
        for section in self.sections:
            self._build(section)
        self.collect_edges()
        self.top = Edge(self.translators[self.sections[-1].name])
        self.itable = self._inode_table(lru_limit)
        self.gate = Gate()
        self.started = False

    # -- building --------------------------------------------------------------------------------------------

    def collect_edges(self) -> None:
        """The edges to be bound, from the leaves up."""
        self._edges = [edge for translator in self.translators.values() for edge in translator.children]

    def _build(self, section: Section) -> None:
        translator = self.make(section)
        for index, name in enumerate(section.subvolumes):
            child = self.translators[name]
            child.parents.append(translator)
            translator.children.append(Edge(child, translator, index))
        self.translators[section.name] = translator

    def make(self, section: Section) -> Translator:
        """The translator of `section`, not connected yet.  Raises VolfileError."""
        self.warnings += section.warnings
        cls = registry.find(section.type)
        if cls is None:
            cls = self._absent(section)
        count = len(section.subvolumes)
        if count < cls.children_min or (cls.children_max is not None and count > cls.children_max):
            wanted = f"{cls.children_min}" if cls.children_min == cls.children_max else f"at least {cls.children_min}"
            raise VolfileError(
                self.source, section.line, f"{section.type} {section.name!r} takes {wanted} subvolumes, got {count}"
            )
        try:
            translator = cls(section.name, section.options, self.process)
        except OptionError as error:
            raise VolfileError(self.source, section.line, f"{section.name!r}: {error}") from None
        self.warnings += [
            f"{self._place(section.line)}: {section.type} {section.name!r} has no option {option!r}, ignored"
            for option in translator.unknown_options
            if cls is not registry.Transparent
        ]
        return translator

    def _absent(self, section: Section) -> type[Translator]:
        if not registry.stand_in(section.type, section.options):
            hint = registry.suggestion(section.type) if section.type_line else ""
            raise VolfileError(
                self.source, section.type_line, f"there is no translator {section.type!r} ({section.name!r}) here{hint}"
            )
        self.warnings.append(
            f"{self._place(section.type_line)}: {section.type} {section.name!r} is not there yet, passed through"
        )
        return registry.Transparent

    def _place(self, line: int) -> str:
        return f"{self.source}, line {line}" if line else self.source

    def _inode_table(self, limit: int) -> InodeTable:
        inode_slots = fd_slots = 0
        for translator in self.translators.values():
            if translator.inode_slots:
                translator.inode_slot = inode_slots
                inode_slots += 1
            if translator.fd_slots:
                translator.fd_slot = fd_slots
                fd_slots += 1
            translator.graph = self
        self.itable = InodeTable(inode_slots=inode_slots, fd_slots=fd_slots, limit=limit)
        self.watch_forgetting()
        return self.itable

    def watch_forgetting(self) -> None:
        """Tell those translators that want to know when an inode is forgotten."""
        forgetful = [t for t in self.translators.values() if type(t).forget is not Translator.forget]

        def forget(inode: Inode) -> None:
            for translator in forgetful:
                translator.forget(inode)

        self.itable.on_forget = forget if forgetful else None

    # -- running ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Initialise children first, link, and tell the top that its parent is up.

        When one translator cannot start, those already started are finalised and its FusemuxError goes on.
        """
        begun: list[Translator] = []
        try:
            for translator in self.translators.values():
                await translator.init()
                begun.append(translator)
        except BaseException:
            for translator in reversed(begun):
                await translator.fini()
            for translator in self.translators.values():
                self.process.withdraw(translator)
            raise
        self.relink()
        self.started = True
        self.top.translator.notify(Event.PARENT_UP)

    def relink(self) -> None:
        """Bind all edges anew, from the leaves up: after a layer switched itself on or off, or came up or down."""
        self.process.links += 1
        for edge in self._edges:
            edge.bind(strict=self.process.strict)
        self.top.bind(strict=self.process.strict)
        self.gate.install(self.top)
        for translator in self.translators.values():
            translator.linked()

    async def stop(self) -> None:
        """No more fops will come: finish what is delayed, then finalise parents first."""
        if not self.started:
            return
        self.started = False
        self.top.translator.notify(Event.PARENT_DOWN)
        for translator in reversed(self.translators.values()):
            await translator.drain()
        for translator in reversed(self.translators.values()):
            await translator.fini()
            self.process.withdraw(translator)

    def reconfigure(self, sections: Sequence[Section]) -> None:
        """Give new option values to the running translators; all of them, or none.

        Raises TopologyChanged when more than options differ, OptionError when a value is refused.
        """
        if [(s.name, s.type, s.subvolumes) for s in sections] != [
            (s.name, s.type, s.subvolumes) for s in self.sections
        ]:
            raise TopologyChanged("the volume's graph has changed, it needs a new mount")
        self.give_options(sections)
        self.sections = list(sections)
        if self.started:
            self.relink()

    def give_options(self, sections: Sequence[Section]) -> None:
        """Tell the translators whose options differ; when one refuses, those before it get theirs back."""
        done: list[tuple[Translator, dict[str, str]]] = []
        try:
            for section in sections:
                translator = self.translators[section.name]
                if translator.given != section.options:
                    done.append((translator, translator.given))
                    translator.reconfigure(section.options)
        except BaseException:
            for translator, before in reversed(done):
                translator.reconfigure(before)
            raise

    async def edit(self, sections: Sequence[Section], fds: Iterable[Fd] = ()) -> None:
        """Become the graph of `sections` while running (editing.py); `fds` are all files that are open in it.

        The gate must be closed.  Raises FusemuxError when it cannot be built, and then nothing was changed.
        """
        await edit(self, sections, fds)


def build(text: str, process: Process, *, source: str = "volfile", lru_limit: int = 16384) -> Graph:
    """Parse and build in one step; warnings go to the log."""
    graph = Graph(volfile.parse(text, source), process, source=source, lru_limit=lru_limit)
    for warning in graph.warnings:
        log.info("%s", warning)
    return graph
