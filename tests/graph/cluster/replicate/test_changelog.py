"""What is written to the changelog: bytes, deltas, and verdicts by table."""

from __future__ import annotations

import stat
from errno import EDQUOT, EEXIST, EIO, ENOENT, ENOSPC, ENOTCONN, ENOTEMPTY, EPERM
from itertools import product

import pytest

from fusemux.graph.cluster.replicate.changelog import (
    DATA,
    ENTRY,
    METADATA,
    ZERO,
    Keys,
    Verdict,
    new_entry,
    pack,
    unpack,
    verdict,
)
from fusemux.graph.cluster.replicate.quorum import rule

KEYS = Keys(["v-client-0", "v-client-1", "v-client-5"])


def test_counters_are_three_big_endian_numbers() -> None:
    assert pack((1, 0, 258)).hex() == "000000010000000000000102"
    assert unpack(bytes.fromhex("ffffffff0000000000000003")) == (-1, 0, 3)


@pytest.mark.parametrize(("raw", "counters"), [(None, (0, 0, 0)), (b"", (0, 0, 0)), (b"\0\0\0\x02", (2, 0, 0))])
def test_absent_and_short_xattrs_count_as_followed_by_zeros(raw: bytes | None, counters: tuple[int, int, int]) -> None:
    assert unpack(raw) == counters


def test_the_names_are_those_of_the_children_in_the_volfile() -> None:
    assert KEYS.pending == (b"trusted.afr.v-client-0", b"trusted.afr.v-client-1", b"trusted.afr.v-client-5")
    assert set(KEYS.ask) == {*KEYS.pending, b"trusted.afr.dirty"}


def test_deltas_touch_only_what_changes() -> None:
    assert KEYS.delta(DATA, 1) == {b"trusted.afr.dirty": pack((1, 0, 0))}
    assert KEYS.delta(ENTRY, 0, 0b101) == {
        b"trusted.afr.v-client-0": pack((0, 0, 1)),
        b"trusted.afr.v-client-5": pack((0, 0, 1)),
    }
    assert KEYS.delta(METADATA, -1, 0b010, by=-1) == {
        b"trusted.afr.v-client-1": pack((0, -1, 0)),
        b"trusted.afr.dirty": pack((0, -1, 0)),
    }
    assert KEYS.delta(DATA, 0) == {}


def test_a_row_of_the_matrix_says_what_one_copy_thinks_of_each() -> None:
    marks = {b"trusted.afr.v-client-1": pack((1, 0, 2)), b"trusted.afr.dirty": pack((9, 9, 9))}

    assert KEYS.row(marks) == [(0, 0, 0), (1, 0, 2), (0, 0, 0)]
    assert KEYS.row(None) == [(0, 0, 0)] * 3
    assert [KEYS.accused_by(marks, kind) for kind in (DATA, METADATA, ENTRY)] == [0b010, 0, 0b010]
    assert KEYS.accused_by({b"trusted.afr.v-client-0": ZERO}, DATA) == 0


@pytest.mark.parametrize(
    ("mode", "granular", "counters"),
    [
        (stat.S_IFREG | 0o644, True, (1, 1, 0)),
        (stat.S_IFDIR, True, (1, 1, 1)),
        (stat.S_IFDIR, False, (0, 1, 1)),
        (stat.S_IFIFO, True, (0, 1, 0)),
        (stat.S_IFBLK, False, (0, 1, 0)),
    ],
)
def test_what_is_recorded_of_a_new_entry_that_others_missed(
    mode: int, granular: bool, counters: tuple[int, ...]
) -> None:
    assert new_entry(mode, granular=granular) == counters


# -- verdicts ------------------------------------------------------------------------------------------------------

ALL = 0b111


def three(
    kind: int, took: int, errnos: list[int], sources: int = ALL, *, dirtied: bool = False, absent: int = 0
) -> Verdict:
    return verdict(kind, took, errnos, sources, rule(3, "auto", None), dirtied=dirtied, absent=absent)


def two(
    kind: int, took: int, errnos: list[int], sources: int = 0b11, *, dirtied: bool = False, absent: int = 0
) -> Verdict:
    return verdict(kind, took, errnos, sources, rule(2, "none", None), dirtied=dirtied, absent=absent)


@pytest.mark.parametrize("kind", [DATA, METADATA, ENTRY])
def test_when_all_succeed_nothing_is_recorded_but_the_end(kind: int) -> None:
    assert three(kind, ALL, [0, 0, 0]) == Verdict(0, ALL, 0, 0)
    assert three(kind, ALL, [0, 0, 0], dirtied=True) == Verdict(0, ALL, 0, -1)


def test_those_that_were_absent_were_accused_in_advance() -> None:
    assert two(ENTRY, 0b10, [0, 0], dirtied=True, absent=0b01) == Verdict(0, 0b10, 0, -1)


@pytest.mark.parametrize("error", [EIO, ENOTCONN, ENOSPC, EEXIST])
def test_a_copy_that_fails_alone_is_accused_by_the_others(error: int) -> None:
    assert three(DATA, ALL, [0, error, 0], dirtied=True) == Verdict(0, 0b101, 0b010, -1)
    assert three(ENTRY, ALL, [error, 0, 0]) == Verdict(0, 0b110, 0b001, 0)
    assert two(METADATA, 0b11, [error, 0]) == Verdict(0, 0b10, 0b01, 0)


