"""Merged listings: every name once, offsets that lead back exactly, also while entries come and go."""

from __future__ import annotations

import os
import stat

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusemux.graph.framework.types import DirEntry

from .test_scenarios import file_at
from .volume import Volume, served


async def fill(v: Volume, directory: str, files: int) -> set[str]:
    """Files, directories, and files that are not where they hash."""
    await v.mkdir(directory)
    for n in range(files):
        await v.create(f"{directory}/f{n}")
    for n in range(0, files, 5):
        await v.rename(f"{directory}/f{n}", f"{directory}/renamed{n}")
        await v.mkdir(f"{directory}/d{n}")
    kept = {f"f{n}" for n in range(files) if n % 5}
    moved = {name for n in range(0, files, 5) for name in (f"renamed{n}", f"d{n}")}
    return kept | moved


def names_of(entries: list[DirEntry]) -> list[str]:
    return [os.fsdecode(entry.name) for entry in entries]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("plus", [False, True])
def test_every_name_is_listed_once_whatever_is_asked_for_at_a_time(count: int, plus: bool) -> None:
    async def main() -> None:
        async with served(3) as v:
            wanted = await fill(v, "dir", 30)
            entries = await v.entries("dir", count, plus=plus)
            assert len(entries) == len(wanted)
            assert set(names_of(entries)) == wanted

    trio.run(main)


def test_an_entry_carries_its_type_number_and_with_plus_its_attributes() -> None:
    async def main() -> None:
        async with served(3) as v:
            await fill(v, "dir", 10)
            await v.top.symlink(v.tick(), await v.inode("dir"), b"link", b"f1", v.process.new_gfid())
            for entry in await v.entries("dir", plus=True):
                iatt = await v.lookup(f"dir/{os.fsdecode(entry.name)}")
                assert (entry.ino, entry.type) == (iatt.ino, iatt.type)
                # one copy of a directory does not know its times; a file's are exact
                assert entry.iatt == (None if stat.S_ISDIR(iatt.mode) else iatt._replace(xdata=None))

    trio.run(main)


@pytest.mark.parametrize("count", [1, 4, 100])
def test_every_offset_leads_back_to_what_follows_its_entry(count: int) -> None:
    async def main() -> None:
        async with served(3) as v:
            await fill(v, "dir", 20)
            fd = await v.open("dir", os.O_RDONLY)
            whole: list[DirEntry] = await v.top.readdir(v.frame, fd, 1000, 0, False)
            for index in sorted(range(len(whole)), key=lambda i: (i * 7919) % 31):
                batch = await v.top.readdir(v.frame, fd, count, whole[index].offset, False)
                assert names_of(batch) == names_of(whole[index + 1 : index + 1 + count])
            assert await v.top.readdir(v.frame, fd, 10, whole[-1].offset, False) == []
            await v.close(fd)

    trio.run(main)


def test_after_a_listing_with_attributes_files_need_no_lookup() -> None:
    async def main() -> None:
        async with served(3) as v:
            name = await file_at(v, 0, 1, "name", b"data")
            await v.remount()
            [entry] = await v.entries("/", plus=True)
            assert entry.iatt is not None
            inode = v.table.find(entry.iatt.gfid)
            assert inode is not None
            fd = v.table.fd(inode, os.O_RDONLY)
            await v.top.open(v.frame, inode, os.O_RDONLY, fd)
            assert bytes(await v.top.readv(v.frame, fd, 9, 0)) == b"data"
            await v.close(fd)
            assert name == os.fsdecode(entry.name)

    trio.run(main)


@pytest.mark.parametrize("optimize", ["off", "on"])
def test_readdir_optimize_lists_directories_from_the_first_brick_only(optimize: str) -> None:
    async def main() -> None:
        async with served(2, readdir_optimize=optimize) as v:
            names = [v.name_for(brick) for brick in (0, 1)]
            for name in names:
                await v.mkdir(name)
            entries = {os.fsdecode(e.name): e.offset for e in await v.entries("/")}
            assert set(entries) == set(names)
            leaf_of_second = entries[names[1]] % 2  # two leaves: the offset's remainder is the leaf
            assert leaf_of_second == (0 if optimize == "on" else 1)

    trio.run(main)


def test_a_directory_that_was_removed_while_open_lists_nothing() -> None:
    async def main() -> None:
        async with served(2) as v:
            await v.mkdir("dir")
            fd = await v.open("dir", os.O_RDONLY)
            await v.rmdir("dir")
            assert await v.top.readdir(v.frame, fd, 10, 0, False) == []
            await v.close(fd)

    trio.run(main)


CHANGES = st.lists(st.tuples(st.sampled_from(["create", "unlink", "mkdir", "rename"]), st.integers(0, 29)), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 8), st.lists(CHANGES, min_size=1, max_size=8))
def test_names_that_stay_are_listed_exactly_once_while_others_come_and_go(
    count: int, changes: list[list[tuple[str, int]]]
) -> None:
    """POSIX leaves open only whether names that come or go during a listing appear."""

    async def main() -> None:
        async with served(3) as v:
            await v.mkdir("dir")
            stays = {f"stays{n}" for n in range(12)}
            for name in sorted(stays):
                await v.create(f"dir/{name}")
            for n in range(0, 30, 2):
                await v.create(f"dir/comes{n}")
            fd = await v.open("dir", os.O_RDONLY)
            listed: list[DirEntry] = []
            pending = list(changes)
            while batch := await v.top.readdir(v.frame, fd, count, listed[-1].offset if listed else 0, False):
                listed += batch
                for change in pending.pop(0) if pending else []:
                    await disturb(v, *change)
            await v.close(fd)
            names = names_of(listed)
            assert all(names.count(name) == 1 for name in stays)
            assert all(names.count(name) <= 2 for name in names)  # twice: gone and made again
            fresh = names_of(await v.entries("dir", count))
            assert len(fresh) == len(set(fresh))

    trio.run(main)


async def disturb(v: Volume, change: str, n: int) -> None:
    name = f"dir/comes{n}"
    there = await v.exists(name)
    match change:
        case "create" if not there:
            await v.create(name)
        case "mkdir" if not there:
            await v.mkdir(name)
        case "unlink" if there:
            directory = stat.S_ISDIR((await v.lookup(name)).mode)
            await (v.rmdir(name) if directory else v.unlink(name))
        case "rename" if there and not await v.exists(f"dir/goes{n}"):
            await v.rename(name, f"dir/goes{n}")
        case _:
            pass
