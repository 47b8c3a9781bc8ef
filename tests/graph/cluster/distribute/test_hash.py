"""The hash of names against values captured from GlusterFS 10.3."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemux.graph.cluster.distribute.hash import RSYNC_REGEX, hash32, hasher, munger, placer

from .vectors import VECTORS

DEFAULT = hasher(RSYNC_REGEX, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"", 0x884774A2),
        (b"a", 0x3A17E4E6),
        (b"foo", 0x0B55AC76),
        (b"file1.txt", 0xB1E38ECF),
        (b"0123456789abcdef", 0x6ECB5ADA),
        (b"0123456789abcdefg", 0x7F5D9903),
        (b"/", 0x8619BD58),
        (b"/dir1", 0xC8CB193D),
        (b"hello world this is a long name", 0x8AC6EF05),
        (b".foo.XyZ123", 0x05E568E3),
        ("é".encode(), 0x65CFCAA1),
    ],
)
def test_the_hash_of_a_plain_name_is_glusterfs_hash(name: bytes, expected: int) -> None:
    assert hash32(name) == expected


def test_all_captured_hashes_are_reproduced() -> None:
    wrong = {
        n: h for n, h in zip(VECTORS["names"], VECTORS["hashes"], strict=True) if DEFAULT(n.encode()) != int(h, 16)
    }
    assert not wrong
    assert len(VECTORS["names"]) == 188


def test_bytes_above_127_at_the_end_of_a_name_are_sign_extended_as_on_x86() -> None:
    # One, two and three bytes left over after whole words; with an unsigned char these would hash otherwise.
    captured = dict(zip(VECTORS["names"], VECTORS["hashes"], strict=True))
    for name in ("é", "naïve", "straße", "日本語"):
        assert DEFAULT(name.encode()) == int(captured[name], 16)


@pytest.mark.parametrize(
    ("name", "hashed_as"),
    [
        (b".foo.XyZ123", b"foo"),
        (b".foo.tar.gz.123456", b"foo.tar.gz"),
        (b"..foo.Ab12Cd", b".foo"),
        (b".foo.", b".foo."),
        (b".foo", b".foo"),
        (b"foo.XyZ123", b"foo.XyZ123"),
        (b".foo.a\n", b"foo"),
        (b".fo\no.a", b"fo\no"),
        (b".\xff\xfe.x", b"\xff\xfe"),
    ],
)
def test_an_rsync_temporary_name_hashes_as_the_final_name(name: bytes, hashed_as: bytes) -> None:
    assert munger(RSYNC_REGEX, None)(name) == hashed_as
    assert DEFAULT(name) == hash32(hashed_as)


def test_the_extra_expression_is_tried_first_and_the_rsync_one_only_when_it_did_not_match() -> None:
    munge = munger(RSYNC_REGEX, r"^(.*)~$")
    assert munge(b".a.b~") == b".a.b"
    assert munge(b".a.b") == b"a"


def test_an_expression_called_none_or_without_a_group_changes_no_name() -> None:
    assert munger("none", None)(b".foo.XyZ123") == b".foo.XyZ123"
    assert munger(r"^\.foo", None)(b".foo.XyZ123") == b".foo.XyZ123"


def test_a_dollar_in_brackets_or_escaped_stays_a_dollar() -> None:
    munge = munger(r"^(.+)[$]\$$", None)
    assert munge(b"price$$") == b"price"


def test_a_bad_expression_is_refused_with_its_fault() -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        munger("(", None)


@given(st.binary(max_size=255))
def test_remembered_hashes_equal_computed_ones(name: bytes) -> None:
    assert placer(RSYNC_REGEX, None)(name) == DEFAULT(name)
    assert 0 <= DEFAULT(name) <= 0xFFFFFFFF


@given(st.binary(max_size=255))
def test_munging_is_what_the_expression_says_about_bytes(name: bytes) -> None:
    match = re.fullmatch(rb"\.(.+)\.[^.]+", name, re.DOTALL)
    assert munger(RSYNC_REGEX, None)(name) == (match[1] if match else name)
