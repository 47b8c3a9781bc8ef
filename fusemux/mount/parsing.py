"""What stands behind `-o`, split and understood.

Options are separated by commas, except inside double quotes or behind a backslash; the first `=` ends the name.  Later words
override earlier ones, as in mount(8).  A word with a dot in it is a volume option for this mount alone
(`-o cluster.min-free-disk=5%`).  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace

from fusemux.graph.framework.errors import OptionError
from fusemux.graph.framework.options import nearest, parse_bool, parse_options
from fusemux.mount.errors import Exit, MountError
from fusemux.mount.table import ROWS, WORDS, MountOption, find_word

__all__ = ["MountRequest", "parse", "split"]


@dataclass
class MountRequest:
    """The options of one mount, understood.  `opt` has one attribute for each row of the table."""

    opt: SimpleNamespace
    given: dict[str, str] = field(default_factory=dict)  # rows that were given, by name
    volume_options: dict[str, str] = field(default_factory=dict)
    remount: bool = False


def split(text: str) -> list[tuple[str, str | None]]:
    """`a,b="1,2",c=d=e` as [("a", None), ("b", "1,2"), ("c", "d=e")].  Raises MountError for an open quote."""
    words: list[str] = [""]
    quoted = False
    characters = iter(text)
    for character in characters:
        if character == "\\":
            words[-1] += next(characters, "\\")
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            words.append("")
        else:
            words[-1] += character
    if quoted:
        raise MountError(f"options {text!r}: a double quote is not closed", Exit.USAGE)
    pairs = (word.partition("=") for word in words if word)
    return [(name, value if equals else None) for name, equals, value in pairs]


def parse(texts: Iterable[str], *, sloppy: bool = False) -> MountRequest:
    """All `-o` of a command line; `sloppy` passes over what is unknown, as `-s` of mount(8) asks.

    Raises MountError (usage) for what is unknown or out of range.
    """
    given: dict[str, str] = {}
    volume_options: dict[str, str] = {}
    remount = False
    for text in texts:
        for name, value in split(text):
            if name == "remount" and value is None:
                remount = True
                continue
            found = find_word(name)
            if found is None:
                if "." in name or not sloppy:
                    _volume_option(name, value, volume_options)
            elif found[0].group != "fstab":
                given[found[0].name] = _text(found[0], found[1], name, value)
    try:
        opt, _ = parse_options([option.row for option in ROWS if option.group != "fstab"], given)
    except OptionError as error:
        raise MountError(str(error), Exit.USAGE) from None
    return MountRequest(opt, given, volume_options, remount)


def _text(option: MountOption, on: bool, name: str, value: str | None) -> str:
    """The value as its row parses it."""
    if not option.is_switch:
        if value is None:
            raise MountError(f"option {name!r} needs a value: {name}={option.row.default or '...'}", Exit.USAGE)
        return value
    try:
        return "on" if (value is None or parse_bool(value)) is on else "off"
    except ValueError as error:
        raise MountError(f"option {name} {value!r}: {error}", Exit.USAGE) from None


def _volume_option(name: str, value: str | None, into: dict[str, str]) -> None:
    if "." not in name:
        known = [word for word in WORDS if not word.startswith("nono")]
        hint = nearest(name, [*known, "remount"]) or "; `mount.fusemux --help` lists all"
        raise MountError(f"unknown option {name!r}{hint}", Exit.USAGE)
    if value is None:
        raise MountError(f"volume option {name!r} needs a value: {name}=...", Exit.USAGE)
    into[name] = value
