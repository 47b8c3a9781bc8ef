"""What the kernel has forgotten is found by its number, and so is what is above it (open_by_handle_at)."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from fusemux.fuse.bridge import Bridge
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Frame, SetAttr
from fusemux.testing.graph import GraphVolume
from tests.fusemux.fuse.bridged import KINDS, bridged

ROOT = 1


async def forgotten(bridge: Bridge) -> tuple[int, int, int, list[int]]:
    """/a, /a/b, /a/b/c and files in /a/b, which neither the kernel nor the graph knows any more."""
    above, _ = await bridge.mkdir(Frame(), ROOT, b"a", 0o755)
    middle, _ = await bridge.mkdir(Frame(), above, b"b", 0o755)
    below, _ = await bridge.mkdir(Frame(), middle, b"c", 0o755)
    files = []
    for name in (b"one", b"two", b"three", b"four"):  # on several subvolumes
        file, _, fh = await bridge.create(Frame(), middle, name, os.O_RDWR, 0o644)
        await bridge.write(Frame(), fh, 0, b"hello")
        await bridge.release(Frame(), fh)
        files.append(file)
    for node in (*files, below, middle, above):
        bridge.forget(node, 1)
    assert set(bridge.known) == {ROOT}
    bridge.itable.unused.clear()
    return above, middle, below, files


@pytest.mark.parametrize("spec", KINDS)
def test_what_is_found_by_its_number_can_be_used(fusemux_volume: GraphVolume, spec: str) -> None:
    async def scenario(bridge: Bridge) -> None:
        above, middle, below, files = await forgotten(bridge)
        for node, parent in ((below, middle), (middle, above), (above, ROOT)):
            assert (await bridge.lookup(Frame(), node, b".."))[0] == parent
        assert all(inode.type for inode in bridge.itable.unused.values())
        for file in files:
            node, iatt = await bridge.lookup(Frame(), file, b".")
            assert (node, stat.S_IFMT(iatt.mode), iatt.size) == (file, stat.S_IFREG, 5)
            fh = await bridge.open(Frame(), node, os.O_RDWR)
            assert bytes(await bridge.read(Frame(), fh, 0, 10)) == b"hello"
            await bridge.release(Frame(), fh)
        await bridge.lookup(Frame(), below, b".")
        made, _ = await bridge.mkdir(Frame(), below, b"d", 0o755)
        await bridge.rename(Frame(), below, b"d", ROOT, b"moved", 0)
        assert (await bridge.lookup(Frame(), made, b".."))[0] == ROOT
        await bridge.rmdir(Frame(), middle, b"c")

    bridged(fusemux_volume, scenario)


@pytest.mark.parametrize("spec", KINDS)
def test_a_parent_that_was_forgotten_before_its_child_is_found(fusemux_volume: GraphVolume, spec: str) -> None:
    async def scenario(bridge: Bridge) -> None:
        above, _ = await bridge.mkdir(Frame(), ROOT, b"a", 0o755)
        middle, _ = await bridge.mkdir(Frame(), above, b"b", 0o755)
        bridge.forget(above, 1)
        assert (await bridge.lookup(Frame(), middle, b".."))[0] == above

    bridged(fusemux_volume, scenario)


@pytest.mark.fusemux(backend="graph", distribute=2, replica=2)
def test_numbers_lead_to_what_a_copy_that_is_away_has_missed(fusemux_volume: GraphVolume) -> None:
    async def scenario(bridge: Bridge) -> None:
        _, _, below, files = await forgotten(bridge)
        await fusemux_volume.bricks[0].kill()
        for node in (*files, below):
            assert (await bridge.lookup(Frame(), node, b"."))[0] == node
        await bridge.setattr(Frame(), below, 0, None, SetAttr(mode=0o700))
        for node in (*files, below):
            bridge.forget(node, 1)
        await fusemux_volume.bricks[0].start()
        bridge.itable.unused.clear()
        assert stat.S_IMODE((await bridge.lookup(Frame(), below, b"."))[1].mode) == 0o700

    bridged(fusemux_volume, scenario)


@pytest.mark.fusemux(backend="graph", distribute=2)
def test_while_a_subvolume_is_away_nobody_says_that_a_file_is_gone(fusemux_volume: GraphVolume) -> None:
    async def scenario(bridge: Bridge) -> None:
        _, _, _, files = await forgotten(bridge)
        await fusemux_volume.bricks[0].kill()
        found = set()
        for file in files:
            try:
                await bridge.lookup(Frame(), file, b".")
                found.add(0)
            except FopError as error:
                found.add(error.errno)
        assert found == {0, errno.ENOTCONN}

    bridged(fusemux_volume, scenario)
