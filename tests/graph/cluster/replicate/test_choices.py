"""The words and the memory behind the virtual xattrs about split-brains."""

from __future__ import annotations

from errno import EINVAL

import pytest

from fusemux.graph.cluster.replicate.choices import Choices, child_named, minutes, status
from tests.graph.cluster.replicate.volume import refused


def test_a_choice_holds_for_its_time() -> None:
    choices = Choices(timeout_s=60)
    assert not choices
    assert choices.make(b"a", 2, now_s=100) == 160
    assert (choices.of(b"a", 159), choices.of(b"a", 160), choices.of(b"b", 100)) == (0b100, 0, 0)


def test_the_last_choice_counts_and_is_not_forgotten_when_an_earlier_one_would_be() -> None:
    choices = Choices(timeout_s=60)
    first = choices.make(b"a", 0, now_s=0)
    second = choices.make(b"a", 1, now_s=30)
    assert not choices.expire(b"a", first)
    assert choices.of(b"a", 80) == 0b10
    assert choices.expire(b"a", second)
    assert not choices.forget(b"a")


def test_the_oldest_of_too_many_choices_goes() -> None:
    choices = Choices(timeout_s=60)
    for n in range(1025):
        choices.make(n.to_bytes(2, "big"), 0, now_s=0)
    assert choices.of(bytes(2), 0) == 0
    assert choices.of(b"\0\1", 0) == 1


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        (set(), b"The file is not under data or metadata split-brain"),
        ({"data"}, b"data-split-brain:yes    metadata-split-brain:no    Choices:c-0,c-1"),
        ({"data", "metadata"}, b"data-split-brain:yes    metadata-split-brain:yes    Choices:c-0,c-1"),
    ],
)
def test_the_status_is_told_in_glusterfs_words(kinds: set[str], text: bytes) -> None:
    assert status(kinds, ["c-0", "c-1"]) == text


def test_values_may_end_with_the_nul_that_some_programs_send() -> None:
    assert child_named(b"c-1\0", ["c-0", "c-1"]) == 1
    assert minutes(b"5\0") == 5


@pytest.mark.parametrize("value", [b"", b"0", b"-1", b"1441", b"5m", b"\xb2"])
def test_a_timeout_that_is_no_number_of_minutes_is_refused(value: bytes) -> None:
    with refused(EINVAL):
        minutes(value)
