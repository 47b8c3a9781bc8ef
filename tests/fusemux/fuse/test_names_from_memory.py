"""Which names a directory has not, a bridge knows: of directories made here, and of those in which names are looked up in vain."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
import trio

from fusemux.bricks.brick import Brick
from fusemux.fuse.bridge import Bridge
from fusemux.fuse.calls import names as calls
from fusemux.fuse.calls import recall
from fusemux.graph.cluster.distribute.distribute import Distribute
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.pool import Pool
from fusemux.graph.framework.types import ROOT_GFID, Frame
from fusemux.testing.graph import GraphVolume
from tests.fusemux.fuse.bridged import KINDS, bridged
from tests.fusemux.fuse.memory import Memory


async def absent(bridge: Bridge, node: int, name: bytes) -> bool:
    try:
        await bridge.lookup(Frame(), node, name)
    except FopError as error:
        assert error.errno == errno.ENOENT
        return True
    return False


async def make(bridge: Bridge, node: int, name: bytes) -> None:
    _, _, fh = await bridge.create(Frame(), node, name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    await bridge.release(Frame(), fh)


async def learn(bridge: Bridge, node: int = 1) -> None:
    """Look up in vain until the directory is read."""
    for number in range(20):
        assert await absent(bridge, node, b"nothing-%d" % number)


def test_of_a_new_directory_it_knows_all(play: Callable[..., None]) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        node, _ = await bridge.mkdir(Frame(), 1, b"d", 0o755)
        before = memory.calls.copy()
        assert await absent(bridge, node, b"f")
        assert bridge.lacks(node, b"f")
        assert memory.calls == before, "nobody was asked"
        await make(bridge, node, b"f")
        assert not await absent(bridge, node, b"f")
        await bridge.unlink(Frame(), node, b"f")
        assert await absent(bridge, node, b"f")
        assert memory.calls["lookup"] - before["lookup"] == 1, "only for what is there"

    play(scene, sole_writer=True)


def test_a_directory_is_read_once_many_lookups_were_in_vain(play: Callable[..., None]) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        for name in (b"f", b"g"):
            await make(bridge, 1, name)
        await learn(bridge)
        asked = memory.calls["lookup"]
        assert 0 < asked < 20
        assert memory.calls["opendir"] == memory.calls["release"] - 2 == 1, "and closed again"
        assert await absent(bridge, 1, b"h")
        assert memory.calls["lookup"] == asked
        assert not await absent(bridge, 1, b"f")

    play(scene, sole_writer=True)


def test_names_that_lead_elsewhere_are_not_answered_from_memory(play: Callable[..., None]) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        node, _ = await bridge.mkdir(Frame(), 1, b"d", 0o755)
        for name in (b".", b".."):
            assert await bridge.lookup(Frame(), node, name)
        for name in (b".", b"..", b"n" * 256, b"f@test-dht:test-client-1"):
            assert not bridge.lacks(node, name)
        with pytest.raises(FopError) as raised:
            await bridge.lookup(Frame(), node, b"n" * 256)
        assert raised.value.errno == errno.ENAMETOOLONG

    play(scene, sole_writer=True)


def test_others_may_make_names_unless_it_is_told_otherwise(play: Callable[..., None]) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await learn(bridge)
        await memory.mkdir(Frame(), bridge.known[1], b"theirs", 0o755, b"t" * 16)
        assert not await absent(bridge, 1, b"theirs")
        assert memory.calls["opendir"] == 0

    play(scene)


def test_a_name_that_comes_while_the_directory_is_read_is_not_missed(play: Callable[..., None]) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        changes = bridge.recall.changes
        await make(bridge, 1, b"f")
        bridge.recall.know(bridge.known[1].gfid, [], changes)
        assert not await absent(bridge, 1, b"f")

    play(scene, sole_writer=True)


def test_very_many_names_are_not_remembered(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "NAMES_MAX", 3)

    async def scene(bridge: Bridge, memory: Memory) -> None:
        node, _ = await bridge.mkdir(Frame(), 1, b"d", 0o755)
        for number in range(4):
            assert bridge.lacks(node, b"%d" % number)
            await make(bridge, node, b"%d" % number)
        assert not bridge.lacks(node, b"4")
        for number in range(4):
            await bridge.unlink(Frame(), node, b"%d" % number)
        assert not bridge.lacks(node, b"4"), "until it is read"
        await learn(bridge, node)
        assert bridge.lacks(node, b"4")

    play(scene, sole_writer=True)


def test_what_is_remembered_of_all_directories_is_bounded(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "_ALL_NAMES_MAX", 8)
    monkeypatch.setattr(recall, "_LIMIT", 5)

    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodes = []
        for number in range(20):
            node, _ = await bridge.mkdir(Frame(), 1, b"%d" % number, 0o755)
            nodes.append(node)
            for name in (b"a", b"b", b"c"):
                await make(bridge, node, name)
            held = [known for known in nodes if bridge.lacks(known, b"nothing")]
            assert len(held) <= 5
            assert bridge.recall.names_held == 3 * len(held) <= 8
            for known in nodes:
                assert not bridge.lacks(known, b"b")

    play(scene, sole_writer=True)


def test_a_translator_with_a_lookup_of_its_own_is_asked_each_time_unless_it_says_otherwise(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take `F` for `f`."""
    monkeypatch.setattr(Memory, "repeats", False)

    async def scene(bridge: Bridge, memory: Memory) -> None:
        node, _ = await bridge.mkdir(Frame(), 1, b"d", 0o755)
        await learn(bridge, node)
        assert memory.calls["lookup"] == 20
        assert memory.calls["opendir"] == 0
        for _ in range(2):
            await bridge.getattr(Frame(), node)
        assert memory.calls["stat"] == 2

    play(scene, sole_writer=True)


