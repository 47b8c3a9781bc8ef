"""What stands behind `-o`."""

from __future__ import annotations

import pytest

from fusemux.mount.errors import Exit, MountError
from fusemux.mount.parsing import parse, split
from fusemux.mount.table import ROWS, find_word


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("ro", [("ro", None)]),
        ("ro,noexec", [("ro", None), ("noexec", None)]),
        ("a=b=c", [("a", "b=c")]),
        ("a=", [("a", "")]),
        (",,ro,,", [("ro", None)]),
        ('a="1,2",b', [("a", "1,2"), ("b", None)]),
        ('context="u:r:t:s0:c1,c2"', [("context", "u:r:t:s0:c1,c2")]),
        (r"fsname=a\,b\\c", [("fsname", r"a,b\c")]),
        ("x-systemd.requires=/mnt,ro", [("x-systemd.requires", "/mnt"), ("ro", None)]),
    ],
)
def test_options_are_split_at_commas_outside_of_quotes(text: str, pairs: list[tuple[str, str | None]]) -> None:
    assert split(text) == pairs


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(MountError, match="double quote is not closed") as caught:
        split('a="b,c')
    assert caught.value.exit is Exit.USAGE


@pytest.mark.parametrize(
    "text",
    [
        "_netdev", "nofail", "auto", "noauto", "user", "user=joe", "users", "nouser", "owner", "group", "defaults",
        "comment=anything at all", "x-systemd.automount", "x-anything=1", "X-mount.mkdir", "mand", "nomand", "silent", "loud", "relatime", "norelatime",
        "iversion", "uhelper=hal", "helper=x",
    ],
)  # fmt: skip
def test_words_of_fstab_are_accepted_and_change_nothing(text: str) -> None:
    assert parse([text]).given == {}


@pytest.mark.parametrize(
    ("text", "attribute", "value"),
    [
        ("ro", "ro", True),
        ("ro,rw", "ro", False),
        ("rw,ro", "ro", True),
        ("nosuid", "suid", False),
        ("nodev", "dev", False),
        ("noexec,exec", "exec", True),
        ("sync", "sync", True),
        ("sync,async", "sync", False),
        ("noatime", "atime", False),
        ("nosymfollow", "symfollow", False),
        ("allow_other", "allow_other", True),
        ("noallow_other", "allow_other", False),
        ("writeback-cache", "writeback_cache", True),
        ("writeback-cache=off", "writeback_cache", False),
        ("nowriteback_cache", "writeback_cache", False),
        ("kernel-writeback-cache=no", "writeback_cache", False),
        ("entry-timeout=inf", "entry_timeout", float("inf")),
        ("attr_timeout=1.5", "attribute_timeout", 1.5),
        ("max_write=128KB", "max_write", 131072),
        ("log-level=DEBUG", "log_level", "debug"),
        ("binding=pyfuse3", "binding", "pyfuse3"),
        ("fsname=a,fsname=b", "fsname", "b"),
    ],
)
def test_options_are_understood_and_later_ones_win(text: str, attribute: str, value: object) -> None:
    assert getattr(parse([text]).opt, attribute) == value


def test_several_o_are_one() -> None:
    request = parse(["ro", "nosuid,remount"])
    assert (request.opt.ro, request.opt.suid, request.remount) == (True, False, True)


def test_sloppy_passes_over_what_is_unknown_but_not_over_what_is_wrong() -> None:
    assert parse(["nosuch=1,ro,other"], sloppy=True).given == {"ro": "on"}
    with pytest.raises(MountError, match="pool-threads '0'"):
        parse(["pool-threads=0"], sloppy=True)


def test_a_dotted_word_is_a_volume_option_for_this_mount() -> None:
    assert parse(["cluster.min-free-disk=5%,ro"]).volume_options == {"cluster.min-free-disk": "5%"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosudi", "unknown option 'nosudi', did you mean 'nosuid'"),
        ("writeback-cach", "did you mean 'writeback-cache'"),
        ("remout", "did you mean 'remount'"),
        ("qwertz=1", "unknown option 'qwertz'; `mount.fusemux --help`"),
        ("pool-threads=0", "pool-threads '0': expected a value from 1 to 256"),
        ("entry-timeout", "'entry-timeout' needs a value"),
        ("entry-timeout=-1", "expected a time"),
        ("ro=perhaps", "option ro 'perhaps': expected on or off"),
        ("binding=fuse", "expected one of auto, kernel, pyfuse3"),
        ("log-level=loud", "expected one of trace"),
        ("cluster.min-free-disk", "volume option 'cluster.min-free-disk' needs a value"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_refused_with_the_way_out(text: str, message: str) -> None:
    with pytest.raises(MountError, match=message) as caught:
        parse([text])
    assert caught.value.exit is Exit.USAGE


def test_every_row_is_found_by_the_words_that_help_shows() -> None:
    for option in ROWS:
        for word in option.written.split(", "):
            found = find_word(word.partition("=")[0])
            assert found is not None, word
            assert option.group == "fstab" or found[0] is option
