"""Settling split-brains by command: the bigger file, the newer one, or the copy of one brick.

A split-brain is one of three: the contents or the metadata of an inode, of which every copy is accused, or a name that is
different files on different copies.  What is not in split-brain is refused: these commands throw a copy away.
"""

from __future__ import annotations

import errno

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.heal.direction import FAVOURITES, Favourite, favourite
from fusemux.graph.cluster.replicate.heal.healer import Healer
from fusemux.graph.cluster.replicate.heal.names import decide, heal_name, look
from fusemux.graph.cluster.replicate.heal.report import in_split_brain
from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import gfid_text

__all__ = ["HOW", "choice", "resolve", "resolve_name"]

HOW = {"bigger-file": "size", "latest-mtime": "mtime"}


def choice(healer: Healer, how: str, child: str | None = None) -> Favourite:
    """The way to choose: one of `HOW`, or source-brick with the name of a child."""
    if how in HOW:
        return FAVOURITES[HOW[how]]
    names = [edge.name for edge in healer.core.children]
    if child not in names:
        raise FusemuxError(f"{child} is no copy of {healer.core.name}; there are {', '.join(names)}")
    return favourite(names.index(child))


async def resolve(healer: Healer, gfid: bytes, pick: Favourite, what: str) -> None:
    """Settle the split-brain of one inode and heal it.  Raises FusemuxError when there is none, or nobody wins."""
    try:
        if not await in_split_brain(healer, gfid):
            raise FusemuxError(f"{what} is not in split-brain")
        healed = await healer.heal(gfid, pick)
    except FopError as error:
        raise FusemuxError(f"{what}: {error}") from None
    if healed.split_brain:
        raise FusemuxError(f"{what}: the copies do not differ in that; choose another way")


async def resolve_name(healer: Healer, parent: Inode, name: bytes, pick: Favourite, what: str) -> bytes:
    """Settle a name that is different files on different copies; the gfid that won.

    The losers' file goes; what won is made there and healed.  Raises FusemuxError when copies agree, or nobody wins.
    """
    core = healer.core
    grant = await core.locks.acquire(parent.gfid, locks.name(name))
    try:
        answers = await look(core, parent, name)
        if not decide(answers, frozenset(), FAVOURITES["none"]).conflict:
            raise FusemuxError(f"{what} is not in split-brain")
        if any(answer is not None and answer.is_dir for answer in answers):
            raise FusemuxError(f"{what}: a directory is among the copies; remove one of them by hand")
        decision = decide(answers, frozenset(), pick)
        if decision.conflict:
            raise FusemuxError(f"{what}: the copies do not differ in that; choose another way")
        await heal_name(core, parent, name, frozenset(), pick)
        winner = answers[decision.model]
        assert winner is not None
    except FopError as error:
        raise FusemuxError(f"{what}: {error}") from None
    finally:
        core.locks.release(grant)
    try:
        await healer.heal(winner.gfid)
    except FopError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise FusemuxError(f"{gfid_text(winner.gfid)} is not healed yet: {error}") from None
    return winner.gfid
