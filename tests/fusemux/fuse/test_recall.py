"""What a bridge answers of directories from memory is what the bricks say."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusemux.fuse.bridge import Bridge
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Frame, Iatt, SetAttr
from fusemux.testing.graph import GraphVolume
from tests.fusemux.fuse.bridged import KINDS, bridged
from tests.fusemux.fuse.memory import Memory

FILES = st.sampled_from([b"f", b"g"])
DIRECTORIES = st.sampled_from([b"d", b"e"])
NAMES = [b"d", b"e", b"f", b"g", b"another-f", b"another-g"]
PLACES = st.sampled_from([(), (b"d",), (b"e",), (b"d", b"e")])
STEPS = st.one_of(
    st.tuples(
        st.sampled_from(["create", "mknod", "symlink", "unlink", "link", "tmpfile", "replace", "exchange"]),
        PLACES,
        FILES,
    ),
    st.tuples(st.sampled_from(["mkdir", "rmdir", "rename", "chmod", "utime", "acl", "list"]), PLACES, DIRECTORIES),
)


async def gfid_at(lookup: Awaitable[Any]) -> bytes | None:
    """What a lookup by the bridge, or by the graph, has found; None: nothing."""
    try:
        found = await lookup
    except FopError as error:
        assert error.errno == errno.ENOENT
        return None
    gfid: bytes = (found[1] if type(found) is tuple else found).gfid
    return gfid


_REFUSALS = (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.ENOTEMPTY, errno.EINVAL, errno.EISDIR)


class Asker:
    """Does things through a bridge, and compares after each what it says of every directory with what the graph says."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.nodes: dict[int, None] = {1: None}

    async def enter(self, place: tuple[bytes, ...]) -> int:
        node = 1
        for name in place:
            node, iatt = await self.bridge.lookup(Frame(), node, name)
            if not stat.S_ISDIR(iatt.mode):
                raise FopError(errno.ENOTDIR)
            self.nodes[node] = None
        return node

    async def compare(self) -> None:
        for node in self.nodes:
            if node not in self.bridge.nodes.removed:
                told: Iatt = await self.bridge.getattr(Frame(), node)
                true: Iatt = await self.bridge.top.stat(Frame(), self.bridge.known[node])
                assert told._replace(atime_ns=0) == true._replace(atime_ns=0)  # the healer reads directories, too
                await self._compare_names(node)

    async def _compare_names(self, node: int) -> None:
        for name in NAMES:
            told = await gfid_at(self.bridge.lookup(Frame(), node, name))
            assert told == await gfid_at(self.bridge.top.lookup(Frame(), self.bridge.known[node], name))

    async def step(self, what: str, place: tuple[bytes, ...], name: bytes) -> None:
        try:
            await getattr(self, f"_{what}")(await self.enter(place), name)
        except FopError as error:
            assert error.errno in _REFUSALS
        await self.compare()

    async def _create(self, node: int, name: bytes) -> None:
        _, _, fh = await self.bridge.create(Frame(), node, name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        await self.bridge.release(Frame(), fh)

    async def _tmpfile(self, node: int, name: bytes) -> None:
        _, _, fh = await self.bridge.tmpfile(Frame(), node, os.O_RDWR, 0o600)
        await self.bridge.release(Frame(), fh)

    async def _mknod(self, node: int, name: bytes) -> None:
        await self.bridge.mknod(Frame(), node, name, stat.S_IFIFO | 0o600, 0)

    async def _symlink(self, node: int, name: bytes) -> None:
        await self.bridge.symlink(Frame(), node, name, b"target")

    async def _link(self, node: int, name: bytes) -> None:
        found, _ = await self.bridge.lookup(Frame(), node, name)
        await self.bridge.link(Frame(), found, 1, b"another-" + name)

    async def _unlink(self, node: int, name: bytes) -> None:
        await self.bridge.lookup(Frame(), node, name)
        await self.bridge.unlink(Frame(), node, name)

    async def _mkdir(self, node: int, name: bytes) -> None:
        made, _ = await self.bridge.mkdir(Frame(), node, name, 0o755)
        self.nodes[made] = None

    async def _rmdir(self, node: int, name: bytes) -> None:
        gone, _ = await self.bridge.lookup(Frame(), node, name)
        await self.bridge.rmdir(Frame(), node, name)
        self.nodes.pop(gone, None)

    async def _rename(self, node: int, name: bytes) -> None:
        await self.bridge.lookup(Frame(), node, name)
        other = {b"d": b"e", b"e": b"d"}[name]
        await self.bridge.rename(Frame(), node, name, 1, other, 1)  # RENAME_NOREPLACE

    async def _replace(self, node: int, name: bytes) -> None:
        """Also of what is not empty, of a file by a directory, and of a directory by what is in it: refused."""
        await self.bridge.lookup(Frame(), node, name)
        await self.bridge.rename(Frame(), node, name, 1, {b"f": b"g", b"g": b"d"}[name], 0)

    async def _exchange(self, node: int, name: bytes) -> None:
        await self.bridge.lookup(Frame(), node, name)
        await self.bridge.rename(Frame(), node, name, 1, {b"f": b"e", b"g": b"f"}[name], 2)

    async def _chmod(self, node: int, name: bytes) -> None:
        node = await self.enter((name,))
        mode = stat.S_IMODE((await self.bridge.getattr(Frame(), node)).mode) ^ 0o20
        await self.bridge.setattr(Frame(), node, 0, None, SetAttr(mode=mode))

    async def _utime(self, node: int, name: bytes) -> None:
        for where, mtime_ns in ((1, 4_000_000_000_000_000_000), (node, 1_000_000_000)):
            await self.bridge.setattr(Frame(), where, 0, None, SetAttr(mtime_ns=mtime_ns))

    async def _acl(self, node: int, name: bytes) -> None:
        await self.bridge.setxattr(Frame(), node, b"user.note", name, 0)
        await self.bridge.removexattr(Frame(), node, b"user.note")

    async def _list(self, node: int, name: bytes) -> None:
        fh = await self.bridge.opendir(Frame(), node)
        await self.bridge.readdir(Frame(), fh, 0, 100)
        await self.bridge.releasedir(Frame(), fh)


@pytest.mark.parametrize("spec", KINDS)
def test_whatever_happens_it_says_what_the_bricks_say(fusemux_volume: GraphVolume, spec: str) -> None:
    @settings(max_examples=20, deadline=None)
    @given(st.lists(STEPS, max_size=12))
    def run(steps: list[tuple[str, tuple[bytes, ...], bytes]]) -> None:
        async def scenario(bridge: Bridge) -> None:
            asker = Asker(bridge)
            await asker.compare()
            for step in steps:
                await asker.step(*step)

        bridged(fusemux_volume, scenario, sole_writer=True)

    run()


@pytest.mark.parametrize("spec", KINDS)
def test_a_change_of_entries_needs_no_question_to_the_bricks(fusemux_volume: GraphVolume, spec: str) -> None:
    async def scenario(bridge: Bridge) -> None:
        asker = Asker(bridge)
        await asker.step("create", (), b"f")
        before: Iatt = await bridge.getattr(Frame(), 1)
        fault = await fusemux_volume.faults.error(fop="stat", errno="EIO")
        with pytest.raises(FopError):
            await bridge.getattr(Frame(), 1)  # a fault that was placed is felt
        await fault.clear()
        await bridge.getattr(Frame(), 1)
        await asker._unlink(1, b"f")
        after: Iatt = await bridge.getattr(Frame(), 1)
        assert after.mtime_ns == after.ctime_ns > before.mtime_ns

    bridged(fusemux_volume, scenario, sole_writer=True)


@pytest.mark.parametrize("spec", KINDS)
def test_a_time_that_lies_ahead_is_not_taken_to_stay(fusemux_volume: GraphVolume, spec: str) -> None:
    async def scenario(bridge: Bridge) -> None:
        await bridge.setattr(Frame(), 1, 0, None, SetAttr(mtime_ns=4_000_000_000_000_000_000))
        asker = Asker(bridge)
        await asker.compare()
        await asker.step("create", (), b"f")

    bridged(fusemux_volume, scenario, sole_writer=True)


@pytest.mark.fusemux(distribute=2, backend="graph")
@pytest.mark.parametrize("what", ["mkdir", "rmdir", "create", "unlink", "symlink", "mknod", "link", "rename"])
def test_what_failed_half_way_is_looked_at(fusemux_volume: GraphVolume, what: str) -> None:
    async def scenario(bridge: Bridge) -> None:
        asker = Asker(bridge)
        await bridge.mkdir(Frame(), 1, b"d", 0o755)
        await asker.step("create", (), b"f")
        await bridge.getattr(Frame(), 1)
        for brick in fusemux_volume.bricks:
            fault = await brick.faults.error(fop=what, errno="EIO")
            await asker.compare()
            name = {"rmdir": b"d", "rename": b"d", "unlink": b"f", "link": b"f"}.get(what, b"new")
            with suppress(FopError):
                await getattr(asker, f"_{what}")(1, name)
            await asker.compare()
            await fault.clear()

    bridged(fusemux_volume, scenario, sole_writer=True)


@pytest.mark.fusemux(replica=2, backend="graph")
def test_when_the_bricks_go_it_does_not_pretend(fusemux_volume: GraphVolume) -> None:
    async def scenario(bridge: Bridge) -> None:
        await Asker(bridge).step("create", (), b"f")
        for brick in fusemux_volume.bricks:
            await brick.kill()
        with pytest.raises(FopError) as raised:
            await bridge.getattr(Frame(), 1)
        assert raised.value.errno == errno.ENOTCONN

    bridged(fusemux_volume, scenario, sole_writer=True)


def test_an_answer_that_a_change_overtook_is_not_kept(play: Callable[..., None]) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        old = await bridge.getattr(Frame(), 1)
        changes = bridge.recall.changes
        await bridge.setattr(Frame(), 1, 0, None, SetAttr(mode=0o700))
        bridge.recall.keep(old, changes)
        assert stat.S_IMODE((await bridge.getattr(Frame(), 1)).mode) == 0o700

    play(scene, sole_writer=True)


def test_an_answer_that_a_change_of_the_graph_overtook_is_not_kept(play: Callable[..., None]) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        root = bridge.known[1]
        assert bridge.recall.get(root.gfid) is None
        old = await bridge.top.stat(Frame(), root)
        changes = bridge.recall.changes
        bridge.graph.relink()
        assert bridge.recall.get(root.gfid) is None  # somebody else asks first
        bridge.recall.keep(old, changes)
        assert bridge.recall.get(root.gfid) is None

    play(scene, sole_writer=True)


def test_others_may_write_unless_it_is_told_otherwise(play: Callable[..., None]) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await bridge.getattr(Frame(), 1)
        await memory.setattr(Frame(), bridge.known[1], SetAttr(mode=0o700))
        assert stat.S_IMODE((await bridge.getattr(Frame(), 1)).mode) == 0o700

    play(scene)
