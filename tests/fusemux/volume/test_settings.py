"""`volume set`, `get` and `reset` over the options of all translators."""

from __future__ import annotations

import pytest

from fusemux.graph.framework.errors import OptionError
from fusemux.volume.definition import BrickSpec, Volume
from fusemux.volume.settings import effective, find_setting, reset, set_options, settings

VOLUME = Volume("web", (BrickSpec("/b"),))


def test_every_default_is_accepted_by_its_own_row() -> None:
    for key, setting in settings().items():
        for _, row in setting.rows:
            if row.default is not None:
                row.parse(row.default)
        assert setting.row.doc, f"{key} has no doc"


def test_setting_is_checked_by_the_row_and_names_the_key() -> None:
    with pytest.raises(OptionError, match=r"option ctime\.noatime 'maybe': expected on or off"):
        set_options(VOLUME, {"ctime.noatime": "maybe"})


def test_one_wrong_value_among_many_changes_nothing() -> None:
    with pytest.raises(OptionError):
        set_options(VOLUME, {"ctime.noatime": "off", "features.ctime": "maybe"})
    assert VOLUME.options == {}


@pytest.mark.parametrize(
    ("key", "hint"), [("ctime.noatim", "did you mean 'ctime.noatime'"), ("noatime", "did you mean 'ctime.noatime'"),
                      ("xyzzy", "volume set help")]
)  # fmt: skip
def test_an_unknown_option_is_refused_with_the_nearest(key: str, hint: str) -> None:
    with pytest.raises(OptionError, match=hint):
        find_setting(key)


def test_get_tells_the_default_until_it_is_set_and_again_after_reset() -> None:
    assert effective(VOLUME, "ctime.noatime") == ("on", True)
    changed = set_options(VOLUME, {"ctime.noatime": "off"})
    assert effective(changed, "ctime.noatime") == ("off", False)
    assert effective(reset(changed, "ctime.noatime"), "ctime.noatime") == ("on", True)
    assert reset(changed, None).options == {}


def test_what_shapes_the_graph_is_not_live() -> None:
    assert not find_setting("performance.write-behind").live
    assert find_setting("ctime.noatime").live
