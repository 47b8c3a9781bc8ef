"""The inode table: one object per gfid, kept while somebody refers to it, bounded when nobody does."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fusemux.graph.framework.inode import Fd, Inode, InodeTable
from fusemux.graph.framework.types import ROOT_GFID, gfid_text, ino_of

REGULAR = 0o100000


def gfid(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def table() -> InodeTable:
    return InodeTable(inode_slots=2, fd_slots=1, limit=3)


def test_the_root_is_always_there(table: InodeTable) -> None:
    assert table.find(ROOT_GFID) is table.root
    assert table.root.ino == 1
    table.forget(table.root, 10)
    table.settle(table.root)
    table.discard(table.root)
    assert table.find(ROOT_GFID) is table.root


def test_one_gfid_is_one_inode_also_after_nobody_referred_to_it(table: InodeTable) -> None:
    inode = table.link(gfid(7), REGULAR)
    assert table.link(gfid(7), REGULAR) is inode
    inode.ctx[1] = "mine"
    table.settle(inode)
    assert table.find(gfid(7)) is inode
    assert table.link(gfid(7), REGULAR) is inode
    assert inode.ctx == [None, "mine"]


def test_a_type_learned_later_is_kept_and_an_unknown_one_forgets_nothing(table: InodeTable) -> None:
    inode = table.link(gfid(7), 0)
    assert inode.type == 0
    table.link(gfid(7), REGULAR)
    table.link(gfid(7), 0)
    assert inode.type == REGULAR


def test_an_inode_stays_while_it_is_looked_up_or_open(table: InodeTable) -> None:
    inode = table.link(gfid(7), REGULAR)
    inode.nlookup = 2
    fd = table.fd(inode, 0)
    table.forget(inode, 1)
    table.forget(inode, 1)
    assert gfid(7) in table.active
    table.closed(fd)
    assert gfid(7) not in table.active
    assert gfid(7) in table.unused


def test_the_kernel_cannot_forget_more_than_it_looked_up(table: InodeTable) -> None:
    inode = table.link(gfid(7), REGULAR)
    inode.nlookup = 1
    table.forget(inode, 5)
    assert inode.nlookup == 0


def test_the_oldest_unused_inodes_beyond_the_limit_are_dropped_and_announced(table: InodeTable) -> None:
    dropped: list[bytes] = []
    table.on_forget = lambda inode: dropped.append(inode.gfid)
    for number in range(10, 15):
        table.settle(table.link(gfid(number), REGULAR))
    assert dropped == [gfid(10), gfid(11)]
    assert table.find(gfid(10)) is None
    assert len(table) == 1 + 3


def test_using_an_unused_inode_again_makes_it_the_youngest(table: InodeTable) -> None:
    for number in (10, 11, 12):
        table.settle(table.link(gfid(number), REGULAR))
    table.settle(table.link(gfid(10), REGULAR))
    table.settle(table.link(gfid(13), REGULAR))
    assert [number for number in (10, 11, 12, 13) if table.find(gfid(number))] == [10, 12, 13]


def test_a_file_that_is_gone_is_not_kept(table: InodeTable) -> None:
    dropped: list[bytes] = []
    table.on_forget = lambda inode: dropped.append(inode.gfid)
    inode = table.link(gfid(7), REGULAR)
    inode.nlookup = 1
    table.discard(inode)
    assert table.find(gfid(7)) is inode, "the kernel still refers to it"
    table.forget(inode, 1)
    table.discard(inode)
    assert table.find(gfid(7)) is None
    assert dropped == [gfid(7)]


def test_a_dropped_inode_leaves_no_reference(table: InodeTable) -> None:
    inode = table.link(gfid(7), REGULAR)
    table.closed(table.fd(inode, 0))
    table.discard(inode)
    seen = weakref.ref(inode)
    del inode
    gc.collect()
    assert seen() is None


def test_slots_of_files_and_of_inodes_are_separate(table: InodeTable) -> None:
    inode = table.link(gfid(7), REGULAR)
    first, second = table.fd(inode, 1, 99), table.fd(inode, 2)
    first.ctx[0] = "mine"
    assert (second.ctx, first.flags, first.pid) == ([None], 1, 99)
    assert inode.ctx == [None, None]


def test_the_inode_number_is_the_low_half_of_the_gfid() -> None:
    raw = bytes.fromhex("4b6f2a0e3c1d4e5f8a9b0c1d2e3f4a5b")
    assert ino_of(raw) == 0x8A9B0C1D2E3F4A5B == Inode(raw).ino
    assert gfid_text(raw) == "4b6f2a0e-3c1d-4e5f-8a9b-0c1d2e3f4a5b"


class TableMachine(RuleBasedStateMachine):
    """Random references to a few inodes, against a plain count of them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = InodeTable(limit=2)
        self.lookups: dict[int, int] = {}
        self.fds: list[Fd] = []

    @rule(number=st.integers(2, 7), count=st.integers(1, 3))
    def look_up(self, number: int, count: int) -> None:
        self.table.link(gfid(number), REGULAR).nlookup += count
        self.lookups[number] = self.lookups.get(number, 0) + count

    @rule(number=st.integers(2, 7), count=st.integers(1, 5))
    def forget(self, number: int, count: int) -> None:
        inode = self.table.find(gfid(number))
        if inode is not None:
            self.table.forget(inode, count)
            self.lookups[number] = max(0, self.lookups.get(number, 0) - count)

    @rule(number=st.integers(2, 7))
    def open(self, number: int) -> None:
        self.fds.append(self.table.fd(self.table.link(gfid(number), REGULAR), 0))

    @rule(place=st.integers(0, 20))
    def close(self, place: int) -> None:
        if self.fds:
            self.table.closed(self.fds.pop(place % len(self.fds)))

    @invariant()
    def what_is_referred_to_is_kept_and_the_rest_is_bounded(self) -> None:
        referred = {gfid(number) for number, count in self.lookups.items() if count}
        referred |= {fd.inode.gfid for fd in self.fds}
        assert set(self.table.active) == referred | {ROOT_GFID}
        assert len(self.table.unused) <= self.table.limit
        assert not set(self.table.unused) & set(self.table.active)
        for fd in self.fds:
            assert self.table.find(fd.inode.gfid) is fd.inode


TestTableMachine = TableMachine.TestCase
TestTableMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
