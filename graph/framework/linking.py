"""Linking: every child call bound straight to the translator that answers it.

An `Edge` is what a parent holds of a child: one attribute for each fop.  `Edge.bind` walks down from the child, for
each fop, to the nearest translator that intercepts it, and stores its bound method.  So a call through
ten layers that do not care costs one attribute load and one call.  Linking runs again whenever a layer
switches itself on or off, or the graph is edited; edges are never replaced, so whoever holds one sees the change.

What is answered without any waiting an edge offers as plain functions, too (`Edge.now`): who calls one of these makes one
coroutine less.

In strict mode each stored method is wrapped by the checks of `contract.py`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from fusemux.graph.framework.contract import checked
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fops import FOP_NAMES, FOPS, Fop

if TYPE_CHECKING:
    from fusemux.graph.framework.inode import Fd
    from fusemux.graph.framework.translator import Translator

__all__ = ["Edge", "Method", "Weaver"]

Method = Callable[..., Coroutine[Any, Any, Any]]
Now = Callable[..., Any]


class Weaver(Protocol):
    """Puts something between an edge and the methods it is bound to: faults, for instance."""

    @property
    def suspends(self) -> bool: ...

    def weave(self, fop: Fop, method: Method) -> Method: ...


class Edge:
    """The way from a parent (None: from outside the graph) down to `translator`, one attribute a fop."""

    __slots__ = (
        *FOP_NAMES,
        "backing",
        "flushes",
        "index",
        "now",
        "parent",
        "passes",
        "strict",
        "suspends",
        "translator",
        "weaver",
    )

    if TYPE_CHECKING:

        def __getattr__(self, fop: str) -> Method: ...

    def __init__(self, translator: Translator, parent: Translator | None = None, index: int = 0) -> None:
        self.translator = translator
        self.parent = parent
        self.index = index
        self.suspends = True
        self.flushes = True
        self.passes = False
        self.backing: Callable[[Fd], int | None] = _no_backing  # of the nearest translator below that knows better
        self.strict = False
        self.weaver: Weaver | None = None
        self.now: dict[str, Now] = {}  # by fop; they raise OSErrors and FopErrors
        for name in FOP_NAMES:
            setattr(self, name, _unlinked)

    @property
    def name(self) -> str:
        return self.translator.name

    @property
    def recalls(self) -> bool:
        """Whether what came through here may be answered from memory the next time (`Translator.recalls`)."""
        return self.weaver is None and self.translator.recalls

    def bind(self, *, strict: bool) -> None:
        """Bind every fop.  All edges below must have been linked before."""
        self.strict = strict
        self.suspends = self.translator.suspends or (self.weaver is not None and self.weaver.suspends)
        self.flushes = self.translator.flushes or self.weaver is not None
        self.passes = self.translator.passes and self.weaver is None
        self.backing = _backing_of(self.translator) if self.passes else _no_backing
        self.now = {}
        for fop in FOPS.values():
            method = find(self.translator, fop)
            if not strict and (now := _find_now(self, fop)) is not None:
                self.now[fop.name] = now
            if self.weaver is not None:
                method = self.weaver.weave(fop, method)
            setattr(self, fop.name, checked(fop, method, self) if strict else method)

    def rebind(self) -> None:
        """Bind this edge and, since they may reach past their child, all edges of the graph above it."""
        graph = getattr(self.translator, "graph", None)
        if graph is not None and graph.started:
            graph.relink()
        else:
            self.bind(strict=self.strict)

    def __repr__(self) -> str:
        return f"<Edge to {self.translator!r}>"


def _backing_of(translator: Translator) -> Callable[[Fd], int | None]:
    """`Translator.backing` of the nearest translator, at or below, that has one of its own."""
    while translator.only_asks_below and len(translator.children) == 1:
        translator = translator.children[0].translator
    return translator.backing


def _no_backing(fd: Fd) -> int | None:
    return None


def find(translator: Translator, fop: Fop) -> Method:
    """The method that answers `fop` at or below `translator`."""
    while True:
        if translator.intercepts(fop.name):
            own: Method | None = getattr(translator, fop.name, None)
            return own if own is not None else _around(translator, fop)
        if len(translator.children) != 1:
            return _refused(translator, fop)
        edge = translator.children[0]
        if edge.weaver is not None:
            woven: Method = getattr(edge, fop.name)
            return woven
        translator = edge.translator


def _find_now(edge: Edge, fop: Fop) -> Now | None:
    """The plain function that answers `fop` at or below `edge`, None where there is only a coroutine."""
    while edge.weaver is None:
        translator = edge.translator
        if translator.intercepts(fop.name):
            return translator.now(fop.name)
        if len(translator.children) != 1:
            return None
        edge = translator.children[0]
    return None


def _around(translator: Translator, fop: Fop) -> Method:
    around: Method = translator.around  # type: ignore[attr-defined]
    edge = translator.children[0]
    name = fop.name

    async def call(*args: Any) -> Any:
        return await around(fop, getattr(edge, name), *args)

    return call


def _refused(translator: Translator, fop: Fop) -> Method:
    async def refuse(*args: Any, **kwargs: Any) -> Any:
        raise FopError(errno.EOPNOTSUPP, f"{translator.type} {translator.name} has no {fop.name}")

    return refuse


async def _unlinked(*args: Any, **kwargs: Any) -> Any:
    raise FopError(errno.ENOTCONN, "the graph is not linked")
