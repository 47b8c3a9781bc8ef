"""Several callers at once on subvolumes that make them wait: names stay single, replacements atomic, bricks sound."""

from __future__ import annotations

import errno
import os
import random
import stat

import pytest
import trio

from fusemux.graph.framework.errors import FopError

from .invariants import check_bricks
from .volume import Volume, served

# Every fop on every subvolume goes through the scheduler, which trio shuffles.
WAITING = "type debug/delay-gen\noption delay-percentage 100\noption delay-duration 0"


@pytest.mark.parametrize("make", ["create", "mkdir"])
def test_of_many_who_make_one_name_exactly_one_succeeds(make: str) -> None:
    async def main() -> None:
        async with served(3, above=WAITING) as v:
            outcomes: list[int] = []

            async def one() -> None:
                gfid = v.process.new_gfid()
                root = v.table.root
                try:
                    if make == "mkdir":
                        await v.top.mkdir(v.tick(), root, b"name", 0o755, gfid)
                    else:
                        inode = v.table.link(gfid, stat.S_IFREG)
                        fd = v.table.fd(inode, os.O_RDWR)
                        await v.top.create(v.tick(), root, b"name", os.O_RDWR, 0o644, gfid, fd)
                        await v.close(fd)
                    outcomes.append(0)
                except FopError as error:
                    outcomes.append(error.errno)

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(one)
            assert sorted(outcomes) == [0] + [errno.EEXIST] * 7
            check_bricks(v)

    trio.run(main)


def test_a_file_that_is_replaced_again_and_again_is_always_there() -> None:
    async def main() -> None:
        async with served(3, above=WAITING) as v:
            await v.mkdir("d")
            await v.create("d/target", b"0")
            looked = 0

            async def look(scope: trio.CancelScope) -> None:
                nonlocal looked
                while not scope.cancel_called:
                    await v.lookup("d/target")
                    looked += 1

            scope = trio.CancelScope()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look, scope)
                nursery.start_soon(look, scope)
                for n in range(12):
                    await v.create(f"d/new{n}", b"%d" % n)
                    await v.rename(f"d/new{n}", "d/target")
                scope.cancel()
            assert looked > 0
            assert await v.read("d/target") == b"11"
            assert await v.names_in("d") == ["target"]
            check_bricks(v)

    trio.run(main)


def test_making_removing_and_looking_at_one_directory_leaves_it_whole_or_gone() -> None:
    async def main() -> None:
        async with served(3, above=WAITING) as v:

            async def repeat(call: str) -> None:
                for _ in range(15):
                    try:
                        await getattr(v, call)("dir")
                    except FopError as error:
                        assert error.errno in (errno.ENOENT, errno.EEXIST, errno.ESTALE), error

            async with trio.open_nursery() as nursery:
                for call in ("mkdir", "rmdir", "lookup", "lookup"):
                    nursery.start_soon(repeat, call)
            check_bricks(v)

    trio.run(main)


ALLOWED = {
    errno.ENOENT,
    errno.EEXIST,
    errno.ESTALE,
    errno.ENOTEMPTY,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EBUSY,
    errno.EINVAL,
}


async def wander(v: Volume, seed: int) -> None:
    """Random operations on few names; whatever fails must fail as a name may that others change meanwhile."""
    choose = random.Random(seed)
    files = [f"{above}{name}" for above in ("", "d/", "e/") for name in "xyz"]
    for _ in range(40):
        call = choose.choice(["create", "unlink", "rename", "rename", "link", "lookup", "mkdir", "rmdir", "names_in"])
        try:
            match call:
                case "rename" | "link":
                    await getattr(v, call)(choose.choice(files), choose.choice(files))
                case "mkdir" | "rmdir" | "names_in":
                    await getattr(v, call)(choose.choice(["d", "e"]))
                case _:
                    await getattr(v, call)(choose.choice(files))
        except FopError as error:
            assert error.errno in ALLOWED, f"{call}: {error!r}"


@pytest.mark.parametrize("seed", range(6))
def test_four_wanderers_leave_sound_bricks(seed: int) -> None:
    async def main() -> None:
        async with served(3, above=WAITING) as v:
            await v.mkdir("d")
            await v.mkdir("e")
            async with trio.open_nursery() as nursery:
                for n in range(4):
                    nursery.start_soon(wander, v, seed * 100 + n)
            await v.remount()
            for path in ("", "d", "e"):
                if await v.exists(path):
                    for name in await v.names_in(path):
                        await v.lookup(f"{path}/{name}")
            check_bricks(v, linktos=False)

    trio.run(main)
