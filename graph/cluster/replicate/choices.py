"""Split-brains in the hands of users: the virtual xattrs of a file that tell of one, choose a copy to read, and heal from it.  Pure.

    getfattr -n replica.split-brain-status FILE                  what is in split-brain, and the children to choose from
    setfattr -n replica.split-brain-choice -v CHILD FILE         reads are answered by this child; `none`: not any more
    setfattr -n replica.split-brain-choice-timeout -v MIN FILE   how long choices hold that are made from now on, of all files
    setfattr -n replica.split-brain-heal-finalize -v CHILD FILE  heal from this child

A choice is this process's own, is forgotten after a time, and never makes a copy good: changes are still refused.

Source: GlusterFS cluster/afr (afr_handle_split_brain_commands, afr_get_split_brain_status).
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from typing import NamedTuple

from fusemux.graph.framework.errors import FopError

__all__ = ["CHOICE", "FINALIZE", "PREFIX", "STATUS", "TIMEOUT", "Choices", "child_named", "minutes", "status"]

PREFIX = b"replica.split-brain-"
STATUS = PREFIX + b"status"
CHOICE = PREFIX + b"choice"
TIMEOUT = PREFIX + b"choice-timeout"
FINALIZE = PREFIX + b"heal-finalize"

_LIMIT = 1024  # choices at a time; the oldest goes
_LONGEST_MIN = 24 * 60


class _Choice(NamedTuple):
    child: int
    until_s: float


class Choices:
    """Which child answers for which file, by gfid.  Times are those of a clock of the caller's."""

    def __init__(self, timeout_s: float = 300) -> None:
        self.timeout_s = timeout_s
        self._made: dict[bytes, _Choice] = {}

    def __bool__(self) -> bool:
        return bool(self._made)

    def make(self, gfid: bytes, child: int, now_s: float) -> float:
        """When it will be forgotten."""
        self._made.pop(gfid, None)
        if len(self._made) == _LIMIT:
            del self._made[next(iter(self._made))]
        self._made[gfid] = _Choice(child, now_s + self.timeout_s)
        return self._made[gfid].until_s

    def forget(self, gfid: bytes) -> bool:
        """Whether there was one."""
        return self._made.pop(gfid, None) is not None

    def expire(self, gfid: bytes, until_s: float) -> bool:
        """Forget the choice that holds until then; whether it was there, and not replaced by another one."""
        made = self._made.get(gfid)
        return made is not None and made.until_s == until_s and self.forget(gfid)

    def of(self, gfid: bytes, now_s: float) -> int:
        """The set of the chosen child; 0 without a choice."""
        made = self._made.get(gfid)
        return 1 << made.child if made is not None and now_s < made.until_s else 0


def status(kinds: Collection[str], choices: Sequence[str]) -> bytes:
    """The text of `replica.split-brain-status`, of a file whose `kinds` ("data", "metadata") are in split-brain."""
    if not kinds:
        return b"The file is not under data or metadata split-brain"
    parts = [f"{kind}-split-brain:{'yes' if kind in kinds else 'no'}" for kind in ("data", "metadata")]
    return "    ".join([*parts, f"Choices:{','.join(choices)}"]).encode()


def child_named(value: bytes, names: Sequence[str]) -> int:
    """The index of a child that a user names.  Raises FopError (EINVAL)."""
    name = bytes(value).rstrip(b"\0").decode(errors="replace")
    if name not in names:
        raise FopError(errno.EINVAL, f"{name!r} is no copy; there are {', '.join(names)}")
    return names.index(name)


def minutes(value: bytes) -> int:
    """A timeout that a user gives.  Raises FopError (EINVAL)."""
    text = bytes(value).rstrip(b"\0").decode(errors="replace")
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _LONGEST_MIN:
        raise FopError(errno.EINVAL, f"timeout {text!r}: minutes from 1 to {_LONGEST_MIN} are wanted")
    return int(text)
