"""Healing owner, mode, times and xattrs of one inode: all of them, under the metadata lock."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.changelog import ADD_ARRAY, METADATA
from fusemux.graph.cluster.replicate.core import Core
from fusemux.graph.cluster.replicate.heal.direction import Favourite, metadata_plan
from fusemux.graph.cluster.replicate.heal.inspection import Outcome, absolve, arbiter_of, inspect, quorum_of
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.types import Iatt, SetAttr

__all__ = ["heal_attributes"]

# What each copy keeps for itself, or in its own way.
_OWN = (b"trusted.afr.", b"trusted.gfid", b"trusted.glusterfs.volume-id", b"trusted.glusterfs.mdata", b"trusted.pgfid.",
        b"trusted.glusterfs.quota.size", b"security.selinux", b"security.ima", b"security.evm")  # fmt: skip
_MODE = 0o7777


async def heal_attributes(core: Core, inode: Inode, pick: Favourite) -> Outcome:
    """Make the metadata of all copies equal.  Raises FopError when a copy is missing or fails."""
    grant = await core.locks.acquire(inode.gfid, locks.metadata())
    try:
        replies, marks = await inspect(core, inode)
        xattrs = [await _xattrs(core, edge, inode) for edge in core.children]
        alike = [(*look, xattrs[i]) for i, look in enumerate(_looks(core, replies))]
        if all(value == alike[0] for value in alike):
            marks = marks._replace(suspects=0)
        plan = metadata_plan(marks, replies, alike, quorum=quorum_of(core), arbiter=arbiter_of(core), pick=pick)
        if plan.split_brain or (not plan.sinks and marks.clean):
            return Outcome.of(plan)
        if plan.sinks and not any(row[j][METADATA] for row in marks.rows for j in plan.sinks):
            await _accuse(core, inode, plan.sources, plan.sinks)
            _, marks = await inspect(core, inode)
        for sink in sorted(plan.sinks):
            await _copy(
                core, core.children[sink], inode, replies[plan.source], replies[sink], xattrs[plan.source], xattrs[sink]
            )
        await absolve(core, inode, METADATA, marks, plan)
        return Outcome.of(plan, changed=bool(plan.sinks))
    finally:
        core.locks.release(grant)


def _looks(core: Core, replies: Sequence[Iatt]) -> list[tuple[int, ...]]:
    """What must be equal besides the xattrs; times only where copies may differ that nobody accuses.

    An arbiter does not know when files were written: it has those of a copy that does.
    """
    shapes = [(reply.mode, reply.uid, reply.gid) for reply in replies]
    if not core.trust.unclean:
        return list(shapes)
    knows = [0 if core.arbiters >> i & 1 and stat.S_ISREG(reply.mode) else i for i, reply in enumerate(replies)]
    return [(*shape, replies[i].mtime_ns, replies[i].ctime_ns) for shape, i in zip(shapes, knows, strict=True)]


async def _accuse(core: Core, inode: Inode, sources: frozenset[int], sinks: frozenset[int]) -> None:
    """Copies differ though nothing says so: record it first, so that a crash in the middle is healed the same way."""
    delta = core.keys.delta(METADATA, 0, sum(1 << i for i in sinks))
    for index in sorted(sources):
        await core.children[index].xattrop(core.internal, inode, ADD_ARRAY, delta, None)


async def _xattrs(core: Core, edge: Edge, inode: Inode) -> dict[bytes, bytes]:
    found: Mapping[bytes, bytes] = await edge.getxattr(core.internal, inode, None, None)
    return {name: bytes(value) for name, value in found.items() if not name.startswith(_OWN)}


async def _copy(
    core: Core,
    edge: Edge,
    inode: Inode,
    source: Iatt,
    sink: Iatt,
    wanted: dict[bytes, bytes],
    present: dict[bytes, bytes],
) -> None:
    frame = core.internal
    for name in present.keys() - wanted.keys():
        await edge.removexattr(frame, inode, name, None)
    changed = {name: value for name, value in wanted.items() if present.get(name) != value}
    if changed:
        await edge.setxattr(frame, inode, changed, 0, None)
    mode = source.mode & _MODE
    await edge.setattr(
        frame,
        inode,
        SetAttr(
            mode=None
            if stat.S_ISLNK(source.mode) or (sink.mode & _MODE == mode and not _owner_changes(source, sink))
            else mode,
            uid=None if sink.uid == source.uid else source.uid,
            gid=None if sink.gid == source.gid else source.gid,
            atime_ns=source.atime_ns,
            mtime_ns=source.mtime_ns,
            ctime_ns=source.ctime_ns,
        ),
        None,
    )


def _owner_changes(source: Iatt, sink: Iatt) -> bool:
    """A change of owner clears set-user-ID and set-group-ID."""
    return (source.uid, source.gid) != (sink.uid, sink.gid)
