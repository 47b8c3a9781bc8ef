"""Options: every type, every synonym and unit, ranges, and messages that say what to write instead."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemux.graph.framework.errors import OptionError
from fusemux.graph.framework.options import Option, nearest, parse_bool, parse_options, parse_size, parse_time


def option(type: str, **more: Any) -> Option:
    return Option("thing", type, None, "A thing.", **more)


@pytest.mark.parametrize("text", ["on", "yes", "true", "enable", "enabled", "1", "ON", " Yes "])
def test_true_in_all_of_its_words(text: str) -> None:
    assert parse_bool(text) is True


@pytest.mark.parametrize("text", ["off", "no", "false", "disable", "disabled", "0", "Off"])
def test_false_in_all_of_its_words(text: str) -> None:
    assert parse_bool(text) is False


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("4096", 4096), ("7B", 7), ("64KB", 65536), ("64k", 65536), ("64KiB", 65536), ("1.5M", 1572864),
        ("2 GB", 2 << 30), ("1TB", 1 << 40), ("1PB", 1 << 50),
    ],
)  # fmt: skip
def test_sizes_count_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10),
        ("90s", 90),
        ("5m", 300),
        ("5min", 300),
        ("1h", 3600),
        ("1.5hr", 5400),
        ("2d", 172800),
        ("1w", 604800),
    ],
)
def test_times_are_seconds(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("parse", [parse_bool, parse_size, parse_time])
@pytest.mark.parametrize("text", ["", "x", "-1", "1 2", "on off", "1XB", "nan", "inf", "1e3", "0x10"])
def test_what_is_no_value_is_refused_with_an_example(parse: Any, text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse(text)


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        ("bool", "enable", True),
        ("int", "-3", -3),
        ("int", "0x10", 16),
        ("size", "1KB", 1024),
        ("time", "1m", 60.0),
        ("percent", "10%", 10.0),
        ("percent", "12.5", 12.5),
        ("percent-or-size", "10%", ("percent", 10.0)),
        ("percent-or-size", "10GB", ("size", 10 << 30)),
        ("str", "any text", "any text"),
        ("path", "/a b", "/a b"),
        ("list", "a, b,,c", ("a", "b", "c")),
        ("list", "", ()),
        ("errno", "ENOSPC", errno.ENOSPC),
        ("errno", "eio", errno.EIO),
        ("errno", "28", errno.ENOSPC),
        ("fops", "writev, readv", frozenset({"writev", "readv"})),
    ],
)
def test_each_type_gives_its_value(type: str, text: str, value: object) -> None:
    assert option(type).parse(text) == value


@pytest.mark.parametrize(
    ("row", "text", "message"),
    [
        (option("bool"), "maybe", "option thing 'maybe': expected on or off"),
        (option("int"), "three", "option thing 'three': expected a whole number"),
        (option("int", low=1, high=16), "0", "option thing '0': expected a value from 1 to 16"),
        (option("int", low=1), "-1", "expected at least 1"),
        (option("int", high=5), "6", "expected at most 5"),
        (option("size", low=1024), "1B", "expected at least 1024"),
        (option("size"), "lots", "expected a size such as 64KB, 256MB or 1GB"),
        (option("time"), "soon", "expected a time such as 10, 90s, 5m or 1h"),
        (option("errno"), "ENOSUCH", "expected the name of an error, such as EIO or ENOSPC"),
        (option("errno"), "0", "expected the name of an error"),
        (option("fops"), "writev,raedv", "there is no fop 'raedv'"),
        (option("percent"), "101%", "expected a percentage from 0% to 100%"),
        (option("percent"), "nan", "expected a percentage from 0% to 100%"),
        (option("percent-or-size"), "ten", "expected a size"),
        (
            option("enum", choices=("none", "auto", "fixed")),
            "atuo",
            "expected one of none, auto, fixed, did you mean 'auto'?",
        ),
    ],
)
def test_a_refusal_names_the_option_the_value_and_the_way_out(row: Option, text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        row.parse(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"option thing {text!r}: ")


@pytest.mark.parametrize("text", ["1", "16"])
def test_both_ends_of_a_range_are_in_it(text: str) -> None:
    assert option("int", low=1, high=16).parse(text) == int(text)


@given(
    st.text(max_size=20),
    st.sampled_from(["bool", "int", "size", "time", "percent", "percent-or-size", "list", "errno", "fops"]),
)
def test_whatever_is_written_is_a_value_or_an_option_error(text: str, type: str) -> None:
    try:
        option(type).parse(text)
    except OptionError as error:
        assert str(error).startswith("option thing ")


ROWS = (
    Option("plain", "int", "7", "."),
    Option("dashed-name", "bool", "off", "."),
    Option("dotted.name", "size", None, ".", aliases=("old-name", "older-name")),
)


def test_options_that_are_not_given_take_their_defaults() -> None:
    opt, unknown = parse_options(ROWS, {})
    assert (opt.plain, opt.dashed_name, opt.dotted_name, unknown) == (7, False, None, [])


def test_an_alias_sets_the_option_but_its_own_name_wins() -> None:
    assert parse_options(ROWS, {"old-name": "1KB"})[0].dotted_name == 1024
    assert parse_options(ROWS, {"older-name": "1KB", "dotted.name": "2KB"})[0].dotted_name == 2048


def test_options_nobody_declared_are_named_and_not_refused() -> None:
    assert parse_options(ROWS, {"new": "x", "plain": "1"})[1] == ["new"]


def test_the_nearest_word_is_suggested_only_when_it_is_near() -> None:
    assert nearest("replcia", ["replica", "disperse"]) == ", did you mean 'replica'?"
    assert nearest("zzz", ["replica", "disperse"]) == ""
