"""Random operations on a volume and on a plain directory: the same results, the same tree, sound bricks."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusemux.graph.framework.errors import FopError

from .invariants import check_bricks
from .volume import TEMPORARY, Volume, served

_libc = ctypes.CDLL(None, use_errno=True)

PLACES = [f"{above}{name}" for above in ("", "a/", "b/", "a/c/") for name in ("a", "b", "c", "f", "g", "h")]
PATHS = st.sampled_from(PLACES)
OPERATIONS = st.one_of(
    st.tuples(st.just("create"), PATHS),
    st.tuples(st.just("mkdir"), st.sampled_from(["a", "b", "a/c", "b/c", "a/c/a"])),
    st.tuples(st.just("unlink"), PATHS),
    st.tuples(st.just("rmdir"), st.sampled_from(["a", "b", "a/c", "b/c", "a/c/a"])),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS, st.sampled_from([0, 0, 0, 1, 2])),
    st.tuples(st.just("write"), PATHS),
    st.tuples(st.just("remount")),
)


class Plain:
    """The same operations on a plain directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def create(self, path: str) -> None:
        os.close(os.open(self.at(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))

    def mkdir(self, path: str) -> None:
        os.mkdir(self.at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self.at(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(self.at(path))

    def link(self, old: str, new: str) -> None:
        os.link(self.at(old), self.at(new))

    def rename(self, old: str, new: str, flags: int) -> None:
        if _libc.renameat2(-100, self.at(old).encode(), -100, self.at(new).encode(), flags):
            raise OSError(ctypes.get_errno(), "renameat2")

    def write(self, path: str) -> None:
        fd = os.open(self.at(path), os.O_WRONLY)
        os.write(fd, path.encode())
        os.close(fd)

    def remount(self) -> None:
        pass


async def perform(v: Volume, operation: tuple[Any, ...]) -> None:
    """As the kernel would: paths are resolved by lookups, and what the kernel refuses itself does not reach the graph."""
    match operation:
        case ("create", path):
            if await v.exists(path):
                raise FopError(errno.EEXIST)
            await v.create(path)
        case ("write", path):
            if stat.S_ISDIR((await v.lookup(path)).mode):
                raise FopError(errno.EISDIR)
            fd = await v.open(path)
            await v.top.writev(v.tick(), fd, path.encode(), 0)
            await v.close(fd)
        case ("remount",):
            await v.remount()
        case ("rename", old, new, flags):
            if new.startswith(f"{old}/") or (flags == 2 and old.startswith(f"{new}/")):
                await v.lookup(old)
                await v.parent(new)
                if flags == 2:
                    await v.lookup(new)
                raise FopError(errno.EINVAL)
            await v.rename(old, new, flags)
        case ("link", old, new):
            if stat.S_ISDIR((await v.lookup(old)).mode):
                await v.parent(new)
                raise FopError(errno.EEXIST if await v.exists(new) else errno.EPERM)
            await v.link(old, new)
        case (name, *arguments):
            await getattr(v, name)(*arguments)


def outcome_of(call: Callable[[], None]) -> int:
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


async def same(v: Volume, plain: Plain, path: str = "") -> None:
    """The same names, types, links and contents from here downwards."""
    assert await v.names_in(path) == sorted(os.listdir(plain.at(path)))
    for name in os.listdir(plain.at(path)):
        below = f"{path}/{name}".strip("/")
        st_ = os.lstat(plain.at(below))
        iatt = await v.lookup(below)
        assert stat.S_IFMT(iatt.mode) == stat.S_IFMT(st_.st_mode), below
        assert iatt.nlink == st_.st_nlink, below
        if stat.S_ISDIR(st_.st_mode):
            await same(v, plain, below)
        else:
            with open(plain.at(below), "rb") as file:
                assert await v.read(below) == file.read(), below


async def run(v: Volume, plain: Plain, operations: list[tuple[Any, ...]]) -> None:
    for operation in operations:
        name, *arguments = operation
        wanted = outcome_of(lambda name=name, arguments=arguments: getattr(plain, name)(*arguments))  # type: ignore[misc]
        try:
            await perform(v, operation)
            got = 0
        except FopError as error:
            got = error.errno
        assert errno.errorcode.get(got) == errno.errorcode.get(wanted), operation
    await same(v, plain)
    check_bricks(v)


WAITING = "type debug/delay-gen\noption delay-percentage 100\noption delay-duration 0"


@pytest.mark.parametrize(
    ("bricks", "above", "replica"),
    [(2, "", 1), (4, "", 1), (3, WAITING, 1), (4, "", 2)],
    ids=["two", "four", "waiting", "replicated"],
)
def test_a_volume_behaves_as_a_plain_directory_whatever_is_done(bricks: int, above: str, replica: int) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(OPERATIONS, min_size=5, max_size=40))
    def check(operations: list[tuple[Any, ...]]) -> None:
        async def main() -> None:
            root = tempfile.mkdtemp(dir=TEMPORARY)
            try:
                async with served(bricks, above=above, replica=replica) as v:
                    await run(v, Plain(root), operations)
            finally:
                shutil.rmtree(root)

        trio.run(main)

    check()
