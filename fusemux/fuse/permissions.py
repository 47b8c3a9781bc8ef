"""Whether a caller may read, write or execute: mode bits, for mounts where the kernel does not check by itself.

With `default_permissions` (the default) nothing here is ever asked.  ACLs are not looked at.
Source: access(2), path_resolution(7).
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection

from fusemux.graph.framework.types import Iatt

__all__ = ["allowed", "groups_of", "without_privileges"]

_X = 1


def allowed(iatt: Iatt, uid: int, gid: int, mask: int, groups: Callable[[], Collection[int]]) -> bool:
    """Whether all of `mask` (R 4, W 2, X 1) is granted; `groups` are asked for only when they decide."""
    mode = iatt.mode
    if uid == 0:
        return not mask & _X or stat.S_ISDIR(mode) or bool(mode & 0o111)
    if uid == iatt.uid:
        granted = mode >> 6
    elif gid == iatt.gid or iatt.gid in groups():
        granted = mode >> 3
    else:
        granted = mode
    return not mask & ~granted & 7


def groups_of(pid: int) -> Collection[int]:
    """The supplementary groups of a process; none when it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"Groups:"):
                    return [int(word) for word in line.split()[1:]]
    except OSError:
        pass
    return ()


def without_privileges(iatt: Iatt, gid: int, groups: Callable[[], Collection[int]]) -> int:
    """The permission bits that a regular file keeps when an ordinary user of `gid` and `groups` changes it.

    Setuid goes.  Setgid goes where the group may execute, or where the caller is not of the group; what remains is a
    mark for mandatory locks, which only the group may keep.  Source: Linux fs/attr.c, setattr_should_drop_suidgid.
    """
    mode = iatt.mode & 0o7777 & ~stat.S_ISUID
    if mode & stat.S_ISGID and (mode & stat.S_IXGRP or (gid != iatt.gid and iatt.gid not in groups())):
        mode &= ~stat.S_ISGID
    return mode
