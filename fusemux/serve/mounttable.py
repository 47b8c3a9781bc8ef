"""The kernel's table of mounts: what is mounted where, and to hear of it when that changes.

Source: proc(5), /proc/pid/mountinfo; poll(2) reports POLLPRI on it after every change.
"""

from __future__ import annotations

import errno
import os
import re
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

__all__ = ["Mounted", "is_stale", "mounted_at", "read", "watched"]

TABLE = "/proc/self/mountinfo"


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


@contextmanager
def watched() -> Iterator[tuple[int, Callable[[], None]]]:
    """A descriptor that becomes readable when the table has changed, and what to call before waiting again.

    The table itself only ever reports POLLPRI, so an epoll descriptor stands in between.
    """
    table = os.open(TABLE, os.O_RDONLY | os.O_CLOEXEC)
    waiter = select.epoll(flags=select.EPOLL_CLOEXEC)
    try:
        waiter.register(table, select.EPOLLPRI)

        def rearm() -> None:
            waiter.poll(0)

        yield waiter.fileno(), rearm
    finally:
        waiter.close()
        os.close(table)
