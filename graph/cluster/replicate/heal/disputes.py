"""Names that are different files on different copies: the split-brain of a directory.

They are looked for in the listings, without healing anything.  Only copies that nobody accuses count, if there are any: what
differs elsewhere will be healed from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from fusemux.graph.cluster.replicate.core import Core
from fusemux.graph.cluster.replicate.heal.direction import Plan
from fusemux.graph.framework.inode import Inode

__all__ = ["differ", "disputed"]

_BATCH = 512
_What = tuple[int, int]  # inode number (of the gfid) and type


def differ(listings: Sequence[Mapping[bytes, _What]]) -> bool:
    """Whether any name is not the same on all copies that have it."""
    merged: dict[bytes, _What] = {}
    return any(merged.setdefault(name, what) != what for listing in listings for name, what in listing.items())


async def disputed(core: Core, inode: Inode, plan: Plan) -> bool:
    """Whether the copies that `plan` believes have different files under one name.  Raises FopError."""
    believed = sorted(plan.sources) or range(len(core.children))
    return len(believed) > 1 and differ([await _listing(core, child, inode) for child in believed])


async def _listing(core: Core, child: int, inode: Inode) -> dict[bytes, _What]:
    edge = core.children[child]
    fd = core.graph.itable.fd(inode, 0)
    found: dict[bytes, _What] = {}
    try:
        await edge.opendir(core.internal, inode, fd, None)
        offset = 0
        while entries := await edge.readdir(core.internal, fd, _BATCH, offset, False, None):
            found.update((entry.name, (entry.ino, entry.type)) for entry in entries if entry.ino)
            offset = entries[-1].offset
    finally:
        with trio.CancelScope(shield=True):
            await edge.release(core.internal, fd, None)
        core.graph.itable.closed(fd)
    return found
