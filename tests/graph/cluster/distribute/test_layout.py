"""Layouts against the shares captured from GlusterFS 10.3, and their laws."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemux.graph.cluster.distribute.hash import RSYNC_REGEX, hash32, hasher
from fusemux.graph.cluster.distribute.layout import (
    COMMIT_UNKNOWN,
    LAST,
    MISSING_XATTR,
    Anomalies,
    Extent,
    Layout,
    anomalies,
    decode,
    encode,
    fresh,
    keep_overlap,
    overlap,
)

from .vectors import VECTORS, VOLUMES

HASH = hasher(RSYNC_REGEX, None)
DIRECTORIES = [(volume, directory) for volume, v in VOLUMES.items() for directory in v["layouts"]]


def captured(volume: str, directory: str) -> list[bytes]:
    return [bytes.fromhex(share) for share, _ in VOLUMES[volume]["layouts"][directory]]


def hash_of_path(directory: str) -> int:
    return HASH(b"/" if directory == "/" else b"/" + directory.encode())


@pytest.mark.parametrize(("volume", "directory"), DIRECTORIES)
def test_a_fresh_layout_equals_glusterfs_byte_for_byte(volume: str, directory: str) -> None:
    names = VOLUMES[volume]["subvolumes"]
    commit = COMMIT_UNKNOWN if directory == "/" else 0
    made = fresh(names, range(len(names)), hash_of_path(directory), commit=commit)
    assert [made.disk(place) for place in range(len(names))] == captured(volume, directory)


@pytest.mark.parametrize(("volume", "directory"), DIRECTORIES)
def test_equal_weights_give_the_same_layout_as_none(volume: str, directory: str) -> None:
    names = VOLUMES[volume]["subvolumes"]
    for chunks in (1, 100, 12345, 10**7):
        made = fresh(names, range(len(names)), hash_of_path(directory), commit=0, weights=[chunks] * len(names))
        assert [made.disk(p)[4:] for p in range(len(names))] == [raw[4:] for raw in captured(volume, directory)]


def test_all_captured_placements_follow_from_layout_and_hash() -> None:
    checked = 0
    for volume, v in VOLUMES.items():
        for directory, landed in v["landed"].items():
            layout = Layout(decode(place, raw) for place, raw in enumerate(captured(volume, directory)))
            for name, place in zip(VECTORS["names"], landed, strict=True):
                assert layout.find(HASH(name.encode())) == place, (volume, directory, name)
                checked += 1
    assert checked == 1128


def test_three_equal_children_divide_the_root_as_glusterfs_did() -> None:
    names = ["v-replicate-0", "v-replicate-1", "v-replicate-2"]
    root = fresh(names, range(3), hash32(b"/"), commit=1)
    assert [root.disk(p).hex() for p in (1, 2, 0)] == [
        "00000001000000000000000055555554",
        "000000010000000055555555aaaaaaa9",
        "0000000100000000aaaaaaaaffffffff",
    ]
    dir1 = fresh(names, range(3), hash32(b"/dir1"), commit=0)
    assert dir1.disk(0).hex() == "00000000000000000000000055555554"
    assert [dir1.find(hash32(n)) for n in (b"file10", b"file11", b"file8")] == [0, 1, 2]


def test_names_of_subvolumes_are_ordered_as_c_compares_them() -> None:
    names = [f"v-client-{n}" for n in range(12)]
    made = fresh(names, range(12), 0, commit=0)
    by_start = sorted(made.extents, key=lambda e: e.start)
    assert [e.place for e in by_start] == [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]


def test_weights_give_shares_in_proportion_and_the_last_one_takes_the_rest() -> None:
    made = fresh(["a", "b"], [0, 1], 0, commit=0, weights=[1, 3])
    assert [(e.start, e.stop) for e in made.extents] == [(0, 0x3FFFFFFE), (0x3FFFFFFF, LAST)]


def test_an_unknown_size_makes_all_shares_equal() -> None:
    assert fresh(["a", "b"], [0, 1], 0, commit=0, weights=[0, 3]) == fresh(["a", "b"], [0, 1], 0, commit=0)


def test_spread_gives_shares_to_that_many_beginning_at_the_directorys_own() -> None:
    made = fresh(["a", "b", "c", "d"], range(4), 3, commit=0, spread=2)
    assert {e.place for e in made.extents if e.shares} == {3, 0}
    assert made.disk(1) == bytes(16)


def test_those_left_out_get_a_share_of_nothing() -> None:
    made = fresh(["a", "b", "c"], [0, 2], 1, commit=0)
    assert [e.shares for e in made.extents] == [True, False, True]
    assert made.extents[2].start == 0  # b would have been first, c follows it
    assert not anomalies(made.extents).damaged


@pytest.mark.parametrize(
    "raw", [None, b"", bytes(15), bytes(17), encode(0, 9, 3), encode(0, 0, 9, type=7)], ids=lambda r: repr(r)[:20]
)
def test_something_that_is_no_share_counts_as_missing(raw: bytes | None) -> None:
    assert decode(4, raw) == Extent(4, error=MISSING_XATTR)


HALF = 0x7FFFFFFF


@pytest.mark.parametrize(
    ("extents", "expected"),
    [
        ([Extent(0, 0, HALF), Extent(1, HALF + 1, LAST)], Anomalies()),
        ([Extent(1, HALF + 1, LAST), Extent(0, 0, HALF)], Anomalies()),
        ([Extent(0, 0, HALF), Extent(1, HALF + 2, LAST)], Anomalies(holes=1)),
        ([Extent(0, 0, HALF + 5), Extent(1, HALF + 1, LAST)], Anomalies(overlaps=1)),
        ([Extent(0, 1, HALF), Extent(1, HALF + 1, LAST)], Anomalies(holes=1)),
        ([Extent(0, 0, HALF), Extent(1, HALF + 1, LAST - 1)], Anomalies(holes=1)),
        ([Extent(0, 0, LAST), Extent(1)], Anomalies()),
        ([Extent(0, 0, LAST), Extent(1, 5, 9)], Anomalies(overlaps=1)),
        ([Extent(0, 0, LAST), Extent(1, error=errno.ENOENT)], Anomalies(missing=1)),
        ([Extent(0, 0, LAST), Extent(1, error=errno.ESTALE)], Anomalies(missing=1)),
        ([Extent(0, 0, HALF), Extent(1, error=errno.ENOTCONN)], Anomalies(holes=1, down=1)),
        ([Extent(0, 0, LAST), Extent(1, error=errno.ENOSPC)], Anomalies(no_space=1)),
        ([Extent(0, 0, LAST), Extent(1, error=errno.EIO)], Anomalies(misc=1)),
        ([Extent(0, error=MISSING_XATTR), Extent(1, error=MISSING_XATTR)], Anomalies(holes=1, missing=2)),
    ],
)
def test_anomalies_of(extents: list[Extent], expected: Anomalies) -> None:
    assert anomalies(extents) == expected


def test_a_hash_in_a_hole_belongs_to_nobody() -> None:
    layout = Layout([Extent(0, 10, 19), Extent(1, 30, 39)])
    assert [layout.find(h) for h in (0, 9, 10, 19, 20, 29, 30, 39, 40, LAST)] == [-1, -1, 0, 0, -1, -1, 1, 1, -1, -1]


def test_shares_of_different_commits_make_a_layout_of_no_known_commit() -> None:
    assert Layout([Extent(0, 0, HALF, 7), Extent(1, HALF + 1, LAST, 7)]).commit == 7
    assert Layout([Extent(0, 0, HALF, 7), Extent(1, HALF + 1, LAST, 0)]).commit == COMMIT_UNKNOWN


def test_an_empty_layout_has_nobody_and_no_known_commit() -> None:
    layout = Layout([])
    assert layout.find(0) == layout.find(LAST) == -1
    assert layout.commit == COMMIT_UNKNOWN


SIZES = st.lists(st.integers(1, 10**9), min_size=1, max_size=9)


@given(SIZES, st.integers(0, LAST), st.integers(0, 12))
def test_every_fresh_layout_covers_the_ring_without_overlap(sizes: list[int], start: int, spread: int) -> None:
    names = [f"v-{n}" for n in range(len(sizes))]
    made = fresh(names, range(len(sizes)), start, commit=3, weights=sizes, spread=spread)
    assert not anomalies(made.extents).damaged
    reread = Layout(decode(place, made.disk(place)) for place in range(len(sizes)))
    assert (reread.starts, reread.places, reread.commit) == (made.starts, made.places, 3)


@given(SIZES, st.integers(0, LAST), st.integers(0, LAST))
def test_find_agrees_with_the_shares(sizes: list[int], start: int, hash_: int) -> None:
    names = [f"v-{n}" for n in range(len(sizes))]
    made = fresh(names, range(len(sizes)), start, commit=0, weights=sizes)
    holders = [e.place for e in made.extents if e.shares and e.start <= hash_ <= e.stop]
    assert holders == [made.find(hash_)]


@given(st.integers(2, 8), st.integers(0, 7), st.integers(0, 7))
def test_keeping_the_overlap_never_moves_more_and_undoes_a_mere_rotation(count: int, one: int, other: int) -> None:
    names = [f"v-{n}" for n in range(count)]
    old, new = (fresh(names, range(count), start, commit=0) for start in (one, other))
    kept = keep_overlap(names, old, new)

    def staying(layout: Layout) -> int:
        return sum(overlap(a, b) for a, b in zip(old.extents, layout.extents, strict=True))

    assert staying(kept) >= staying(new)
    assert not anomalies(kept.extents).damaged
    assert sorted((e.start, e.stop) for e in kept.extents) == sorted((e.start, e.stop) for e in new.extents)


def test_growing_from_two_to_three_keeps_what_the_old_ones_can_keep() -> None:
    old = fresh(["a", "b", "c"], [0, 1], 0, commit=0)
    new = keep_overlap(["a", "b", "c"], old, fresh(["a", "b", "c"], [0, 1, 2], 1, commit=0))
    # a third of the ring each; a and b keep their third, the third in the middle becomes c's
    assert [e.start for e in new.extents] == [0, 0xAAAAAAAA, 0x55555555]
