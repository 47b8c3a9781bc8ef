"""The translator: one layer of the graph.

A translator subclasses `Translator`, declares its volfile type, how many children it takes and its
options, and writes only the fops it intercepts:

    class Noatime(Translator):
        type = "features/noatime"

        async def readv(self, frame, fd, size, offset, xdata=None):
            return await self.child.readv(frame, fd, size, offset, xdata)

`self.child.readv` is bound, when the graph is linked, straight to the nearest translator below that
implements `readv`: what a layer does not intercept costs nothing.  A translator that treats all fops
alike writes `async def around(self, fop, next, *args)` instead and calls `await next(*args)`.

Life cycle: `init` children first, then `notify(PARENT_UP)` from the top; `reconfigure` with new option values while
running; `fini` parents first.  Events travel from child to parent by default; see `notify`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from fusemux.graph.framework.options import Option, parse_options

if TYPE_CHECKING:
    from fusemux.graph.framework.graph import Graph
    from fusemux.graph.framework.inode import Fd, Inode
    from fusemux.graph.framework.linking import Edge
    from fusemux.graph.framework.process import Process

__all__ = ["Event", "StaleAttributes", "StaleName", "Translator"]


class Event(Enum):
    """What translators tell each other besides fops (GlusterFS's names without the GF_EVENT prefix)."""

    PARENT_UP = auto()  # down: start working
    PARENT_DOWN = auto()  # down: finish what is delayed, no more fops will come
    CHILD_UP = auto()  # up: this subtree serves; `data` of a brick's leaf is its Past
    CHILD_DOWN = auto()  # up: this subtree does not serve any more
    SOME_DESCENDENT_UP = auto()  # up: something below came back, this subtree served all along
    SOME_DESCENDENT_DOWN = auto()
    UPCALL = auto()  # up: `data` is an Inode whose cached attributes or contents are stale, or a Stale...


class StaleAttributes(NamedTuple):
    """A directory whose attributes are not what they were seen to be; its names are."""

    directory: Inode


class StaleName(NamedTuple):
    """A name of a directory that is not what it was seen to be: there, not there, or somebody else's."""

    directory: Inode
    name: bytes


class Translator:
    type: ClassVar[str] = ""
    children_min: ClassVar[int] = 1
    children_max: ClassVar[int | None] = 1
    options: ClassVar[tuple[Option, ...]] = ()
    inode_slots: ClassVar[int] = 0  # 1: wants a slot in every Inode, at self.inode_slot
    fd_slots: ClassVar[int] = 0  # 1: wants a slot in every Fd, at self.fd_slot
    repeats: ClassVar[bool] = False  # what its lookup and stat have answered stays true until something is changed

    def __init__(self, name: str, given: Mapping[str, str], process: Process) -> None:
        """Made by the graph while it is built.  Raises OptionError for a value its row refuses."""
        self.name = name
        self.process = process
        self.given: dict[str, str] = dict(given)
        self.opt: SimpleNamespace
        self.opt, self.unknown_options = parse_options(self.options, given)
        self.children: list[Edge] = []
        self.parents: list[Translator] = []
        self.graph: Graph
        self.inode_slot = -1
        self.fd_slot = -1

    @property
    def child(self) -> Edge:
        return self.children[0]

    def intercepts(self, fop: str) -> bool:
        """Whether fops named `fop` stop here; asked at every linking.  A layer that is off answers False."""
        return hasattr(self, fop) or hasattr(self, "around")

    @property
    def suspends(self) -> bool:
        """Whether a fop through this subtree may ever really wait (pool, network, delay); asked at linking."""
        return any(edge.suspends for edge in self.children)

    @property
    def flushes(self) -> bool:
        """Whether a flush through this subtree does or tells what its release does not; asked at linking.

        Where it does not, the kernel need not ask at every close(2).
        """
        return self.intercepts("flush") or any(edge.flushes for edge in self.children)

    @property
    def passes(self) -> bool:
        """Whether this subtree lets the kernel read and write any open files by itself (`backing` says which); asked at linking.

        A translator that must see every read or write does not; that is so by default for who intercepts them.
        """
        return (
            len(self.children) == 1
            and self.children[0].passes
            and not (self.intercepts("readv") or self.intercepts("writev"))
        )

    def backing(self, fd: Fd) -> int | None:
        """A descriptor of the one local file that holds all bytes of the open file `fd`, None where there is none.

        Asked through an edge, which knows of none unless it `passes`.  From then on the file may be read and written without any fop.
        """
        return self.children[0].backing(fd)

    @property
    def only_asks_below(self) -> bool:
        """Whether `backing` is the one above, so that linking can pass over this translator."""
        return type(self).backing is Translator.backing

    @property
    def recalls(self) -> bool:
        """Whether what this subtree has answered may be answered from memory, as long as nobody changes it.

        Not while a brick is away, nor where somebody wants to see every call: by default whoever intercepts them,
        because names and attributes may be something else above him than below.
        """
        watched = not self.repeats and (self.intercepts("lookup") or self.intercepts("stat"))
        return not watched and all(edge.recalls for edge in self.children)

    def now(self, fop: str) -> Callable[..., Any] | None:
        """The plain function that does what the method `fop` does, where that never waits; asked at linking.

        It takes the method's arguments, and may raise OSErrors besides FopErrors.
        """
        return None

    def linked(self) -> None:
        """The edges of the graph were bound (again): whether the children suspend may have changed."""

    async def init(self) -> None:
        """Acquire what is needed; all children are initialised.  Raises FusemuxError."""

    async def drain(self) -> None:
        """The graph stops: finish what was delayed while the children still serve.  Never raises."""

    async def fini(self) -> None:
        """Give back everything.  Never raises."""

    # The graph is edited (editing.py): `pause`, a wait until it is not `busy`, perhaps `adopt` and `adopt_open`, `resume`.

    @property
    def busy(self) -> bool:
        """Whether anything is in the middle of something here that the top of the graph does not know of."""
        return False

    def pause(self) -> None:
        """Stop what runs by itself, until `resume`."""

    def resume(self) -> None:
        """Go on with it."""

    def adopt(self, old: Translator | None) -> None:
        """Take the place of `old` (of the same name and type; its slots are this one's now) before any event arrives."""

    def adopt_open(self, fds: Sequence[Fd]) -> None:
        """These files were open before this translator came; its children have told whether they are up."""

    def reconfigure(self, given: Mapping[str, str]) -> None:
        """Take new option values while running.  Raises OptionError and then changes nothing."""
        self.opt, self.unknown_options = parse_options(self.options, given)
        self.given = dict(given)

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        """Hear of `event`; pass it on by default: PARENT_* to the children, everything else to the parents."""
        if event in (Event.PARENT_UP, Event.PARENT_DOWN):
            for edge in self.children:
                edge.translator.notify(event, self, data)
        else:
            for parent in self.parents:
                parent.notify(event, self, data)

    def forget(self, inode: Inode) -> None:
        """`inode` leaves the inode table; its slots go with it."""

    def statedump(self) -> dict[str, Any]:
        """What this translator would show of itself: plain values, for `.meta` and statedumps."""
        return {}

    def __repr__(self) -> str:
        return f"<{self.type} {self.name}>"
