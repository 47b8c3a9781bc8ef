"""Healing the names of a directory: every name that any copy has (or, with an index, that has changed) in turn.

The directory is never locked as a whole for longer than it takes to inspect it; each name is locked while it is
healed.  When all went well the accusations are taken back; a conflict or an error leaves them, for the next time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.changelog import ENTRY
from fusemux.graph.cluster.replicate.core import Core
from fusemux.graph.cluster.replicate.heal.direction import Favourite, Marks, Plan, entry_plan
from fusemux.graph.cluster.replicate.heal.inspection import Outcome, absolve, arbiter_of, inspect, quorum_of, times_of
from fusemux.graph.cluster.replicate.heal.names import heal_name
from fusemux.graph.cluster.replicate.heal.parking import PREFIX
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Iatt, SetAttr

__all__ = ["heal_entries"]

log = logging.getLogger("fusemux.heal")

_BATCH = 512
_NAMES = b"glusterfs.index.names"
_HEALED = b"glusterfs.xattrop-entry-delete"


async def heal_entries(core: Core, inode: Inode, pick: Favourite, *, full: bool = False) -> Outcome:
    """Make the names of all copies of a directory equal; with `full` even if nothing says that they differ."""
    grant = await core.locks.acquire(inode.gfid, locks.name(None))
    try:
        replies, marks = await inspect(core, inode)
        plan = entry_plan(marks, quorum=quorum_of(core), arbiter=arbiter_of(core))
    finally:
        core.locks.release(grant)
    if not full and not _needed(marks):
        return Outcome.of(plan._replace(sinks=frozenset()))
    names, changed_names = await _names(core, inode, marks, plan, full=full)
    changed = conflict = failed = postponed = False
    for name in names:
        grant = await core.locks.acquire(inode.gfid, locks.name(name))
        try:
            healed = await heal_name(core, inode, name, plan.sources, pick)
            changed, conflict = changed or healed.changed, conflict or healed.conflict
            postponed |= healed.postponed
        except FopError as error:
            log.warning("%s: healing %r of %s: %s", core.name, name, inode.gfid.hex(), error)
            failed = True
        finally:
            core.locks.release(grant)
        await trio.lowlevel.checkpoint()
    if not (conflict or failed or postponed):
        await _finish(core, inode, marks, plan, changed_names, await _times(core, inode, plan, replies))
    return Outcome.of(plan, changed=changed, pending=failed or postponed, conflict=conflict)


def _needed(marks: Marks) -> bool:
    counted = [counters for row in (*marks.rows, marks.dirty) for counters in row]
    return any(counters[ENTRY] or counters[0] for counters in counted)


async def _names(core: Core, inode: Inode, marks: Marks, plan: Plan, *, full: bool) -> tuple[list[bytes], set[bytes]]:
    """The names to look at, and those that the indices list."""
    listed: set[bytes] = set()
    for edge in core.children:
        try:
            answer = await edge.getxattr(core.internal, inode, _NAMES, None)
        except FopError:
            continue  # a brick without features/index
        listed.update(name for name in bytes(answer[_NAMES]).split(b"\0") if name)
    whole = full or any(counters[0] for row in (*marks.rows, marks.dirty) for counters in row)
    if listed and core.opt.granular_entry_heal and not whole and plan.source >= 0:
        return sorted(listed), listed
    found: set[bytes] = set(listed)
    for index in range(len(core.children)):
        found.update(await _listing(core, index, inode))
    present: set[bytes] = set()
    for index in sorted(plan.sources) or range(len(core.children)):
        present |= await _listing(core, index, inode)
    found = {name for name in found if not name.startswith(PREFIX)}
    # What must be made comes first: a renamed file is then linked by its gfid before its old name goes.
    return sorted(found, key=lambda name: (name not in present, name)), listed


async def _listing(core: Core, child: int, inode: Inode) -> set[bytes]:
    edge = core.children[child]
    fd = core.graph.itable.fd(inode, 0)
    names: set[bytes] = set()
    try:
        await edge.opendir(core.internal, inode, fd, None)
        offset = 0
        while entries := await edge.readdir(core.internal, fd, _BATCH, offset, False, None):
            names.update(entry.name for entry in entries)
            offset = entries[-1].offset
    finally:
        with trio.CancelScope(shield=True):
            await edge.release(core.internal, fd, None)
        core.graph.itable.closed(fd)
    return names


async def _times(core: Core, inode: Inode, plan: Plan, before: Sequence[Iatt]) -> SetAttr:
    """What the directory's times shall be: healing is no change of it; a merge has the newest of all copies."""
    model = [before[index] for index in sorted(plan.sources)] or before
    if plan.source >= 0:
        model = [await core.children[plan.source].lookup(core.internal, inode, b"", None)]
    return times_of(*model)


async def _finish(core: Core, inode: Inode, marks: Marks, plan: Plan, listed: set[bytes], times: SetAttr) -> None:
    grant = await core.locks.acquire(inode.gfid, locks.name(None))
    try:
        for sink in sorted(plan.sinks):
            await core.children[sink].setattr(core.internal, inode, times, None)
        for name in sorted(listed):
            await _unlist(core, inode, name)
        await absolve(core, inode, ENTRY, marks, plan)
    finally:
        core.locks.release(grant)


async def _unlist(core: Core, inode: Inode, name: bytes) -> None:
    asked = {key: bytes(12) for key in core.keys.pending}
    for edge in core.children:
        await edge.xattrop(core.internal, inode, 0, asked, {_HEALED: name})
