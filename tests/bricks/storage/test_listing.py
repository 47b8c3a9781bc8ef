"""Directories are read with offsets that stay where they are while entries come and go."""

from __future__ import annotations

import os
import random

from fusemux.graph.framework.types import ino_of
from tests.bricks.serving import Place, Volume, run


def test_a_listing_names_everything_once_whatever_the_batch(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        names = {b"n%04d" % i: await volume.file(b"n%04d" % i) for i in range(300)}
        for batch in (1, 7, 100, 1000):
            entries = await volume.list(batch=batch, plus=batch == 7)
            assert sorted(entry.name for entry in entries) == sorted(names)
            assert {entry.name: entry.ino for entry in entries} == {name: ino_of(i.gfid) for name, i in names.items()}
            if batch == 7:
                assert all(e.iatt is not None and e.iatt.gfid == names[e.name].gfid for e in entries)

    run(brick, scenario)


def test_every_offset_resumes_behind_its_entry(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        for i in range(60):
            await volume.file(b"n%d" % i)
        entries = await volume.list()
        names = [entry.name for entry in entries]
        fd = volume.fd(volume.root, os.O_RDONLY)
        await volume.top.opendir(volume.frame(), volume.root, fd, None)
        order = list(range(60))
        random.Random(7).shuffle(order)
        for place in order:
            rest = await volume.top.readdir(volume.frame(), fd, 100, entries[place].offset, False, None)
            assert [entry.name for entry in rest] == names[place + 1 :]
        again = await volume.top.readdir(volume.frame(), fd, 100, 0, False, None)
        assert again == entries
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_offsets_stay_true_while_entries_come_and_go(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        inodes = {b"n%03d" % i: await volume.file(b"n%03d" % i, directory) for i in range(200)}
        fd = volume.fd(directory, os.O_RDONLY)
        await volume.top.opendir(volume.frame(), directory, fd, None)
        seen: list[bytes] = []
        removed: set[bytes] = set()
        offset, made = 0, 0
        while part := await volume.top.readdir(volume.frame(), fd, 9, offset, True, None):
            seen += [entry.name for entry in part]
            offset = part[-1].offset
            for name in seen[-3:]:  # behind the offset, the very last included
                await volume.unlink(name, inodes.pop(name), directory)
                removed.add(name)
            await volume.file(b"new%d" % made, directory)
            made += 1
            unseen = sorted(set(inodes) - set(seen))
            if unseen:  # ahead of it
                await volume.unlink(unseen[0], inodes.pop(unseen[0]), directory)
                removed.add(unseen[0])
        old = [name for name in seen if not name.startswith(b"new")]
        assert len(old) == len(set(old)), "nothing twice"
        assert set(inodes) <= set(old), "nothing that was there all the time is missing"
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_removing_while_listing_empties_a_directory(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        directory = await volume.mkdir(b"d")
        inodes = {b"n%03d" % i: await volume.file(b"n%03d" % i, directory) for i in range(150)}
        fd = volume.fd(directory, os.O_RDONLY)
        await volume.top.opendir(volume.frame(), directory, fd, None)
        offset = 0
        while part := await volume.top.readdir(volume.frame(), fd, 16, offset, False, None):
            for entry in part:
                await volume.unlink(entry.name, inodes[entry.name], directory)
            offset = part[-1].offset
        await volume.top.release(volume.frame(), fd, None)
        await volume.top.rmdir(volume.frame(), volume.root, b"d", directory, None)

    run(brick, scenario)


def test_two_streams_of_one_directory_have_positions_of_their_own(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        for i in range(20):
            await volume.file(b"n%d" % i)
        first, second = volume.fd(volume.root), volume.fd(volume.root)
        for fd in (first, second):
            await volume.top.opendir(volume.frame(), volume.root, fd, None)
        a = await volume.top.readdir(volume.frame(), first, 5, 0, False, None)
        b = await volume.top.readdir(volume.frame(), second, 20, 0, False, None)
        a += await volume.top.readdir(volume.frame(), first, 20, a[-1].offset, False, None)
        assert a == b
        for fd in (first, second):
            await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_an_entry_made_after_the_end_is_seen_by_a_new_start(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        fd = volume.fd(volume.root)
        await volume.top.opendir(volume.frame(), volume.root, fd, None)
        assert await volume.top.readdir(volume.frame(), fd, 10, 0, False, None) == []
        await volume.file(b"f")
        assert [e.name for e in await volume.top.readdir(volume.frame(), fd, 10, 0, False, None)] == [b"f"]
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)
