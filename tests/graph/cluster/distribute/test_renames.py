"""Renames beyond the 18 cases: flags, exchanges, hard links, directories, failures and crashes half-way."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from fusemux.graph.debug.fault import Fault, place
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fops import FOPS

from .invariants import check_bricks
from .test_scenarios import RENAMES, file_at
from .volume import Volume, refused, served

NOREPLACE, EXCHANGE = 1, 2


# -- flags ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "d_at"), [(0, 0), (1, 1), (1, 0), (1, 2)])
def test_noreplace_refuses_a_name_that_is_taken_wherever_its_data_is(d: int, d_at: int) -> None:
    async def main() -> None:
        async with served(3) as v:
            source, target = await file_at(v, 0, 0, "source", b"s"), await file_at(v, d, d_at, "target", b"t")
            before = v.where(source), v.where(target)
            with refused(errno.EEXIST):
                await v.rename(source, target, NOREPLACE)
            assert (v.where(source), v.where(target)) == before
            free = v.name_for(1, start="free")
            await v.rename(source, free, NOREPLACE)
            assert v.where(free) == {0: "file", 1: "->v-client-0"}
            check_bricks(v)

    trio.run(main)


@pytest.mark.parametrize(("s", "s_at", "d", "d_at"), [case.values for case in RENAMES if case.values[3] is not None])
def test_exchange_of_two_files_wherever_they_are(s: int, s_at: int, d: int, d_at: int) -> None:
    async def main() -> None:
        async with served(4) as v:
            source, target = await file_at(v, s, s_at, "source", b"s"), await file_at(v, d, d_at, "target", b"t")
            one, other = await v.inode(source), await v.inode(target)
            iatt = await v.rename(source, target, EXCHANGE)
            assert iatt.gfid == one.gfid
            assert (await v.lookup(target)).gfid == one.gfid
            assert (await v.lookup(source)).gfid == other.gfid
            assert (await v.read(source), await v.read(target)) == (b"t", b"s")
            check_bricks(v)

    trio.run(main)


def test_exchange_of_directories_and_of_a_directory_with_a_file() -> None:
    async def main() -> None:
        async with served(3) as v:
            for name in ("one", "two"):
                await v.mkdir(name)
                await v.create(f"{name}/in-{name}")
            await v.create("file", b"data")
            await v.rename("one", "two", EXCHANGE)
            assert (await v.names_in("one"), await v.names_in("two")) == (["in-two"], ["in-one"])
            await v.rename("one", "file", EXCHANGE)
            assert await v.names_in("file") == ["in-two"]
            assert await v.read("one") == b"data"
            await v.rename("two", "one", EXCHANGE)
            assert await v.names_in("one") == ["in-one"]
            assert sorted(await v.names_in("/")) == ["file", "one", "two"]
            check_bricks(v)

    trio.run(main)


def test_exchange_needs_both_names() -> None:
    async def main() -> None:
        async with served(2) as v:
            await v.create("one")
            with refused(errno.ENOENT):
                await v.rename("one", "missing", EXCHANGE)

    trio.run(main)


# -- hard links ----------------------------------------------------------------------------------------------


def test_a_rename_between_two_names_of_one_file_changes_nothing() -> None:
    async def main() -> None:
        async with served(3) as v:
            one = await file_at(v, 0, 0, "one", b"data")
            other = v.name_for(1, start="other")
            await v.link(one, other)
            assert (await v.rename(one, other)).nlink == 2
            assert sorted(await v.names_in("/")) == sorted([one, other])
            check_bricks(v)

    trio.run(main)


def test_replacing_one_of_several_names_leaves_the_others() -> None:
    async def main() -> None:
        async with served(3) as v:
            kept = await file_at(v, 0, 0, "kept", b"old")
            name = v.name_for(1, start="name")
            await v.link(kept, name)
            await v.create("new", b"new")
            await v.rename("new", name)
            assert (await v.read(kept), await v.read(name)) == (b"old", b"new")
            assert (await v.lookup(kept)).nlink == 1
            check_bricks(v)

    trio.run(main)


# -- directories ---------------------------------------------------------------------------------------------


def test_a_directory_is_renamed_everywhere_with_what_is_in_it() -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("above")
            await v.mkdir("dir")
            for n in range(9):
                await v.create(f"dir/f{n}", b"%d" % n)
            await v.mkdir("above/empty")
            iatt = await v.rename("dir", "above/empty")
            assert iatt.is_dir
            assert await v.names_in("above/empty") == [f"f{n}" for n in range(9)]
            assert not await v.exists("dir")
            await v.mkdir("above/empty/below")
            check_bricks(v)

    trio.run(main)


def test_a_directory_that_is_not_empty_somewhere_is_not_replaced() -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("dir")
            await v.mkdir("full")
            await v.create(f"full/{v.name_for(2, 'full')}")
            with refused(errno.ENOTEMPTY):
                await v.rename("dir", "full")
            assert sorted(await v.names_in("/")) == ["dir", "full"]
            check_bricks(v)

    trio.run(main)


@pytest.mark.parametrize(("old", "new", "number"), [("dir", "file", errno.ENOTDIR), ("file", "dir", errno.EISDIR)])
def test_a_directory_and_a_file_do_not_replace_each_other(old: str, new: str, number: int) -> None:
    async def main() -> None:
        async with served(2) as v:
            await v.mkdir("dir")
            await v.create("file")
            with refused(number):
                await v.rename(old, new)
            check_bricks(v)

    trio.run(main)


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("flags", [0, EXCHANGE])
def test_a_directory_rename_that_fails_on_one_brick_is_taken_back_on_all(failing: int, flags: int) -> None:
    async def main() -> None:
        async with served(3) as v:
            for name in ("dir", "other"):
                await v.mkdir(name)
                await v.create(f"{name}/in-{name}")
            new = "other" if flags else "new"
            place(v.dht.children[failing], Fault("error", fops=frozenset({"rename"}), times=1))
            with refused(errno.EIO):
                await v.rename("dir", new, flags)
            assert await v.names_in("dir") == ["in-dir"]
            assert await v.names_in("other") == ["in-other"]
            assert sorted(await v.names_in("/")) == ["dir", "other"]
            check_bricks(v)
            await v.rename("dir", new, flags)
            assert await v.names_in(new) == ["in-dir"]

    trio.run(main)


def test_renaming_a_directory_is_refused_while_a_brick_is_down_and_nothing_is_renamed() -> None:
    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("dir")
            new = v.name_for(0, start="new")
            await v.bricks[2].kill()
            with refused(errno.ENOTCONN):
                await v.rename("dir", new)
            await v.bricks[2].start()
            assert v.where(new) == {}
            await v.rename("dir", new)
            assert v.where(new) == dict.fromkeys(range(3), "dir")

    trio.run(main)


# -- failures and crashes ------------------------------------------------------------------------------------

CHANGING = [fop.name for fop in FOPS.values() if fop.changes]


@pytest.mark.parametrize(("s", "s_at", "d", "d_at"), RENAMES)
def test_a_rename_that_fails_at_any_step_has_happened_or_not(s: int, s_at: int, d: int, d_at: int | None) -> None:
    async def main() -> None:
        for nth in range(1, 8):
            async with served(4) as v:
                source = await file_at(v, s, s_at, "source", b"source")
                target = (
                    v.name_for(d, start="target") if d_at is None else await file_at(v, d, d_at, "target", b"target")
                )
                with failing(v, nth) as failure:
                    try:
                        await v.rename(source, target)
                        happened = True
                    except FopError:
                        happened = False
                if not failure.fired:
                    return
                if happened:
                    assert await v.read(target) == b"source"
                    # A brick that will not give up the old name keeps it as a hard link; nothing is lost.
                    assert not await v.exists(source) or (await v.lookup(source)).gfid == (await v.lookup(target)).gfid
                else:
                    assert await v.read(source) == b"source"
                    assert d_at is None or await v.read(target) == b"target"
                    check_bricks(v)

    trio.run(main)


@pytest.mark.parametrize(("s", "s_at", "d", "d_at"), RENAMES)
def test_a_crash_in_the_middle_of_a_rename_loses_no_file(s: int, s_at: int, d: int, d_at: int | None) -> None:
    async def main() -> None:
        for nth in range(1, 8):
            async with served(4) as v:
                source = await file_at(v, s, s_at, "source", b"source")
                target = (
                    v.name_for(d, start="target") if d_at is None else await file_at(v, d, d_at, "target", b"target")
                )
                with failing(v, nth, crash=True) as failure:
                    try:
                        await v.rename(source, target)
                    except Crash:
                        pass
                await v.remount()
                found = {name: await v.read(name) for name in (source, target) if await v.exists(name)}
                assert b"source" in found.values()
                if found.get(source) == b"source" and d_at is not None:
                    assert found[target] in (b"target", b"source")
                if not failure.fired:
                    return

    trio.run(main)


class Crash(BaseException):
    """The process is gone: nothing that follows is done."""


class Failure:
    def __init__(self) -> None:
        self.fired = False


@contextmanager
def failing(v: Volume, nth: int, *, crash: bool = False) -> Iterator[Failure]:
    """The n-th change that distribute makes on any subvolume fails; after a crash all later ones do."""
    failure, count = Failure(), 0
    originals: list[tuple[Any, str, Any]] = []

    def wrap(edge: Any, fop: str) -> None:
        method = getattr(edge, fop)
        originals.append((edge, fop, method))

        async def call(*args: Any) -> Any:
            nonlocal count
            count += 1
            if count == nth or (crash and count > nth):
                failure.fired = True
                if crash:
                    raise Crash
                raise FopError(errno.EIO, "injected")
            return await method(*args)

        setattr(edge, fop, call)

    for edge in v.dht.children:
        for fop in CHANGING:
            wrap(edge, fop)
    try:
        yield failure
    finally:
        for edge, fop, method in originals:
            setattr(edge, fop, method)


def test_a_source_that_has_gone_meanwhile_is_estale_and_nothing_is_made() -> None:
    async def main() -> None:
        async with served(3) as v:
            source = await file_at(v, 0, 0, "source", b"s")
            other = v.name_for(2, start="other")
            inode = await v.inode(source)
            await v.link(source, other)
            await v.unlink(source)
            root, target = v.table.root, v.name_for(1, start="target")
            with refused(errno.ESTALE):
                await v.top.rename(v.tick(), root, source.encode(), root, target.encode(), inode, None, 0)
            assert v.where(target) == {}
            check_bricks(v)

    trio.run(main)


def test_open_files_go_on_after_their_name_was_replaced() -> None:
    async def main() -> None:
        async with served(3) as v:
            target = await file_at(v, 0, 1, "target", b"old")
            fd = await v.open(target, os.O_RDWR)
            await v.create("source", b"new")
            await v.rename("source", target)
            assert bytes(await v.top.readv(v.frame, fd, 10, 0)) == b"old"
            assert (await v.top.stat(v.frame, fd)).nlink == 0
            await v.top.writev(v.tick(), fd, b"x", 3)
            await v.close(fd)
            assert await v.read(target) == b"new"
            assert stat.S_ISREG((await v.lookup(target)).mode)

    trio.run(main)