@pytest.mark.parametrize("spec", KINDS)
def test_a_fault_that_is_placed_is_felt(fusemux_volume: GraphVolume, spec: str) -> None:
    async def scenario(bridge: Bridge) -> None:
        node, _ = await bridge.mkdir(Frame(), 1, b"d", 0o755)
        assert bridge.lacks(node, b"f")
        for place in (fusemux_volume, *fusemux_volume.bricks):
            fault = await place.faults.error(fop="lookup", errno="EIO", path="/d/z")
            assert not bridge.lacks(node, b"f")
            await learn(bridge, node)
            assert not bridge.lacks(node, b"f")
            await fault.clear()
        await learn(bridge, node)
        assert bridge.lacks(node, b"f")

    bridged(fusemux_volume, scenario, sole_writer=True)


@pytest.mark.fusemux(replica=3, backend="graph")
def test_while_a_copy_is_away_every_name_is_looked_up(fusemux_volume: GraphVolume) -> None:
    async def scenario(bridge: Bridge) -> None:
        node, _ = await bridge.mkdir(Frame(), 1, b"d", 0o755)
        brick = fusemux_volume.bricks[0]
        await brick.kill()
        await learn(bridge, node)
        assert not bridge.lacks(node, b"f")
        await make(bridge, node, b"f")
        await brick.start()
        await fusemux_volume.heal()
        await learn(bridge, node)
        assert not await absent(bridge, node, b"f")
        assert bridge.lacks(node, b"g")

    bridged(fusemux_volume, scenario, sole_writer=True)


# -- what a lookup finds that no listing shows ---------------------------------------------------------------------


def distribute_of(volume: GraphVolume) -> Distribute:
    return next(t for t in volume.served.graph.translators.values() if isinstance(t, Distribute))


async def lose(volume: GraphVolume, brick: int, name: bytes) -> None:
    """One brick loses what it has under a name of the root, behind everybody's back."""
    edge = volume.process.bricks[str(volume.bricks[brick].path)].edge
    table = volume.served.graph.itable
    iatt = await edge.lookup(Frame(), table.root, name, None)
    remove = edge.rmdir if iatt.is_dir else edge.unlink
    await remove(Frame(), table.root, name, table.learn(iatt.gfid, iatt.type), None)


async def make_elsewhere(volume: GraphVolume, *names: bytes) -> None:
    """Directories of which the bridge does not know."""
    for name in names:
        await volume.mkdir(os.fsdecode(name))


@pytest.mark.parametrize(
    "optimize",
    [
        pytest.param(
            word == "on", marks=pytest.mark.fusemux("2", backend="graph", options={"cluster.readdir-optimize": word})
        )
        for word in ("off", "on")
    ],
)
def test_a_directory_that_one_subvolume_lacks_is_found(fusemux_volume: GraphVolume, optimize: bool) -> None:
    names = [b"d%d" % number for number in range(8)]

    async def scenario(bridge: Bridge) -> None:
        await make_elsewhere(fusemux_volume, *names)
        distribute = distribute_of(fusemux_volume)
        assert distribute.opt.readdir_optimize == optimize
        root = bridge.known[1].ctx[distribute.inode_slot]
        for name in names:
            listed = 0 if optimize else root.layout.find(distribute.hash(name))
            await lose(fusemux_volume, listed, name)
        await learn(bridge)
        assert bridge.lacks(1, b"nothing")
        for name in names:
            assert not bridge.lacks(1, name)

    bridged(fusemux_volume, scenario, sole_writer=True)


