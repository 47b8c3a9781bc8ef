"""Directory offsets carry the leaf they came from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemux.graph.protocol.offsets import decode, encode

leaves = st.integers(2, 300)


@given(st.data(), leaves, st.integers(1, (1 << 52)))
def test_small_offsets_come_back_exactly(data: st.DataObject, count: int, offset: int) -> None:
    leaf = data.draw(st.integers(0, count - 1))
    assert decode(encode(offset, leaf, count), count) == (leaf, offset)


@given(st.data(), leaves, st.integers(1 << 62, (1 << 63) - 1))
def test_large_offsets_come_back_but_for_their_lowest_bits(data: st.DataObject, count: int, offset: int) -> None:
    leaf = data.draw(st.integers(0, count - 1))
    encoded = encode(offset, leaf, count)
    found, back = decode(encoded, count)
    lost = (count - 1).bit_length() + 1
    assert encoded < 1 << 63
    assert found == leaf
    assert back == offset >> lost << lost


@given(leaves, st.lists(st.integers(1, (1 << 63) - 1), min_size=2))
def test_offsets_of_different_leaves_differ(count: int, offsets: list[int]) -> None:
    one = {encode(offset, 0, count) for offset in offsets}
    other = {encode(offset, 1, count) for offset in offsets}
    assert not one & other


@pytest.mark.parametrize("offset", [0, -1])
def test_the_start_and_the_end_stay(offset: int) -> None:
    assert encode(offset, 3, 4) == offset
    assert decode(offset, 4)[1] == offset


def test_one_leaf_leaves_offsets_alone() -> None:
    assert encode((1 << 63) - 1, 0, 1) == (1 << 63) - 1
    assert decode((1 << 63) - 1, 1) == (0, (1 << 63) - 1)


@pytest.mark.parametrize(
    ("offset", "leaf", "count", "encoded"),
    [(5, 0, 4, 20), (5, 3, 4, 23), ((1 << 60) - 1, 1, 4, (1 << 62) - 3), (1 << 60, 1, 4, 1 << 62 | 1 << 59 | 1)],
)
def test_the_encoding_is_glusterfs_s(offset: int, leaf: int, count: int, encoded: int) -> None:
    assert encode(offset, leaf, count) == encoded
