"""Which errno a fop answers when several copies answered several.

Source: GlusterFS cluster/afr (afr_higher_errno): the errors of the children are folded in child order; those that say most
about the file win, of all others the last one seen.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

__all__ = ["NO_QUORUM", "fold"]

NO_QUORUM = errno.ENOTCONN  # when nothing better is known

_TELLING = (errno.ENODATA, errno.ENOENT, errno.ESTALE, errno.ENOSPC)


def fold(errnos: Iterable[int]) -> int:
    """One errno for those of several children, given in child order; ENOTCONN for none."""
    seen = list(errnos)
    for telling in _TELLING:
        if telling in seen:
            return telling
    return seen[-1] if seen else NO_QUORUM