@pytest.mark.parametrize("copy", [0, 1, 2])
@pytest.mark.fusemux(replica=3, backend="graph")
def test_a_name_that_one_copy_lacks_is_found_and_healed(fusemux_volume: GraphVolume, copy: int) -> None:
    async def scenario(bridge: Bridge) -> None:
        await make_elsewhere(fusemux_volume, b"d")
        await lose(fusemux_volume, copy, b"d")
        await learn(bridge)
        assert bridge.lacks(1, b"nothing")
        assert not await absent(bridge, 1, b"d")
        await lose(fusemux_volume, copy, b"d")  # it was there again

    bridged(fusemux_volume, scenario, sole_writer=True)


@pytest.mark.parametrize("copy", [0, 1, 2])
@pytest.mark.fusemux(replica=3, backend="graph")
def test_a_copy_that_lacks_the_directory_keeps_nobody_from_knowing_its_names(
    fusemux_volume: GraphVolume, copy: int
) -> None:
    async def scenario(bridge: Bridge) -> None:
        await make_elsewhere(fusemux_volume, b"d")
        node, _ = await bridge.lookup(Frame(), 1, b"d")
        await lose(fusemux_volume, copy, b"d")
        await fusemux_volume.bricks[copy].kill()  # it does not even have it open
        await fusemux_volume.bricks[copy].start()
        await learn(bridge, node)
        assert bridge.lacks(node, b"nothing")
        await bridge.lookup(Frame(), 1, b"d")  # heals it
        await make(bridge, node, b"f")
        assert not await absent(bridge, node, b"f")

    bridged(fusemux_volume, scenario, sole_writer=True)


@pytest.mark.fusemux(replica=2, distribute=2, backend="graph")
def test_names_of_all_copies_count_once(fusemux_volume: GraphVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "NAMES_MAX", 12)
    monkeypatch.setattr(calls, "NAMES_MAX", 12)
    monkeypatch.setattr(calls, "_BATCH", 5)

    async def scenario(bridge: Bridge) -> None:
        await make_elsewhere(fusemux_volume, *(b"d%d" % number for number in range(10)))
        await learn(bridge)
        assert bridge.lacks(1, b"nothing")
        assert bridge.recall.names_held == 10

    bridged(fusemux_volume, scenario, sole_writer=True)


@pytest.mark.fusemux(distribute=2, backend="graph")
def test_a_file_that_was_made_on_a_subvolume_of_choice_is_found(fusemux_volume: GraphVolume) -> None:
    async def scenario(bridge: Bridge) -> None:
        node, _ = await bridge.mkdir(Frame(), 1, b"d", 0o755)
        for _ in range(2):
            for place in distribute_of(fusemux_volume).names:
                name = place.encode()
                await make(bridge, node, name + distribute_of(fusemux_volume).suffix + name)
                assert not await absent(bridge, node, name)
                await bridge.unlink(Frame(), node, name)
                assert await absent(bridge, node, name)

    bridged(fusemux_volume, scenario, sole_writer=True)


# -- lookups that are many, or broken off --------------------------------------------------------------------------


def test_those_who_look_while_a_directory_is_read_do_not_all_read_it(play: Callable[..., None]) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        assert bridge.recall.get(ROOT_GFID) is None  # it has seen the graph
        assert [bridge.recall.in_vain(ROOT_GFID) for _ in range(32)].count(True) == 4

    play(scene, sole_writer=True)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(spec, marks=pytest.mark.fusemux(spec, backend="graph", options={"storage.io-mode": "pool"}))
        for spec in ("1", "2", "2x2")
    ],
)
def test_a_lookup_that_is_interrupted_leaves_nothing_open(
    fusemux_volume: GraphVolume, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Pool.run
    scope = trio.CancelScope()
    left = 0  # calls to bricks before the interrupt; 0 and below: it has come, or is not to come

    async def counted(pool: Pool, key: Any, work: Callable[..., Any], *args: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            scope.cancel()
        return await run(pool, key, work, *args)

    async def scenario(bridge: Bridge) -> None:
        nonlocal left, scope
        monkeypatch.setattr(Pool, "run", counted)
        nth = 0
        while left <= 0:  # until it makes fewer calls than that
            nth += 1
            node, _ = await bridge.mkdir(Frame(), 1, b"d%d" % nth, 0o755)
            bridge.recall.forget(bridge.known[node].gfid)
            for number in range(7):
                assert await absent(bridge, node, b"nothing-%d" % number)
            left = nth
            with trio.CancelScope() as scope:
                assert await absent(bridge, node, b"nothing")
            for brick in fusemux_volume.process.bricks.values():
                assert isinstance(brick, Brick)
                assert brick.posix.store.leaks()["streams"] == 0
        assert nth > 3, "a lookup that reads the names makes more calls than that"

    bridged(fusemux_volume, scenario, sole_writer=True)
