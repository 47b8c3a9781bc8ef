"""One call to several children: in turn when none of them can wait, side by side when one can.

On ramdisks a child answers without ever suspending, and opening a nursery for three of them would cost more
(39 µs) than the calls.  What linking knows of the subtrees (`Edge.suspends`) decides.  Errors are answers: each
child's reply or its `FopError` stands at its place in the list, so callers decide with tables, not with `try`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.linking import Edge

__all__ = ["fan_out", "fan_out_each"]


async def fan_out(edges: Sequence[Edge], fop: str, *args: Any) -> list[Any]:
    """Call `fop(*args)` on every edge; replies and FopErrors in the order of `edges`."""
    if len(edges) < 2 or not any(edge.suspends for edge in edges):
        return [await _answer(edge, fop, args) for edge in edges]
    return await _side_by_side([(edge, fop, args) for edge in edges])


async def fan_out_each(calls: Sequence[tuple[Edge, str, tuple[Any, ...]]]) -> list[Any]:
    """The same, where each child gets a fop and arguments of its own."""
    if len(calls) < 2 or not any(edge.suspends for edge, _, _ in calls):
        return [await _answer(*call) for call in calls]
    return await _side_by_side(calls)


async def _side_by_side(calls: Sequence[tuple[Edge, str, tuple[Any, ...]]]) -> list[Any]:
    replies: list[Any] = [None] * len(calls)

    async def one(place: int, call: tuple[Edge, str, tuple[Any, ...]]) -> None:
        replies[place] = await _answer(*call)

    async with trio.open_nursery() as nursery:
        for place, call in enumerate(calls):
            nursery.start_soon(one, place, call)
    return replies


async def _answer(edge: Edge, fop: str, args: tuple[Any, ...]) -> Any:
    try:
        return await getattr(edge, fop)(*args)
    except FopError as error:
        return error.with_traceback(None)  # an answer: it must not keep alive the calls it came through
