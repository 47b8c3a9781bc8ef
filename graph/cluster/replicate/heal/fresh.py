"""A brick that is new in a replica set: empty, in the place of another or as one more copy.

Before anybody reads or writes there, the good copies accuse it of everything: of its root's metadata and names, with granular
indices of the root's "data" too, which means all names, since none were recorded.  Its own root is marked dirty, so that healing the root
is a merge, and whatever the new brick may say of the others (somebody may have written marks to it) no name is removed from them.
What the root's healing makes is accused in turn, down to the last file.

Both are done on the edges to the bricks' own graphs, past a replicate that may not know the new brick yet.

Source: GlusterFS's special mount of replace-brick and add-brick (afr_handle_empty_brick); design facts, section 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusemux.graph.cluster.replicate.changelog import ADD_ARRAY, pack, unpack
from fusemux.graph.cluster.replicate.core import INTERNAL_PID, Core
from fusemux.graph.cluster.replicate.heal.healer import Healer
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import ROOT_GFID, Frame, Iatt

__all__ = ["accuse_fresh", "complete", "mark_fresh", "unhealed"]

_DIRECTORY = 0o040000


async def accuse_fresh(brick: Any, name: str, *, granular: bool, by: int = 1) -> None:
    """Have a good copy accuse `name` (VOL-client-N) of the root; `by` -1 takes it back.  Raises FopError."""
    delta = {f"trusted.afr.{name}".encode(): pack((by if granular else 0, by, by))}
    await _xattrop(brick, delta)


async def mark_fresh(brick: Any, dirty: bytes = b"trusted.afr.dirty") -> None:
    """Mark the root of the new brick dirty.  Raises FopError."""
    await _xattrop(brick, {dirty: pack((0, 0, 1))})


async def _xattrop(brick: Any, delta: dict[bytes, bytes]) -> None:
    await brick.xattrop(Frame(pid=INTERNAL_PID), Inode(ROOT_GFID, _DIRECTORY), ADD_ARRAY, delta, None)


async def complete(core: Core) -> int:
    """The children with data that are up and, as far as anybody who is up knows, lack nothing of the root.

    One that is new itself and not healed yet is marked dirty there.
    """
    up, root = core.members.up, core.graph.itable.root
    replies = await core.wind(up, "lookup", core.internal, root, b"", core.keys.ask)
    dirty = sum(
        1 << i
        for i, reply in enumerate(replies)
        if isinstance(reply, Iatt) and any(unpack((reply.xdata or {}).get(core.keys.dirty)))
    )
    lacking = dirty | _accused(core.keys.row, replies) | core.trust.suspects
    return core.succeeded(up, replies) & ~lacking & ~core.arbiters


async def unhealed(healer: Healer, leaving: int, staying: int) -> list[bytes]:
    """The inodes (gfids) of which none of the children `staying` has a good copy with data, as those in `leaving` see it."""
    core = healer.core
    up, staying = core.members.up, staying & core.members.up & ~core.arbiters
    found = []
    listed: set[bytes] = set()
    for edge in core.edges(leaving & up):
        listed |= await healer.listed_on(edge.index)
    for gfid in sorted(listed):
        inode = Inode(gfid, 0, core.graph.itable.inode_slots)
        replies = await core.wind((leaving | staying) & up, "lookup", core.internal, inode, b"", core.keys.ask)
        if not staying & ~_accused(core.keys.row, replies) & core.succeeded(staying, replies):
            found.append(gfid)
    return found


def _accused(row: Any, replies: Sequence[Any]) -> int:
    """The children that any copy accuses of anything."""
    accused = 0
    for reply in replies:
        if isinstance(reply, Iatt):
            accused |= sum(1 << j for j, counters in enumerate(row(reply.xdata)) if any(counters))
    return accused
