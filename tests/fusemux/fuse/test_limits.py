"""What the kernel is asked to drop, and told to drop because others changed it."""

from __future__ import annotations

import stat

from fusemux.fuse.bridge import Bridge
from fusemux.graph.framework.translator import Event, StaleAttributes, StaleName
from fusemux.graph.framework.types import SetAttr
from tests.fusemux.fuse.memory import Memory
from tests.fusemux.fuse.test_names import ROOT, F, Play, make


def test_nodes_stay_near_the_limit_when_the_kernel_drops_what_it_is_asked_to(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        def drop(nodes: list[int]) -> None:
            dropped.extend((nodeid, bridge.known[nodeid].nlookup) for nodeid in nodes)

        dropped: list[tuple[int, int]] = []
        bridge.on_excess = drop
        most = 0
        for round_ in range(3):
            for number in range(300):
                if round_ == 0:
                    await make(bridge, b"%d" % number)
                else:
                    await bridge.lookup(F, ROOT, b"%d" % number)
                for nodeid, nlookup in dropped:
                    bridge.forget(nodeid, nlookup)
                dropped.clear()
                most = max(most, bridge.statistics().nodes)
        assert 60 < most <= 72

    play(scene, lru_limit=64)


def test_a_kernel_that_cannot_drop_anything_is_asked_for_everything_but_not_all_the_time(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        asked: list[list[int]] = []
        bridge.on_excess = asked.append
        for number in range(640):
            await make(bridge, b"%d" % number)
        assert len(asked) < 30
        assert len({nodeid for nodes in asked for nodeid in nodes}) > 500

    play(scene, lru_limit=64)


def test_references_to_what_is_known_count_too(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        asked: list[int] = []
        for number in range(100):
            await make(bridge, b"%d" % number)
        bridge.on_excess = asked.extend
        for _ in range(100):
            await bridge.lookup(F, ROOT, b"0")
        assert asked

    play(scene, lru_limit=50)


def test_the_root_and_open_files_are_not_asked_for(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        asked: list[int] = []
        bridge.on_excess = asked.extend
        nodeid, _, fh = await bridge.create(F, ROOT, b"open", 2, 0o644)
        for number in range(20):
            await make(bridge, b"%d" % number)
        assert asked
        assert not {ROOT, nodeid} & set(asked)
        await bridge.release(F, fh)

    play(scene, lru_limit=8)


def test_where_nodes_cannot_be_dropped_names_of_files_are(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        asked: list[tuple[int, bytes]] = []
        bridge.on_invalidate_entry = lambda parent, name: asked.append((parent, name))
        await bridge.mkdir(F, ROOT, b"directory", 0o755)
        for number in range(20):
            await make(bridge, b"%d" % number)
        assert (ROOT, b"0") in asked
        assert (ROOT, b"directory") not in asked

    play(scene, lru_limit=8)


def test_an_upcall_for_a_file_invalidates_its_node(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        stale: list[int] = []
        bridge.on_invalidate = stale.append
        nodeid = await make(bridge, b"file")
        inode = bridge.known[nodeid]
        memory.notify(Event.UPCALL, data=inode)
        assert stale == [nodeid]
        bridge.forget(nodeid, 1)
        memory.notify(Event.UPCALL, data=inode)
        assert stale == [nodeid]
        memory.notify(Event.CHILD_UP)

    play(scene)


def test_an_upcall_for_a_directory_invalidates_its_names_too(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        stale: list[object] = []
        bridge.on_invalidate = stale.append
        bridge.on_invalidate_entry = lambda parent, name: stale.append((parent, name))
        nodeid, _ = await bridge.mkdir(F, ROOT, b"dir", 0o755)
        await make(bridge, b"inside", nodeid)
        await make(bridge, b"outside")
        memory.notify(Event.UPCALL, data=bridge.known[nodeid])
        assert stale == [(nodeid, b"inside"), nodeid]

    play(scene)


def test_an_upcall_for_a_directorys_attributes_leaves_its_names(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid, _ = await bridge.mkdir(F, ROOT, b"dir", 0o755)
        await bridge.mkdir(F, nodeid, b"inside", 0o755)  # something may be mounted on it
        stale: list[object] = []
        bridge.on_invalidate = stale.append
        bridge.on_invalidate_entry = lambda parent, name: stale.append((parent, name))
        directory = bridge.known[nodeid]
        assert stat.S_IMODE((await bridge.getattr(F, nodeid)).mode) == 0o755
        await memory.setattr(F, directory, SetAttr(mode=0o700))
        memory.notify(Event.UPCALL, data=StaleAttributes(directory))
        assert stale == [nodeid]
        assert stat.S_IMODE((await bridge.getattr(F, nodeid)).mode) == 0o700

    play(scene, sole_writer=True)


def test_an_upcall_for_a_name_invalidates_it_also_where_nothing_was(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        stale: list[object] = []
        bridge.on_invalidate_entry = lambda parent, name: stale.append((parent, name))
        nodeid, _ = await bridge.mkdir(F, ROOT, b"dir", 0o755)
        await make(bridge, b"file")
        for name in (b"file", b"missing", b"dir"):  # something may be mounted below the directory
            memory.notify(Event.UPCALL, data=StaleName(bridge.known[ROOT], name))
        assert stale == [(ROOT, b"file"), (ROOT, b"missing")]
        directory = bridge.known[nodeid]
        bridge.forget(nodeid, 1)
        memory.notify(Event.UPCALL, data=StaleName(directory, b"name"))
        assert len(stale) == 2

    play(scene)


def test_a_closed_bridge_hears_nothing(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        stale: list[int] = []
        bridge.on_invalidate = stale.append
        nodeid = await make(bridge, b"file")
        bridge.close()
        memory.notify(Event.UPCALL, data=bridge.known[nodeid])
        assert stale == []

    play(scene)
