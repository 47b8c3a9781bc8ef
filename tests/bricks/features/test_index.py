"""features/index over a child that keeps counters: what is listed is what needs healing."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from fusemux.bricks.features.index import ENTRY_CREATE, ENTRY_DELETE, Index
from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import ROOT_GFID, Frame, gfid_text

FILE = Inode(bytes.fromhex("aa" * 16), 0o100000)
ROOT = Inode(ROOT_GFID, 0o040000)
DIRTY, PENDING = b"trusted.afr.dirty", b"trusted.afr.v-client-1"


class Counters(Translator):
    """Keeps 3 x int32 counters per key and adds to them, as storage/posix does."""

    type = "test/counters"
    children_min = children_max = 0

    def __init__(self) -> None:
        super().__init__("counters", {}, Process())
        self.values: dict[tuple[bytes, bytes], tuple[int, ...]] = {}

    async def xattrop(
        self, frame: Frame, target: Inode, op: int, xattrs: Mapping[bytes, bytes], xdata: object = None
    ) -> Mapping[bytes, bytes]:
        for key, delta in xattrs.items():
            old = self.values.get((target.gfid, key), (0, 0, 0))
            new = tuple(a + b for a, b in zip(old, struct.unpack(">3i", delta), strict=True))
            self.values[target.gfid, key] = new
        return {key: struct.pack(">3i", *self.values[target.gfid, key]) for key in xattrs}


class Brick:
    def __init__(self, base: Path) -> None:
        options = {
            "index-base": str(base),
            "xattrop-dirty-watchlist": "trusted.afr.dirty",
            "xattrop-pending-watchlist": "trusted.afr.v-",
        }
        layer = Index("v-index", options, Process())
        edge = Edge(Counters(), layer)
        edge.bind(strict=True)
        layer.children.append(edge)
        trio.run(layer.init)
        self.layer = layer
        self.base = base
        self.top = Edge(layer)
        self.top.bind(strict=True)

    def add(self, key: bytes, data: int, *, inode: Inode = FILE, xdata: Mapping[bytes, bytes] | None = None) -> None:
        trio.run(self.top.xattrop, Frame(), inode, 0, {key: struct.pack(">3i", data, 0, 0)}, xdata)

    def listed(self, kind: str) -> list[str]:
        return sorted(name for name in os.listdir(self.base / kind) if not name.startswith(kind))

    def ask(self, inode: Inode, kind: bytes) -> bytes:
        name = b"glusterfs.index." + kind
        return bytes(trio.run(self.top.getxattr, Frame(), inode, name)[name])


@pytest.fixture
def brick(tmp_path: Path) -> Brick:
    return Brick(tmp_path / "indices")


def test_a_dirty_file_is_listed_until_it_is_clean(brick: Brick) -> None:
    brick.add(DIRTY, 1)
    assert brick.listed("dirty") == [gfid_text(FILE.gfid)]
    assert brick.ask(ROOT, b"dirty") == FILE.gfid
    brick.add(DIRTY, -1)
    assert brick.listed("dirty") == []
    assert brick.listed("xattrop") == []


def test_pending_and_dirty_are_listed_apart(brick: Brick) -> None:
    brick.add(DIRTY, 1)
    brick.add(PENDING, 2)
    brick.add(DIRTY, -1)
    assert (brick.listed("dirty"), brick.listed("xattrop")) == ([], [gfid_text(FILE.gfid)])
    brick.add(PENDING, -1)
    assert brick.listed("xattrop") == [gfid_text(FILE.gfid)]
    brick.add(PENDING, -1)
    assert brick.listed("xattrop") == []


def in_place(brick: Brick, key: bytes, data: int) -> None:
    """The same as `add`, as it is called where nothing below can wait."""

    def below(*args: Any) -> Mapping[bytes, bytes]:
        answer: Mapping[bytes, bytes] = trio.run(layer.children[0].translator.xattrop, *args)
        return answer

    layer = brick.layer
    layer._below, layer._pooled = below, False
    layer._xattrop_now(Frame(), FILE, 0, {key: struct.pack(">3i", data, 0, 0)})


@pytest.mark.parametrize("changes", [
    [(DIRTY, 1), (PENDING, 2), (DIRTY, -1), (PENDING, -1), (PENDING, -1)],
    [(PENDING, 0), (b"trusted.somebody.else", 1), (DIRTY, -1), (DIRTY, 1)],
    [(PENDING, 1), (b"trusted.afr.v-client-2", 1), (PENDING, -1), (b"trusted.afr.v-client-2", -1)],
])  # fmt: skip
def test_calls_that_never_wait_list_the_same(tmp_path: Path, changes: list[tuple[bytes, int]]) -> None:
    waits, never = Brick(tmp_path / "waits"), Brick(tmp_path / "never")
    for key, data in changes:
        waits.add(key, data)
        in_place(never, key, data)
        for kind in ("dirty", "xattrop"):
            assert never.listed(kind) == waits.listed(kind)


def test_all_entries_are_links_of_one_empty_file(brick: Brick) -> None:
    others = [Inode(bytes([n]) * 16, 0o100000) for n in range(1, 4)]
    for inode in others:
        brick.add(PENDING, 1, inode=inode)
    inodes = {entry.inode() for entry in os.scandir(brick.base / "xattrop")}
    assert len(inodes) == 1
    assert len(os.listdir(brick.base / "xattrop")) == 4


def test_a_zero_delta_lists_nothing(brick: Brick) -> None:
    brick.add(PENDING, 0)
    brick.add(b"trusted.somebody.else", 1)
    assert brick.listed("xattrop") == brick.listed("dirty") == []


def test_the_index_is_still_there_after_a_restart(brick: Brick) -> None:
    brick.add(PENDING, 1)
    again = Brick(brick.base)
    assert again.ask(ROOT, b"xattrop") == FILE.gfid


def test_changed_names_are_listed_under_their_directory_until_healed(brick: Brick) -> None:
    for name in (b"one", b"caf\xe9"):
        brick.add(PENDING, 1, inode=ROOT, xdata={ENTRY_CREATE: name})
    assert brick.ask(ROOT, b"names") == b"caf\xe9\0one\0"
    assert brick.ask(ROOT, b"entry-changes") == ROOT_GFID
    for name in (b"one", b"caf\xe9", b"never there"):
        brick.add(PENDING, -1, inode=ROOT, xdata={ENTRY_DELETE: name})
    assert brick.ask(ROOT, b"entry-changes") == brick.ask(ROOT, b"names") == b""
    assert brick.listed("entry-changes") == []


def test_an_unknown_index_is_enodata(brick: Brick) -> None:
    with pytest.raises(FopError, match="no index 'nonsense'"):
        brick.ask(ROOT, b"nonsense")


def test_a_missing_index_base_is_named() -> None:
    with pytest.raises(FusemuxError, match="index-base"):
        trio.run(Index("v-index", {}, Process()).init)
