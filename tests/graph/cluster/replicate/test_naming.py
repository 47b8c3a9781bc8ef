"""Whether a name exists, by what the copies of its directory say."""

from __future__ import annotations

from errno import EIO, ENAMETOOLONG, ENODATA, ENOENT, ENOTCONN, ESTALE

import pytest

from fusemux.graph.cluster.replicate.naming import Finding, find, mends
from fusemux.graph.cluster.replicate.quorum import rule
from fusemux.graph.framework.types import Iatt

ONE, TWO = (Iatt(bytes([n]) * 16, 0o100644, 1, 0, 0, 0, 0, 0, 4096, 0, 0, 0) for n in (1, 2))
NONE2, AUTO3 = rule(2, "none", None), rule(3, "auto", None)


@pytest.mark.parametrize(
    ("replies", "trusted", "finding"),
    [
        ([ONE, ONE], 0b11, Finding(0, 0b11)),
        ([ONE, None], 0b11, Finding(0, 0b01)),
        ([ENOENT, ENOENT], 0b11, Finding(ENOENT)),
        ([ENOENT, ESTALE], 0b11, Finding(ENOENT)),
        ([ENAMETOOLONG, ENAMETOOLONG], 0b11, Finding(ENAMETOOLONG)),
        ([None, None], 0b11, Finding(ENOTCONN)),
        # gone from one copy, and nobody knows why: it exists, and healing makes it again
        ([ONE, ENOENT], 0b11, Finding(0, 0b01, True)),
        # deleted while the first copy was away
        ([ONE, ENOENT], 0b10, Finding(ENOENT, uneven=True)),
        # made while the first copy was away
        ([ENOENT, ONE], 0b10, Finding(0, 0b10, True)),
        # made again while the first copy was away
        ([ONE, TWO], 0b10, Finding(0, 0b10, True)),
        # made on both sides while the other was away
        ([ONE, TWO], 0b11, Finding(EIO, uneven=True)),
        ([ONE, TWO], 0b00, Finding(EIO, uneven=True)),
        # an error says nothing
        ([EIO, ONE], 0b11, Finding(0, 0b10)),
        ([ENOTCONN, ENOENT], 0b11, Finding(ENOENT)),
    ],
)
def test_two_copies(replies: list[Iatt | int | None], trusted: int, finding: Finding) -> None:
    assert find(replies, trusted, NONE2) == finding


@pytest.mark.parametrize(
    ("replies", "trusted", "finding"),
    [
        ([ONE, ONE, ONE], 0b111, Finding(0, 0b111)),
        ([ONE, None, None], 0b111, Finding(ENOTCONN)),  # no quorum answers
        ([ONE, EIO, EIO], 0b111, Finding(EIO)),
        ([ENOENT, None, None], 0b111, Finding(ENOTCONN)),
        ([ONE, ONE, ENOENT], 0b111, Finding(0, 0b011, True)),
        # what a create that found no quorum has left
        ([ONE, ENOENT, ENOENT], 0b111, Finding(ENOENT, uneven=True)),
        ([ONE, ENOENT, None], 0b111, Finding(ENOTCONN, uneven=True)),
        # the same, but those that lack it are known to have missed something
        ([ONE, ENOENT, ENOENT], 0b001, Finding(0, 0b001, True)),
        ([ONE, TWO, ONE], 0b111, Finding(EIO, uneven=True)),
        ([ONE, TWO, ONE], 0b101, Finding(0, 0b101, True)),
    ],
)
def test_three_copies_with_quorum(replies: list[Iatt | int | None], trusted: int, finding: Finding) -> None:
    assert find(replies, trusted, AUTO3) == finding


@pytest.mark.parametrize(
    ("replies", "trusted", "ruled", "mended"),
    [
        ([ONE, ENOENT, ONE], 0b111, True, True),  # gone without any record
        ([ONE, ENOENT, ONE], 0b101, True, False),  # a minority missed it: its directory will be healed
        ([ONE, ENOENT, ONE], 0b101, False, True),
        ([ENOENT, ONE, ENOENT], 0b101, True, True),  # deleted while it was away
        ([ENOENT, ONE, ENOENT], 0b111, True, False),  # what a failed create left
        ([ONE, TWO, ONE], 0b101, True, True),  # made again while it was away
        ([ONE, TWO, ONE], 0b111, True, True),  # perhaps a policy chooses
        ([ONE, ENODATA, ONE], 0b111, True, True),  # lost its gfid
        ([ENODATA, ENODATA, ENODATA], 0b111, True, True),
        ([ONE, ONE, ONE], 0b111, True, False),
        ([ENOENT, ENOENT, ENOENT], 0b011, True, False),
    ],
)
def test_looking_at_a_name_heals_it_unless_that_were_a_guess(
    replies: list[Iatt | int | None], trusted: int, ruled: bool, mended: bool
) -> None:
    finding = find(replies, trusted, AUTO3 if ruled else rule(3, "none", None))
    assert mends(finding, replies, everyone=0b111, trusted=trusted, ruled=ruled) is mended
