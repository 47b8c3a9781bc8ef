"""Volfiles: GlusterFS's description of a graph, read and written.

    file    := volume+
    volume  := "volume" WORD "type" WORD ("option" WORD WORD)* ["subvolumes" WORD+] ("option" WORD WORD)* "end-volume"

Words are runs of characters other than blanks, quotes and backslashes, or "quoted" with \\-escapes; the five keywords
are case-insensitive; `#` starts a comment.  Volumes are defined before they are used, so the last one is the
top.  A repeated option overrides (with a warning).  GlusterFS runs text in `backticks` through a shell, quoted or not: it is
refused here, and never written.

Source: GlusterFS `libglusterfs/src/graph.l`, `graph.y`.  Pure: no file is opened here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.options import nearest

__all__ = ["Section", "VolfileError", "parse", "write"]

KEYWORDS = ("volume", "type", "option", "subvolumes", "end-volume")
_BACKTICKS = "backticks would run a command and are refused; write the value itself"
_TYPE = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_TOKEN = re.compile(
    r"""[\s]+ | \#[^\n]* | "(?P<quoted>(?:\\.|[^"\\\n])*)" | (?P<tick>`) | (?P<word>[^\s\\"`\#][^\s\\"]*) | (?P<bad>.)""",
    re.VERBOSE,
)


class VolfileError(FusemuxError):
    """The volfile is wrong at `line`; 0 when nobody wrote it, because it was generated."""

    def __init__(self, source: str, line: int, message: str) -> None:
        super().__init__(f"{source}, line {line}: {message}" if line else f"{source}: {message}")
        self.line = line


@dataclass
class Section:
    """One `volume ... end-volume`; `line` is where it begins."""

    name: str
    type: str
    options: dict[str, str] = field(default_factory=dict)
    subvolumes: list[str] = field(default_factory=list)
    line: int = 0
    type_line: int = 0
    warnings: list[str] = field(default_factory=list)


class _Token(NamedTuple):
    text: str
    line: int
    quoted: bool

    @property
    def keyword(self) -> str | None:
        lower = self.text.lower()
        return lower if not self.quoted and lower in KEYWORDS else None


def _tokens(text: str, source: str) -> Iterable[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        if match["tick"]:
            raise VolfileError(source, line, _BACKTICKS)
        if match["bad"]:
            hint = "a quoted word must end on its line" if match["bad"] == '"' else "quote the word"
            raise VolfileError(source, line, f"unexpected {match['bad']!r}; {hint}")
        word = match["word"]
        if match["quoted"] is not None:
            word = re.sub(r"\\(.)", r"\1", match["quoted"])
        if word is not None:
            if "`" in word:
                raise VolfileError(source, line, _BACKTICKS)
            yield _Token(word, line, match["quoted"] is not None)
        line += match[0].count("\n")


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.tokens = list(_tokens(text, source))
        self.at = 0
        self.line = 1

    def fail(self, message: str, line: int | None = None) -> VolfileError:
        return VolfileError(self.source, self.line if line is None else line, message)

    def peek(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def word(self, what: str) -> _Token:
        token = self.peek()
        if token is None:
            raise self.fail(f"the file ends where {what} should stand")
        if token.keyword:
            raise self.fail(
                f"expected {what}, found the keyword {token.text!r}; quote it if it is meant as a word", token.line
            )
        self.at += 1
        self.line = token.line
        return token

    def keyword(self, *expected: str) -> str:
        token = self.peek()
        if token is None:
            raise self.fail(f"the file ends where {' or '.join(map(repr, expected))} should stand")
        self.line = token.line
        if token.keyword not in expected:
            listed = ", ".join(map(repr, expected))
            raise self.fail(f"expected {listed}, found {token.text!r}{nearest(token.text.lower(), expected)}")
        self.at += 1
        return token.keyword

    def section(self, defined: dict[str, Section]) -> Section:
        self.keyword("volume")
        name = self.word("the name of the volume")
        if name.text in defined:
            raise self.fail(
                f"volume {name.text!r} is already defined in line {defined[name.text].line}; give it another name"
            )
        self.keyword("type")
        type_ = self.word("the type, such as storage/posix")
        if not _TYPE.fullmatch(type_.text):
            raise self.fail(f"{type_.text!r} is no translator type; types look like cluster/replicate")
        section = Section(name.text, type_.text, line=name.line, type_line=type_.line)
        while (word := self.keyword("option", "subvolumes", "end-volume")) != "end-volume":
            if word == "option":
                self.option(section)
            else:
                self.subvolumes(section, defined)
        return section

    def option(self, section: Section) -> None:
        key = self.word("the name of the option")
        value = self.word(f"the value of option {key.text!r}")
        if key.text in section.options:
            section.warnings.append(
                f"{self.source}, line {key.line}: option {key.text!r} of {section.name!r} is set again"
            )
        section.options[key.text] = value.text

    def subvolumes(self, section: Section, defined: dict[str, Section]) -> None:
        if section.subvolumes:
            raise self.fail(f"volume {section.name!r} has a second 'subvolumes'; put all of them on one")
        while (token := self.peek()) is not None and not token.keyword:
            self.at += 1
            self.line = token.line
            if token.text == section.name:
                raise self.fail(f"volume {section.name!r} cannot be its own subvolume")
            if token.text not in defined:
                hint = nearest(token.text, defined) or "; define it above, volfiles are written from the bricks up"
                raise self.fail(f"subvolume {token.text!r} is not defined{hint}")
            section.subvolumes.append(token.text)
        if not section.subvolumes:
            raise self.fail("'subvolumes' needs at least one name")


def parse(text: str, source: str = "volfile") -> list[Section]:
    """The sections of a volfile in file order, the top last.

    `source` names the text in messages.  Raises VolfileError with the line and a suggestion.
    """
    parser = _Parser(text, source)
    defined: dict[str, Section] = {}
    while parser.peek() is not None:
        section = parser.section(defined)
        defined[section.name] = section
    if not defined:
        raise VolfileError(source, 1, "the file defines no volume")
    return list(defined.values())


def _quoted(word: str) -> str:
    plain = word and not re.search(r'[\s\\"`]|^#', word) and word.lower() not in KEYWORDS
    if plain:
        return word
    if "\n" in word or "`" in word:
        raise FusemuxError(f"{word!r} cannot stand in a volfile: it holds a line break or a backtick")
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def write(sections: Iterable[Section]) -> str:
    """The text of a volfile, laid out as GlusterFS's generator does; `parse(write(s)) == s` but for lines."""
    blocks = []
    for section in sections:
        lines = [f"volume {_quoted(section.name)}", f"    type {section.type}"]
        lines += [f"    option {_quoted(key)} {_quoted(value)}" for key, value in section.options.items()]
        if section.subvolumes:
            lines.append("    subvolumes " + " ".join(map(_quoted, section.subvolumes)))
        blocks.append("\n".join([*lines, "end-volume", ""]))
    return "\n".join(blocks)
