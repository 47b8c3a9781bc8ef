"""The kernel's table of mounts: what is mounted where, and to hear of it when that changes.

Source: proc(5), /proc/pid/mountinfo; poll(2) reports POLLPRI on it after every change.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

__all__ = ["Mounted", "is_stale", "mounted_at", "opened", "read", "wait_changed"]

TABLE = "/proc/self/mountinfo"
RECHECK_S = 5


class Mounted(NamedTuple):
    """One mount."""

    id: int
    path: str
    fstype: str
    source: str
    options: str  # of this mount
    superblock: str  # of the file system

    @property
    def is_ours(self) -> bool:
        return self.fstype.startswith("fuse.fusemux")


def read(text: str | None = None) -> list[Mounted]:
    """The table, in the order of mounting; `text` instead of the kernel's is for tests."""
    if text is None:
        with open(TABLE, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    return [_entry(line) for line in text.splitlines() if " - " in line]


def _entry(line: str) -> Mounted:
    first, _, second = line.partition(" - ")
    left, right = first.split(" "), second.split(" ")
    superblock = right[2] if len(right) > 2 else ""
    return Mounted(int(left[0]), _plain(left[4]), right[0], _plain(right[1]), left[5], superblock)


def _plain(text: str) -> str:
    """Undo the octal escapes of blanks, tabs, line breaks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def mounted_at(path: str) -> Mounted | None:
    """What is mounted at `path` (absolute, without symbolic links): the topmost mount there."""
    found = None
    for entry in read():
        if entry.path == path:
            found = entry
    return found


def is_stale(path: str) -> bool:
    """Whether `path` is a mount whose server is gone.

    Only statfs(2) always asks the server: attributes may be cached without end.
    """
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


async def wait_changed(table: int) -> None:
    """Wait until the table may have changed; `table` is a descriptor of TABLE.

    The kernel reports a change as an error condition, which a wait for writability alone hears of (the table is always
    readable and never writable).  A change while nobody waits goes unreported, so nobody waits longer than RECHECK_S.
    """
    import trio  # not for those who only read the table

    with trio.move_on_after(RECHECK_S):
        await trio.lowlevel.wait_writable(table)


@contextmanager
def opened() -> Iterator[int]:
    """A descriptor for `wait_changed`."""
    table = os.open(TABLE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield table
    finally:
        os.close(table)
