"""What healing asks the copies before it decides, and what it writes when it is done."""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence
from typing import NamedTuple

from fusemux.graph.cluster.replicate.changelog import ADD_ARRAY, DATA, pack
from fusemux.graph.cluster.replicate.core import Core
from fusemux.graph.cluster.replicate.heal.direction import Marks, Plan
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Frame, Iatt, SetAttr, Xdata

__all__ = ["Outcome", "absolve", "arbiter_of", "doubt", "inspect", "quorum_of", "settle_indices", "stamped", "times_of"]


class Outcome(NamedTuple):
    """How one heal of one kind ended."""

    plan: Plan
    changed: bool = False
    pending: bool = False  # something is left to do that could not be done now
    conflict: bool = False  # a name is different files on different copies: split-brain of gfids

    @classmethod
    def of(cls, plan: Plan, *, changed: bool = False, pending: bool = False, conflict: bool = False) -> Outcome:
        return cls(plan, changed, pending or conflict or plan.split_brain, conflict)


def arbiter_of(core: Core) -> int:
    """The index of the arbiter, -1 without one."""
    return core.arbiters.bit_length() - 1


def quorum_of(core: Core) -> int:
    """How many copies make a quorum; 0 where no rule is set."""
    kind = core.opt.quorum_type or ("auto" if len(core.children) > 2 else "none")
    if kind == "auto":
        return len(core.children) // 2 + 1
    return int(core.opt.quorum_count or 0) if kind == "fixed" else 0


def times_of(*models: Iatt) -> SetAttr:
    """The times of an inode, to be set on a copy: healing is no change.  Of several, the newest."""
    return SetAttr(
        atime_ns=max(model.atime_ns for model in models),
        mtime_ns=max(model.mtime_ns for model in models),
        ctime_ns=max(model.ctime_ns for model in models),
    )


def stamped(core: Core, model: Iatt) -> Frame:
    """For giving or taking a name: the change time that the inode has with it must come in the same step.

    A copy that dies before its times are set would differ, and nothing would say so.
    """
    frame = Frame(pid=core.internal.pid)
    frame.time_ns = model.ctime_ns
    return frame


async def doubt(core: Core, child: int, inode: Inode) -> None:
    """Before the times of a file are set on a copy: of a suspect they would no longer tell that it may lack contents."""
    if core.suspects >> child & 1 and stat.S_ISREG(inode.type):
        delta = core.keys.delta(DATA, 0, 1 << child)
        await core.wind(core.members.up & ~core.suspects, "xattrop", core.internal, inode, ADD_ARRAY, delta, None)


async def settle_indices(core: Core, inode: Inode) -> None:
    """Adding nothing to counters that are zero takes the inode off the indices."""
    asked = {key: bytes(12) for key in (*core.keys.pending, core.keys.dirty)}
    for edge in core.children:
        await edge.xattrop(core.internal, inode, ADD_ARRAY, asked, None)


async def inspect(core: Core, inode: Inode) -> tuple[Sequence[Iatt], Marks]:
    """Look `inode` up on every copy.  Raises FopError when one does not answer: nothing is decided on a part."""
    replies = await core.wind(core.members.up, "lookup", core.internal, inode, b"", core.keys.ask)
    for index, reply in enumerate(replies):
        if not isinstance(reply, Iatt):
            name = core.children[index].name
            number = reply.errno if isinstance(reply, FopError) else errno.ENOTCONN
            raise FopError(number, f"{core.name}: {name} does not answer for it, healing needs all copies")
    return replies, Marks.of(replies, core.keys)._replace(suspects=core.suspects)


async def absolve(
    core: Core,
    inode: Inode,
    kind: int,
    marks: Marks,
    plan: Plan,
    *,
    failed: frozenset[int] = frozenset(),
    xdata: Xdata = None,
) -> None:
    """Take back what was recorded about the copies that are healed now, and the dirty marks.

    Only what the inspection saw is subtracted, so what was recorded meanwhile stays.
    """
    healed = (plan.sinks | plan.sources) - failed
    for index, edge in enumerate(core.children):
        delta: dict[bytes, bytes] = {}
        for other, counters in enumerate(marks.rows[index]):
            if counters[kind] and other in healed:
                delta[core.keys.pending[other]] = _minus(kind, counters[kind])
        if marks.dirty[index][kind] and not failed:
            delta[core.keys.dirty] = _minus(kind, marks.dirty[index][kind])
        if kind == 2 and not failed:
            _add_full_heal_marks(core, index, marks, healed, delta)
        if delta or xdata:
            asked = {key: bytes(12) for key in (*core.keys.pending, core.keys.dirty)}
            await edge.xattrop(core.internal, inode, ADD_ARRAY, {**asked, **delta}, xdata)
    inode.ctx[core.inode_slot] = None


def _add_full_heal_marks(
    core: Core, index: int, marks: Marks, healed: frozenset[int], delta: dict[bytes, bytes]
) -> None:
    """The first number of a directory says "all names": a full listing has healed that too."""
    for other, counters in enumerate(marks.rows[index]):
        if counters[0] and other in healed:
            delta[core.keys.pending[other]] = pack((-counters[0], 0, -counters[2]))
    if marks.dirty[index][0]:
        delta[core.keys.dirty] = pack((-marks.dirty[index][0], 0, -marks.dirty[index][2]))


def _minus(kind: int, value: int) -> bytes:
    counters = [0, 0, 0]
    counters[kind] = -value
    return pack((counters[0], counters[1], counters[2]))
