"""Which extended attributes a user may see and change.

What the bricks keep for themselves (identity, layouts, changelogs, erasure coding) is not there for anybody: it is not listed, reading
it answers ENODATA and writing it EPERM, even for root.  Other `trusted.*` attributes exist for uid 0 alone, as
xattr(7) has it.  Pure.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from fusemux.graph.framework.errors import FopError

__all__ = ["refuse_change", "refuse_reading", "visible"]

_INTERNAL = (
    b"trusted.gfid",  # and trusted.gfid2path.*
    b"trusted.glusterfs.",
    b"trusted.afr.",
    b"trusted.ec.",
    b"trusted.pgfid.",
    b"trusted.bit-rot.",
    b"trusted.gfs.squota.",
    b"glusterfs.",
)
_TRUSTED = b"trusted."
# Namespaces that exist.  The kernel leaves it to FUSE file systems to refuse others.
_NAMESPACES = (
    b"user.", b"trusted.", b"security.", b"system.posix_acl_access", b"system.posix_acl_default",
    b"replica.", b"distribute.",  # questions to cluster translators, as GlusterFS has them
)  # fmt: skip


def refuse_reading(name: bytes, uid: int) -> None:
    """Raise ENODATA for what this user must not know of, EOPNOTSUPP for what can never be there."""
    if name.startswith(_INTERNAL) or (uid and name.startswith(_TRUSTED)):
        raise FopError(errno.ENODATA, "not for users")
    if not name.startswith(_NAMESPACES):
        raise FopError(errno.EOPNOTSUPP, "no such namespace")


def refuse_change(name: bytes, uid: int) -> None:
    """Raise EPERM for what this user must not set or remove, EOPNOTSUPP for what cannot be."""
    if name.startswith(_INTERNAL) or (uid and name.startswith(_TRUSTED)):
        raise FopError(errno.EPERM, "not for users")
    if not name.startswith(_NAMESPACES):
        raise FopError(errno.EOPNOTSUPP, "no such namespace")


def visible(names: Iterable[bytes], uid: int) -> list[bytes]:
    """The names that listxattr(2) shows to this user."""
    hidden = _INTERNAL if uid == 0 else (*_INTERNAL, _TRUSTED)
    return [name for name in names if not name.startswith(hidden)]
