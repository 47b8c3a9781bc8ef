"""What the kernel is asked to drop, and told to drop because others changed it."""

from __future__ import annotations

from fusemux.fuse.bridge import Bridge
from fusemux.graph.framework.translator import Event
from tests.fusemux.fuse.memory import Memory
from tests.fusemux.fuse.test_names import ROOT, F, Play, make


def test_nodes_stay_near_the_limit_when_the_kernel_drops_what_it_is_asked_to(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        def drop(parent: int, name: bytes) -> None:
            inode = bridge.nodes.child(parent, name)
            assert inode is not None
            dropped.append((inode.ino, inode.nlookup))

        dropped: list[tuple[int, int]] = []
        bridge.on_invalidate_entry = drop
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
        assert 60 < most <= 70

    play(scene, lru_limit=64)


def test_a_kernel_that_cannot_drop_anything_is_not_asked_all_the_time(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        asked: list[bytes] = []
        bridge.on_invalidate_entry = lambda parent, name: asked.append(name)
        for number in range(640):
            await make(bridge, b"%d" % number)
        assert 640 <= len(asked) <= 2 * 640
        assert len(set(asked[:64])) == 64

    play(scene, lru_limit=64)


def test_directories_and_open_files_are_not_asked_for(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        asked: list[bytes] = []
        bridge.on_invalidate_entry = lambda parent, name: asked.append(name)
        await bridge.create(F, ROOT, b"open", 2, 0o644)
        await bridge.mkdir(F, ROOT, b"directory", 0o755)
        for number in range(20):
            await make(bridge, b"%d" % number)
        assert asked
        assert not {b"open", b"directory"} & set(asked)

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


def test_a_closed_bridge_hears_nothing(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        stale: list[int] = []
        bridge.on_invalidate = stale.append
        nodeid = await make(bridge, b"file")
        bridge.close()
        memory.notify(Event.UPCALL, data=bridge.known[nodeid])
        assert stale == []

    play(scene)
