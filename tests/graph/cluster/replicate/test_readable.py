"""Which copies may be read, and which one is."""

from __future__ import annotations

import random

import pytest

from fusemux.graph.cluster.replicate.changelog import DATA, METADATA, Keys, pack
from fusemux.graph.cluster.replicate.readable import ANY, NOBODY, Copies, Policy, accusations, superfasthash
from fusemux.graph.framework.types import Iatt

KEYS = Keys(["c0", "c1", "c2"])
FILE, FOLDER = 0o100644, 0o040755


def copy(mode: int = FILE, size: int = 10, **blames: tuple[int, int, int]) -> Iatt:
    """A lookup's answer that accuses children by name."""
    marks = {f"trusted.afr.{name}".encode(): pack(counters) for name, counters in blames.items()}
    return Iatt(b"g" * 16, mode, 1, 0, 0, 0, size, 8, 4096, 0, 0, 0, marks or None)


def judged(*replies: Iatt | None, arbiters: int = 0, busy: bool = False) -> tuple[int, int, int]:
    return accusations(replies, KEYS, arbiters, busy=busy)


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ([copy(), copy(), copy()], (0b111, 0, 0)),
        ([copy(), None, copy()], (0b101, 0, 0)),
        ([copy(c1=(1, 0, 0)), copy(), copy()], (0b111, 0b010, 0)),
        ([copy(c1=(0, 3, 0)), copy(), copy(c0=(2, 0, 0))], (0b111, 0b001, 0b010)),
        ([copy(c1=(0, 0, 5)), copy(), copy()], (0b111, 0, 0)),  # entries are nothing to a file
        ([copy(FOLDER, c1=(0, 0, 5)), copy(FOLDER), copy(FOLDER)], (0b111, 0b010, 0)),
        ([copy(FOLDER, c1=(1, 0, 0)), copy(FOLDER), copy(FOLDER)], (0b111, 0, 0)),  # a directory's data are its entries
        ([copy(c0=(1, 0, 0)), copy(), copy()], (0b111, 0b001, 0)),  # it accuses itself
        ([copy(c1=(1, 0, 0)), copy(c0=(1, 0, 0)), None], (0b011, 0b011, 0)),  # split-brain
        ([copy(dirty=(1, 0, 0)), copy(), copy()], (0b111, 0, 0)),  # a mark accuses nobody
    ],
)
def test_who_is_accused(replies: list[Iatt | None], expected: tuple[int, int, int]) -> None:
    assert judged(*replies) == expected


def test_of_the_copies_that_nobody_accuses_the_smaller_ones_are_not_to_be_read() -> None:
    assert judged(copy(size=5), copy(size=9), copy(size=9)) == (0b111, 0b001, 0)
    assert judged(copy(size=5), copy(size=99, c1=(0, 0, 0)), copy(size=5, c1=(1, 0, 0)))[1] == 0b010
    assert judged(copy(size=5), copy(size=9), busy=True) == (0b011, 0, 0)
    assert judged(copy(FOLDER, size=40), copy(FOLDER, size=60)) == (0b011, 0, 0)


def test_an_arbiter_has_no_size_but_a_voice() -> None:
    assert judged(copy(), copy(), copy(size=0), arbiters=0b100) == (0b111, 0, 0)
    assert judged(copy(), copy(), copy(size=0, c0=(1, 0, 0)), arbiters=0b100) == (0b111, 0b001, 0)


def test_preferably_copies_are_read_that_nobody_accuses_of_anything() -> None:
    known = Copies(1, 0b111, 0b001, 0b010)

    assert known.readable(DATA, 0) == known.readable(METADATA, 0) == 0b100
    assert known.readable(DATA, 0b100) == 0b010
    assert known.readable(METADATA, 0b100) == 0b001
    assert (known.sources(DATA), known.sources(METADATA)) == (0b110, 0b101)
    assert Copies(1, 0b11, 0b11, 0b11).readable(DATA, 0) == 0


# -- the choice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gfid", "expected"),
    [
        (bytes(i * 37 & 255 for i in range(16)), 3926315225),
        (bytes(i * 37 + 91 & 255 for i in range(16)), 1248005071),
        (b"\xff" * 16, 421081663),
        (bytes(i * 37 + 473 & 255 for i in range(16)), 2936364360),
    ],
)
def test_superfasthash_gives_what_the_c_function_gives(gfid: bytes, expected: int) -> None:
    assert superfasthash(gfid) == expected


def test_by_gfid_the_reads_of_different_files_spread_and_those_of_one_do_not() -> None:
    policy = Policy(3)
    gfids = [random.Random(seed).randbytes(16) for seed in range(300)]
    chosen = [policy.choose(0b111, gfid) for gfid in gfids]

    assert chosen == [superfasthash(gfid) % 3 for gfid in gfids] == [policy.choose(0b111, gfid) for gfid in gfids]
    assert set(chosen) == {0, 1, 2}


def test_a_child_that_cannot_be_read_is_replaced_by_the_first_that_can() -> None:
    gfid = b"\xff" * 16
    wanted = Policy(3).choose(0b111, gfid)
    others = 0b111 & ~(1 << wanted)

    assert Policy(3).choose(others, gfid) == (others & -others).bit_length() - 1
    assert Policy(3).choose(0, gfid) == NOBODY
    assert Policy(3, fixed=2).choose(0b111, gfid) == 2
    assert Policy(3, fixed=2).choose(0b011, gfid) == 0
    assert Policy(3, mode=0).choose(0b110, gfid) == 1


def test_two_processes_may_read_a_file_from_different_copies_but_list_directories_from_the_same() -> None:
    gfid = b"\x07" * 16
    policies = [Policy(3, mode=2, pid=pid) for pid in range(1, 40)]

    assert len({policy.choose(0b111, gfid) for policy in policies}) > 1
    assert {policy.choose(0b111, gfid, directory=True) for policy in policies} == {Policy(3).choose(0b111, gfid)}


@pytest.mark.parametrize(("mode", "expected"), [(3, 1), (4, 2), (5, 1)])
def test_policies_by_load_choose_at_every_read(mode: int, expected: int) -> None:
    policy = Policy(3, mode=mode)

    assert policy.choose(0b111, b"g" * 16) == ANY
    assert policy.choose_now(0b111, reading=[2, 0, 9], latency=[0.5, 0.2, 0.1]) == expected
    assert policy.choose_now(0b001, reading=[2, 0, 9], latency=[0.5, 0.2, 0.1]) == 0
    assert policy.choose_now(0, reading=[0, 0, 0], latency=[0, 0, 0]) == NOBODY
