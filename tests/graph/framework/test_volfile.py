"""Volfiles: GlusterFS's grammar, its generated files, errors with line and suggestion, and the way back to text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.volfile import KEYWORDS, Section, VolfileError, parse, write

CAPTURED = sorted((Path(__file__).parents[2] / "data" / "volfiles").glob("*.vol"))

LEAF = """volume a
    type storage/posix
    option directory /srv/a
end-volume
"""


def parsed(text: str) -> list[tuple[str, str, dict[str, str], list[str]]]:
    return [(s.name, s.type, s.options, s.subvolumes) for s in parse(text)]


def test_a_volume_has_a_name_a_type_options_and_subvolumes() -> None:
    text = LEAF + "volume b type debug/trace option x 1 subvolumes a end-volume"
    assert parsed(text) == [
        ("a", "storage/posix", {"directory": "/srv/a"}, []),
        ("b", "debug/trace", {"x": "1"}, ["a"]),
    ]


def test_options_may_follow_the_subvolumes() -> None:
    assert parsed(LEAF + "volume b\ntype a/b\nsubvolumes a\noption x 1\nend-volume")[1] == (
        "b",
        "a/b",
        {"x": "1"},
        ["a"],
    )


def test_keywords_are_read_in_any_case_and_blanks_do_not_matter() -> None:
    assert parsed("VOLUME a Type x/y\n\n\tOption k v\rEND-Volume") == [("a", "x/y", {"k": "v"}, [])]


def test_a_hash_begins_a_comment_except_inside_a_word_or_quotes() -> None:
    text = '# first\nvolume a # name\ntype x/y#z\n#option no no\noption k "# v"\noption l v#w\nend-volume # done'
    with pytest.raises(VolfileError, match="line 3: 'x/y#z' is no translator type"):
        parse(text)
    assert parsed(text.replace("y#z", "y"))[0][2] == {"k": "# v", "l": "v#w"}


def test_quoted_words_hold_blanks_keywords_and_escaped_characters() -> None:
    text = r'volume "end-volume" type x/y option "a b" "say \"hi\" \\ \x" end-volume'
    assert parsed(text) == [("end-volume", "x/y", {"a b": r'say "hi" \ x'}, [])]


def test_sections_know_their_lines() -> None:
    sections = parse("\n# comment\n" + LEAF + "volume b\n  type\n    x/y\nend-volume")
    assert [(s.line, s.type_line) for s in sections] == [(3, 4), (7, 9)]


def test_a_repeated_option_overrides_with_a_warning() -> None:
    (section,) = parse("volume a\ntype x/y\noption k 1\noption k 2\nend-volume", "web.vol")
    assert section.options == {"k": "2"}
    assert section.warnings == ["web.vol, line 4: option 'k' of 'a' is set again"]


WRONG = [
    ("", 1, "the file defines no volume"),
    ("# nothing\n", 1, "the file defines no volume"),
    ("volume a\ntyp x/y\nend-volume", 2, "expected 'type', found 'typ', did you mean 'type'?"),
    ("volume a\ntype x/y\nsubvolume b\nend-volume", 3, "found 'subvolume', did you mean 'subvolumes'?"),
    ("volume a\ntype x/y\nend-volum", 3, "found 'end-volum', did you mean 'end-volume'?"),
    ("volume a\ntype x/y\noption k\nend-volume", 4, "expected the value of option 'k', found the keyword 'end-volume'"),
    ("volume\ntype x/y\nend-volume", 2, "expected the name of the volume, found the keyword 'type'; quote it"),
    ("volume a\ntype x/y\n\n", 2, "the file ends where 'option' or 'subvolumes' or 'end-volume' should stand"),
    ("volume a\ntype x/y\noption k", 3, "the file ends where the value of option 'k' should stand"),
    ("volume a\ntype posix\nend-volume", 2, "'posix' is no translator type; types look like cluster/replicate"),
    (LEAF + "volume a\ntype x/y\nend-volume", 5, "volume 'a' is already defined in line 1; give it another name"),
    (LEAF + "volume b\ntype x/y\nsubvolumes c\nend-volume", 7, "subvolume 'c' is not defined; define it above"),
    (LEAF + "volume b\ntype x/y\nsubvolumes A\nend-volume", 7, "subvolume 'A' is not defined"),
    ("volume abc\ntype x/y\nend-volume\nvolume b\ntype x/y\nsubvolumes abd\nend-volume", 6, "did you mean 'abc'?"),
    ("volume b\ntype x/y\nsubvolumes b\nend-volume", 3, "volume 'b' cannot be its own subvolume"),
    (LEAF + "volume b\ntype x/y\nsubvolumes\nend-volume", 7, "'subvolumes' needs at least one name"),
    (LEAF + "volume b\ntype x/y\nsubvolumes a\nsubvolumes a\nend-volume", 8, "volume 'b' has a second 'subvolumes'"),
    ('volume a\ntype x/y\noption k "open\nend-volume', 3, "a quoted word must end on its line"),
    ("volume a\ntype x/y\noption k a\\b\nend-volume", 3, "unexpected '\\\\'; quote the word"),
    ("volume a\ntype x/y\noption k `date`\nend-volume", 3, "backticks would run a command and are refused"),
    ("volume a\ntype x/y\noption k v`date`\nend-volume", 3, "backticks would run a command and are refused"),
    ('volume a\ntype x/y\noption k "`date`"\nend-volume', 3, "backticks would run a command and are refused"),
]


@pytest.mark.parametrize(("text", "line", "message"), WRONG)
def test_an_error_names_the_file_the_line_and_the_way_out(text: str, line: int, message: str) -> None:
    with pytest.raises(VolfileError) as caught:
        parse(text, "web.vol")
    assert str(caught.value).startswith(f"web.vol, line {line}: ")
    assert message in str(caught.value)
    assert caught.value.line == line


@given(st.text(alphabet='ab/ \n"\\#`volume type option end-volume subvolumes', max_size=80))
def test_any_text_is_a_graph_or_a_volfile_error(text: str) -> None:
    try:
        parse(text)
    except VolfileError:
        pass


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.name)
def test_generated_volfiles_parse_and_come_back_the_same(path: Path) -> None:
    text = path.read_text()
    sections = parse(text, path.name)
    assert len(sections) == text.count("end-volume")
    assert not any(section.warnings for section in sections)
    assert write(sections).split() == text.split()


def test_the_generated_client_graph_of_a_2x2_volume_is_what_it_looks_like() -> None:
    (path,) = [path for path in CAPTURED if path.name == "gvd2r2.tcp-fuse.vol"]
    sections = {section.name: section for section in parse(path.read_text())}
    assert sections["gvd2r2-dht"].subvolumes == ["gvd2r2-replicate-0", "gvd2r2-replicate-1"]
    assert sections["gvd2r2-replicate-1"].subvolumes == ["gvd2r2-client-2", "gvd2r2-client-3"]
    assert sections["gvd2r2-replicate-1"].options["afr-pending-xattr"] == "gvd2r2-client-2,gvd2r2-client-3"
    assert list(sections)[-1] == "gvd2r2"


@pytest.mark.parametrize("word", ["a\nb", "a`date`"])
def test_what_a_volfile_cannot_hold_is_not_written(word: str) -> None:
    with pytest.raises(FusemuxError, match="cannot stand in a volfile"):
        write([Section("a", "x/y", {"k": word})])


WORDS = st.text(st.characters(blacklist_characters="\n`", blacklist_categories=["Cs"]), max_size=12) | st.sampled_from(
    KEYWORDS
)
TYPES = st.from_regex(r"[a-z]{1,8}/[a-z-]{1,8}", fullmatch=True)


@st.composite
def graphs(draw: st.DrawFn) -> list[Section]:
    names = draw(st.lists(WORDS, min_size=1, max_size=6, unique=True))
    sections = []
    for place, name in enumerate(names):
        below = draw(st.lists(st.sampled_from(names[:place]), max_size=3)) if place else []
        sections.append(Section(name, draw(TYPES), draw(st.dictionaries(WORDS, WORDS, max_size=3)), below))
    return sections


@given(graphs())
def test_what_was_written_is_read_back(sections: list[Section]) -> None:
    assert parsed(write(sections)) == [(s.name, s.type, s.options, s.subvolumes) for s in sections]
