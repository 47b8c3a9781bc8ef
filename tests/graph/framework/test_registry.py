"""Discovery: a translator is found by its file or its entry point, with nothing to register."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusemux.graph.features
from fusemux.graph.framework import registry
from fusemux.graph.framework.options import Option, parse_options
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.volfile import parse
from tests.graph.framework.layers import Leaf

CAPTURED = sorted((Path(__file__).parents[2] / "data" / "volfiles").glob("*.vol"))

NEW_TRANSLATOR = """
from fusemux.graph.framework.translator import Translator

class Example(Translator):
    type = "features/an-example"
"""


@pytest.fixture
def new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that appears in the folder features/."""
    path = tmp_path / "an_example.py"
    path.write_text(NEW_TRANSLATOR)
    monkeypatch.setattr(fusemux.graph.features, "__path__", [*fusemux.graph.features.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "_cache", {})
    importlib.invalidate_caches()
    return path


@pytest.mark.usefixtures("new_file")
def test_a_translator_is_found_because_its_file_is_there() -> None:
    found = registry.find("features/an-example")
    assert found is not None
    assert found.__name__ == "Example"
    assert "features/an-example" in registry.known_types()


@pytest.mark.usefixtures("testing_types")
def test_a_translator_of_another_project_is_found_by_its_entry_point() -> None:
    assert registry.find("testing/leaf") is Leaf
    assert registry.find("testing/lead") is None


@pytest.mark.usefixtures("testing_types")
def test_translators_of_other_projects_are_suggested_too() -> None:
    assert registry.suggestion("testing/laef") == ", did you mean 'testing/leaf'?"


@pytest.mark.parametrize(("alias", "type"), [(a, t) for a, t in registry.ALIASES.items() if a != t])
def test_an_alias_leads_to_the_same_class(alias: str, type: str) -> None:
    assert registry.find(alias) is registry.find(type)


def test_every_known_type_is_found_under_its_own_name() -> None:
    types = registry.known_types()
    assert "features/utime" in types
    for type in types:
        found = registry.find(type)
        assert found is not None
        assert found.type == type


@given(st.from_regex(r"[A-Za-z0-9_.-]{1,10}/[A-Za-z0-9_.-]{1,10}", fullmatch=True))
def test_no_type_whatever_it_is_called_breaks_the_search(type: str) -> None:
    found = registry.find(type)
    assert found is None or found.type == registry.ALIASES.get(type, type)


@pytest.mark.parametrize("type", ["framework/graph", "framework/translator", "cluster/..", "./.", "a/.", "-/-"])
def test_what_is_no_translator_is_not_found(type: str) -> None:
    assert registry.find(type) is None


def test_an_unknown_type_gets_the_nearest_one_suggested() -> None:
    assert registry.suggestion("features/utmie") == ", did you mean 'features/utime'?"
    assert registry.suggestion("zzz/qqq") == ""


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.name)
def test_every_layer_of_a_generated_volfile_is_there_or_stood_in_for(path: Path) -> None:
    """What is neither stores or spreads data differently: it must be refused, not passed through."""
    to_come = {
        "cluster/disperse",
        "features/arbiter",
        "debug/io-stats",
        "protocol/server",
        "protocol/client",
        "storage/posix",
    }
    to_come |= {"cluster/distribute", "cluster/replicate"}
    for section in parse(path.read_text()):
        known = registry.find(section.type) is not None or registry.stand_in(section.type, section.options)
        assert known or section.type in to_come, section


@pytest.mark.parametrize("type", ["features/read-only", "features/worm", "features/quota", "features/changelog"])
def test_a_feature_that_is_on_is_never_passed_through(type: str) -> None:
    switches = {"read-only": "on", "worm": "on", "server-quota": "on", "changelog": "on"}
    if registry.find(type) is None:
        assert registry.stand_in(type, {})
    assert not registry.stand_in(type, switches)


def every_option() -> list[tuple[type[Translator], Option]]:
    classes = [registry.find(type) for type in registry.known_types()]
    return [(cls, row) for cls in classes if cls is not None for row in cls.options]


OPTIONS = pytest.mark.parametrize(
    ("cls", "row"), [pytest.param(c, r, id=f"{c.type}:{r.name}") for c, r in every_option()]
)


@OPTIONS
def test_the_default_of_an_option_is_a_value_of_it(cls: type[Translator], row: Option) -> None:
    if row.default is not None:
        row.parse(row.default)


@OPTIONS
def test_an_option_is_explained(cls: type[Translator], row: Option) -> None:
    assert row.doc.rstrip().endswith(".")
    assert row.doc[0].isupper() or not row.doc[0].isalpha()
    assert (row.type == "enum") == bool(row.choices)


@OPTIONS
def test_an_option_is_declared_once(cls: type[Translator], row: Option) -> None:
    """Two rows of one translator never share a name, an alias or an attribute; two translators never a key."""
    names = [name for other in cls.options for name in (other.name, *other.aliases)]
    assert names.count(row.name) == 1
    assert [other.attribute for other in cls.options].count(row.attribute) == 1
    if row.key:
        assert [other_cls.type for other_cls, other in every_option() if other.key == row.key].count(cls.type) == 1


SAMPLES = {"bool": "on", "str": "x", "path": "/x", "list": "x,y", "fops": "writev,readv", "errno": "ENOSPC"}


@OPTIONS
def test_a_given_option_reaches_its_attribute(cls: type[Translator], row: Option) -> None:
    text = row.choices[-1] if row.choices else row.default or SAMPLES.get(row.type, "1")
    opt, unknown = parse_options(cls.options, {row.name: text})
    assert getattr(opt, row.attribute) == row.parse(text)
    assert unknown == []