@pytest.mark.parametrize("kind", [METADATA, ENTRY])
@pytest.mark.parametrize("error", [EEXIST, EPERM, ENOENT])
def test_when_all_refuse_alike_nothing_has_happened(kind: int, error: int) -> None:
    assert three(kind, ALL, [error] * 3) == Verdict(error, ALL, 0, 0)
    assert three(kind, 0b011, [error, error, 0], dirtied=True, absent=0b100) == Verdict(
        error, 0b011, 0, -1, absolved=0b100
    )


def test_a_connection_lost_everywhere_is_no_refusal() -> None:
    assert three(ENTRY, ALL, [ENOTCONN] * 3) == Verdict(ENOTCONN, ALL, 0, 1, unknown=True)
    assert three(DATA, ALL, [ENOTCONN] * 3, dirtied=True) == Verdict(ENOTCONN, ALL, 0, 0, unknown=True)


@pytest.mark.parametrize("error", [ENOSPC, EDQUOT, EIO])
def test_a_write_that_all_broke_off_leaves_its_mark_because_it_may_have_done_a_part(error: int) -> None:
    assert three(DATA, ALL, [error] * 3, dirtied=True) == Verdict(error, ALL, 0, 0, unknown=True)
    assert three(ENTRY, ALL, [error] * 3) == Verdict(error, ALL, 0, 0)


def test_without_quorum_nobody_is_accused_and_a_mark_stays() -> None:
    assert three(DATA, ALL, [0, EIO, EIO], dirtied=True) == Verdict(EIO, ALL, 0, 0, unknown=True)
    assert three(ENTRY, ALL, [0, EIO, ENOTCONN]) == Verdict(ENOTCONN, ALL, 0, 1, unknown=True)
    assert three(METADATA, 0b011, [0, EIO, 0], dirtied=True, absent=0b100) == Verdict(EIO, 0b011, 0, 0, unknown=True)


def test_copies_that_were_accused_before_cannot_make_a_success() -> None:
    only_stale = two(DATA, 0b11, [ENOTCONN, 0], 0b01, dirtied=True)

    assert only_stale == Verdict(ENOTCONN, 0b11, 0, 0, unknown=True)


def test_what_the_good_copies_refuse_is_refused_whatever_a_stale_one_says() -> None:
    assert two(ENTRY, 0b11, [EEXIST, 0], 0b01) == Verdict(EEXIST, 0b01, 0b10, 0), "it has to be healed of what it did"
    assert two(ENTRY, 0b11, [0, EEXIST], 0b01) == Verdict(0, 0b01, 0b10, 0)


def test_what_a_quorum_refuses_is_refused_and_a_copy_that_did_it_or_died_over_it_is_accused() -> None:
    assert three(ENTRY, ALL, [ENOTEMPTY, 0, ENOTEMPTY]) == Verdict(ENOTEMPTY, 0b101, 0b010, 0)
    assert three(ENTRY, ALL, [ENOTEMPTY, ENOTEMPTY, ENOTCONN]) == Verdict(ENOTEMPTY, 0b011, 0b100, 0)
    assert two(ENTRY, 0b11, [ENOTCONN, ENOTEMPTY]) == Verdict(ENOTEMPTY, 0b10, 0b01, 0)


def test_no_mark_is_made_on_a_directory_with_stale_copies_for_it_would_bring_back_removed_names() -> None:
    assert two(ENTRY, 0b11, [ENOTCONN, 0], 0b01).dirty == 0


def test_with_nobody_trusted_those_that_take_part_decide() -> None:
    assert two(ENTRY, 0b11, [EIO, 0], 0) == Verdict(0, 0b10, 0b01, 0)


@pytest.mark.parametrize("kind", [DATA, METADATA, ENTRY])
def test_a_success_is_always_on_a_quorum_with_a_trusted_copy_and_accuses_all_others_that_took_part(kind: int) -> None:
    quorum = rule(3, "auto", None)
    for took, sources, *errnos in product(range(1, 8), range(1, 8), *[(0, EIO, EEXIST, ENOTCONN)] * 3):
        result = verdict(kind, took, errnos, sources, quorum, dirtied=True)
        succeeded = sum(1 << i for i in range(3) if took >> i & 1 and not errnos[i])
        if result.errno:  # those are accused that may have done what all good ones, or a quorum of them, refused
            trusted = took & sources or took
            refused = sum(1 << i for i in range(3) if took >> i & 1 and errnos[i] == result.errno)
            assert not result.accused & refused
            assert not result.accused or not trusted & ~refused or quorum(trusted & refused)
            assert not result.accused or result.good == refused
            assert not succeeded & ~result.accused or result.unknown, "what was done is never left without a record"
            continue
        assert result.good == succeeded
        assert quorum(succeeded)
        assert result.good | result.accused == took
        assert succeeded & sources or not took & sources
        assert result.dirty == -1
