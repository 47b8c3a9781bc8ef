"""What the answers of several directories' copies say about one name.  Pure.

Every copy of a directory answers for itself: there is such a name (and its gfid), there is none, or an error.  Copies that are
accused of having missed changes of this directory are not believed, as long as another one answers.  Among the
others a name exists when one has it, because a name gone without any record is healed by making it again.  What then
has another gfid is not the same file: EIO, no silent choice.

The answers must come from a quorum, and those that have the name, together with those that are known to have missed something,
must be one as well; otherwise the name is what a failed create left behind, or a remnant on the wrong side of a partition.

Copies that disagree are made to agree by whoever looks (`mends`), except where that would be a guess: a remnant stays where it is, and
with a quorum rule a name that a recorded minority has missed is left to the healing of the directory.

Source: GlusterFS cluster/afr (afr_lookup_done), design facts section 4.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

from fusemux.graph.cluster.replicate.errors import NO_QUORUM, fold
from fusemux.graph.cluster.replicate.quorum import Quorum
from fusemux.graph.framework.types import Iatt

__all__ = ["Finding", "find", "mends"]

_ABSENT = frozenset({errno.ENOENT, errno.ESTALE})


class Finding(NamedTuple):
    """`errno` 0: the name exists, and `holders` are the copies that have it with the one gfid."""

    errno: int
    holders: int = 0
    uneven: bool = False  # copies disagree: name healing has something to do
    nameless: bool = False  # a copy has the name, but no gfid for it


def find(replies: Sequence[Iatt | int | None], trusted: int, quorum: Quorum) -> Finding:
    """Weigh the answers: an Iatt, an errno, or None from a child that was not asked.

    `trusted`: the copies of the directory that nobody accuses of entries.
    """
    has = sum(1 << i for i, reply in enumerate(replies) if isinstance(reply, Iatt))
    lacks = sum(1 << i for i, reply in enumerate(replies) if isinstance(reply, int) and reply in _ABSENT)
    errors = [reply for reply in replies if isinstance(reply, int)]
    found = _found(replies, has, lacks, errors, trusted, quorum)
    return found._replace(nameless=True) if errno.ENODATA in errors else found


def _found(
    replies: Sequence[Iatt | int | None], has: int, lacks: int, errors: list[int], trusted: int, quorum: Quorum
) -> Finding:
    answered = has | lacks
    if not quorum(answered):
        return Finding(fold(e for e in errors if e not in _ABSENT) if errors else NO_QUORUM)
    believed = answered & trusted or answered
    uneven = bool(has and lacks)
    if not has & believed:
        return Finding(fold(e for e in errors if e in _ABSENT), uneven=uneven)
    gfids = {reply.gfid for i, reply in enumerate(replies) if isinstance(reply, Iatt) and believed >> i & 1}
    if len(gfids) > 1:
        return Finding(errno.EIO, uneven=True)
    gfid = gfids.pop()
    holders = sum(1 << i for i, reply in enumerate(replies) if isinstance(reply, Iatt) and reply.gfid == gfid)
    if not quorum(holders | answered & ~trusted):
        return Finding(errno.ENOENT if quorum(lacks & believed) else NO_QUORUM, uneven=True)
    return Finding(0, holders, uneven or holders != has)


def mends(finding: Finding, replies: Sequence[Iatt | int | None], *, everyone: int, trusted: int, ruled: bool) -> bool:
    """Whether looking at the name heals it.  `ruled`: there is a quorum rule; `trusted` as for `find`."""
    if finding.nameless:
        return True
    if not finding.uneven or finding.errno == errno.EIO:
        return finding.uneven  # different files: perhaps a policy chooses
    blamed = trusted != everyone
    if finding.errno:
        return blamed
    lacking = any(isinstance(reply, int) and reply in _ABSENT for reply in replies)
    return not (ruled and blamed and lacking)
