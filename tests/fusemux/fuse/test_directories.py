"""Reading directories through the bridge, also while they change."""

from __future__ import annotations

import pytest

from fusemux.fuse.bridge import Bridge
from fusemux.graph.framework.types import DirEntry, SetAttr
from tests.fusemux.fuse.memory import Memory
from tests.fusemux.fuse.test_names import ROOT, F, Play, make


async def fill(bridge: Bridge, count: int) -> None:
    for number in range(count):
        bridge.forget(await make(bridge, b"%04d" % number), 1)


async def listing(bridge: Bridge, fh: int, count: int, offset: int = 0, plus: bool = False) -> list[DirEntry]:
    found: list[DirEntry] = []
    while True:
        read = bridge.readdirplus if plus else bridge.readdir
        entries = await read(F, fh, offset, count)
        assert len(entries) <= count
        if not entries:
            return found
        found += entries
        offset = entries[-1].offset


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 700])
def test_a_listing_has_every_entry_once_after_the_dots(play: Play, plus: bool, count: int) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await fill(bridge, 600 if count > 3 else 20)
        fh = await bridge.opendir(F, ROOT)
        entries = await listing(bridge, fh, count, plus=plus)
        assert [entry.name for entry in entries] == [b".", b"..", *sorted(memory.root.entries)]
        assert [entry.iatt is not None for entry in entries] == [False, False] + [plus] * len(memory.root.entries)
        assert len({entry.offset for entry in entries}) == len(entries)
        await bridge.releasedir(F, fh)
        assert bridge.statistics().open_directories == 0

    play(scene)


@pytest.mark.parametrize("plus", [False, True])
def test_every_offset_leads_back_to_its_place(play: Play, plus: bool) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await fill(bridge, 30)
        fh = await bridge.opendir(F, ROOT)
        entries = await listing(bridge, fh, 4, plus=plus)
        for index in reversed(range(len(entries))):
            rest = await listing(bridge, fh, 5, entries[index].offset, plus=plus)
            assert [entry.name for entry in rest] == [entry.name for entry in entries[index + 1 :]]
        await bridge.releasedir(F, fh)

    play(scene)


def test_a_reply_that_held_fewer_entries_goes_on_from_there_without_reading_anew(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await fill(bridge, 50)
        fh = await bridge.opendir(F, ROOT)
        found, offset = [], 2
        while entries := await bridge.readdir(F, fh, offset, 20):
            taken = entries[:7]
            found += [entry.name for entry in taken]
            offset = taken[-1].offset
        assert found == sorted(memory.root.entries)
        assert memory.calls["readdir"] == 2  # the batch, and the end
        await bridge.releasedir(F, fh)

    play(scene)


def test_rewinding_sees_what_has_changed(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await fill(bridge, 3)
        fh = await bridge.opendir(F, ROOT)
        await listing(bridge, fh, 100)
        await bridge.unlink(F, ROOT, b"0001")
        await make(bridge, b"new")
        names = [entry.name for entry in await listing(bridge, fh, 100)]
        assert names == [b".", b"..", b"0000", b"0002", b"new"]
        await bridge.releasedir(F, fh)

    play(scene)


def test_what_stays_is_listed_once_while_others_come_and_go(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await fill(bridge, 40)
        fh = await bridge.opendir(F, ROOT)
        seen: list[bytes] = []
        offset, round_ = 0, 0
        while entries := await bridge.readdirplus(F, fh, offset, 5):
            seen += [entry.name for entry in entries]
            offset = entries[-1].offset
            for name in list(memory.root.entries):
                if name < b"0040" and int(name) % 2 and int(name) % 5 == round_ % 5:
                    await bridge.unlink(F, ROOT, name)
            bridge.forget(await make(bridge, b"new%d" % round_), 1) if round_ < 5 else None
            round_ += 1
        stayed = [b"%04d" % number for number in range(0, 40, 2)]
        assert [name for name in seen if name in stayed] == stayed
        assert len(set(seen)) == len(seen)
        await bridge.releasedir(F, fh)

    play(scene)


def test_attributes_in_a_listing_are_those_of_the_moment(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await fill(bridge, 3)
        fh = await bridge.opendir(F, ROOT)
        first = await bridge.readdirplus(F, fh, 0, 3)
        nodeid, _ = await bridge.lookup(F, ROOT, b"0001")
        await bridge.setattr(F, nodeid, 0, 99, SetAttr())
        (second, *_) = await bridge.readdirplus(F, fh, first[-1].offset, 3)
        assert second.name == b"0001"
        assert second.iatt is not None
        assert second.iatt.size == 99
        await bridge.releasedir(F, fh)

    play(scene)


def test_entries_that_reach_the_kernel_are_references_under_their_name(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await fill(bridge, 3)
        fh = await bridge.opendir(F, ROOT)
        for entry in await listing(bridge, fh, 100, 2, plus=True):
            assert bridge.entered(entry, fh) == entry.ino
        assert bridge.statistics()[:2] == (4, 3)
        before = memory.calls["lookup"]
        await bridge.unlink(F, ROOT, b"0001")
        assert memory.calls["lookup"] == before
        await bridge.releasedir(F, fh)

    play(scene)


def test_dot_dot_names_the_parent(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        outer, _ = await bridge.mkdir(F, ROOT, b"outer", 0o755)
        inner, _ = await bridge.mkdir(F, outer, b"inner", 0o755)
        fh = await bridge.opendir(F, inner)
        entries = await bridge.readdir(F, fh, 0, 10)
        assert [(entry.name, entry.ino) for entry in entries] == [(b".", inner), (b"..", outer)]
        await bridge.fsyncdir(F, fh, True)
        await bridge.releasedir(F, fh)

    play(scene)
