"""Judging how full subvolumes are."""

from __future__ import annotations

import pytest

from fusemux.graph.cluster.distribute.space import REFRESH_S, Limits, Space, chunks, filled, most_free, total
from fusemux.graph.framework.types import StatVfs

DEFAULT: Limits = (("percent", 10.0), 5.0)


def disk(blocks: int, free: int, files: int = 1000, ffree: int = 1000, size: int = 4096) -> StatVfs:
    return StatVfs(size, size, blocks, free, free, files, ffree, ffree)


@pytest.mark.parametrize(
    ("stat", "limits", "expected"),
    [
        (disk(1000, 100), DEFAULT, False),
        (disk(1000, 99), DEFAULT, True),  # 9.9 % is 9 %
        (disk(1000, 109), (("percent", 10.5), 5.0), True),  # 10.9 % is 10 %
        (disk(1000, 110), (("percent", 10.5), 5.0), False),
        (disk(0, 0), DEFAULT, False),  # says nothing of its size
        (disk(1000, 1000, ffree=49), DEFAULT, True),
        (disk(1000, 1000, ffree=50), DEFAULT, False),
        (disk(1000, 1000, files=0, ffree=0), DEFAULT, False),  # has no count of inodes
        (disk(1000, 25), (("size", 100 * 1024), 0.0), False),
        (disk(1000, 24), (("size", 100 * 1024), 0.0), True),
        (disk(1000, 0), (("percent", 0.0), 0.0), False),
    ],
)
def test_filled(stat: StatVfs, limits: Limits, expected: bool) -> None:
    assert filled(stat, limits) is expected


@pytest.mark.parametrize(
    ("stats", "usable", "limits", "expected"),
    [
        ([disk(100, 20), disk(100, 50), disk(100, 30)], [0, 1, 2], DEFAULT, 1),
        ([disk(100, 20), disk(100, 50), disk(100, 30)], [0, 2], DEFAULT, 2),
        ([disk(100, 50), disk(1000, 400)], [0, 1], DEFAULT, 0),  # by percent
        ([disk(100, 50), disk(1000, 400)], [0, 1], (("size", 1.0), 0.0), 1),  # by bytes
        ([disk(100, 9), disk(100, 5)], [0, 1], DEFAULT, 0),  # all filled: still the most
        ([disk(100, 90, ffree=10), disk(100, 20)], [0, 1], DEFAULT, 1),  # short of inodes
        ([disk(100, 90, ffree=0), disk(100, 5)], [0, 1], DEFAULT, 1),  # no inode left at all
        ([None, disk(100, 20)], [0, 1], DEFAULT, 1),
        ([disk(100, 20), disk(100, 20)], [1, 0], DEFAULT, 0),  # equal: the first
        ([None, None], [0, 1], DEFAULT, None),
    ],
)
def test_most_free(stats: list[StatVfs | None], usable: list[int], limits: Limits, expected: int | None) -> None:
    assert most_free(stats, usable, limits) == expected


@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        (None, 0),
        (disk(256, 0), 1),
        (disk(257, 0), 2),
        (disk(25600, 1), 100),
        (disk(3, 0, size=1 << 20), 3),
        (disk(3, 0, size=1 << 22), 3),
    ],
)
def test_chunks_are_mebibytes_rounded_up(stat: StatVfs | None, expected: int) -> None:
    assert chunks(stat) == expected


def test_total_converts_to_the_largest_block_size() -> None:
    whole = total([disk(100, 50, size=1024), disk(100, 10, size=4096)])
    assert whole is not None
    assert (whole.frsize, whole.blocks, whole.bavail, whole.files, whole.ffree) == (4096, 125, 22, 2000, 2000)
    assert total([]) is None


def test_what_was_learnt_is_good_for_a_second_unless_it_is_forgotten() -> None:
    space = Space()
    assert space.expires < 0
    space.learn([disk(100, 5), None], DEFAULT, now=50.0)
    assert (space.filled, space.expires) == ([True, False], 50.0 + REFRESH_S)
    space.forget()
    assert space.expires < 50.0
