"""Every kind of change, with what one transaction of it records, and what tests of them need: faults, and delays."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable

import pytest

from fusemux.graph.debug.fault import Fault, place
from fusemux.graph.framework.types import SetAttr
from tests.graph.cluster.replicate.volume import Volume

__all__ = ["EACH", "Act", "fault", "prepared", "slow"]

Act = Callable[[Volume], Awaitable[None]]


def fault(fop: str, error: int = errno.EIO, **more: int) -> Fault:
    return Fault("error", fops=frozenset({fop}), errno=error, **more)


async def prepared(volume: Volume) -> None:
    await volume.mkdir("d")
    await volume.mkdir("gone")
    await volume.create("f", b"hello")
    await volume.create("g", b"other")
    await volume.setxattr("f", b"user.k", b"old")


async def set_times(volume: Volume) -> None:
    await volume.top.setattr(volume.tick(), await volume.inode("f"), SetAttr(mtime_ns=5))


async def allocate(volume: Volume) -> None:
    fd = await volume.open("f")
    try:
        await volume.top.fallocate(volume.tick(), fd, 0, 0, 100)
    finally:
        await volume.close(fd)


async def sync(volume: Volume) -> None:
    fd = await volume.open("f")
    try:
        await volume.top.fsync(volume.tick(), fd, False)
    finally:
        await volume.close(fd)


# fop, what the user does, where the changelog lies, which counters one transaction adds
CHANGES: list[tuple[str, Act, str, tuple[int, int, int]]] = [
    ("create", lambda v: v.create("new"), ".", (0, 0, 1)),
    ("mkdir", lambda v: v.mkdir("new"), ".", (0, 0, 1)),
    ("mknod", lambda v: v.mknod("new", 0o010644), ".", (0, 0, 1)),
    ("symlink", lambda v: v.symlink("new", b"f"), ".", (0, 0, 1)),
    ("link", lambda v: v.link("f", "d/new"), "d", (0, 0, 1)),
    ("unlink", lambda v: v.unlink("f"), ".", (0, 0, 1)),
    ("rmdir", lambda v: v.rmdir("gone"), ".", (0, 0, 1)),
    ("rename", lambda v: v.rename("f", "new"), ".", (0, 0, 2)),
    ("rename", lambda v: v.rename("f", "d/new"), "d", (0, 0, 1)),
    ("setattr", lambda v: v.chmod("f", 0o600), "f", (0, 1, 0)),
    ("setattr", set_times, "f", (0, 1, 0)),
    ("setxattr", lambda v: v.setxattr("f", b"user.k", b"v"), "f", (0, 1, 0)),
    ("removexattr", lambda v: v.removexattr("f", b"user.k"), "f", (0, 1, 0)),
    ("writev", lambda v: v.write("f", b"HE"), "f", (1, 0, 0)),
    ("truncate", lambda v: v.truncate("f", 2), "f", (1, 0, 0)),
    ("fallocate", allocate, "f", (1, 0, 0)),
    ("fsync", sync, "f", (1, 0, 0)),
]
EACH = pytest.mark.parametrize(("fop", "act", "owner", "counters"), CHANGES, ids=[f"{c[0]}-{c[2]}" for c in CHANGES])


def slow(volume: Volume, fop: str, child: int = 0) -> Fault:
    injected = Fault("delay", fops=frozenset({fop}), delay_s=10)
    place(volume.replicate.children[child], injected)
    return injected
