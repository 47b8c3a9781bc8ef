"""Options: typed rows, declared once on the translator that reads them.

One row feeds parsing, validation, defaults, `volume set/get/help`, `-o`, the man pages and completion.
The units and words are GlusterFS's (`libglusterfs/src/options.c`): sizes take B KB MB GB TB PB (1024-based),
times s m h d w, booleans on/off yes/no true/false enable/disable 1/0.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from fusemux.graph.framework.errors import OptionError
from fusemux.graph.framework.fops import fops_named

__all__ = ["Option", "nearest", "parse_bool", "parse_options", "parse_size", "parse_time"]

_TRUE = frozenset({"on", "yes", "true", "enable", "enabled", "1"})
_FALSE = frozenset({"off", "no", "false", "disable", "disabled", "0"})
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?", re.IGNORECASE)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|hr|d|days|w|wk)?", re.IGNORECASE)
_TIME_UNITS = {
    "s": 1,
    "sec": 1,
    "m": 60,
    "min": 60,
    "h": 3600,
    "hr": 3600,
    "d": 86400,
    "days": 86400,
    "w": 604800,
    "wk": 604800,
}


def nearest(word: str, words: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the closest of `words`, or nothing."""
    match = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f", did you mean {match[0]!r}?" if match else ""


def parse_bool(text: str) -> bool:
    """`on`, `off` and their synonyms.  Raises ValueError."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("expected on or off")


def parse_size(text: str) -> int:
    """Bytes from `64KB`, `1.5G`, `4096`.  Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a size such as 64KB, 256MB or 1GB")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


def _errno(text: str) -> int:
    name = text.strip().upper()
    number = int(name) if name.isdigit() else getattr(errno, name, 0)
    if number not in errno.errorcode:
        raise ValueError("expected the name of an error, such as EIO or ENOSPC")
    return int(number)


def parse_time(text: str) -> float:
    """Seconds from `10`, `90s`, `5m`, `1h`.  Raises ValueError."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a time such as 10, 90s, 5m or 1h")
    return float(match[1]) * _TIME_UNITS[(match[2] or "s").lower()]


@dataclass(frozen=True, slots=True)
class Option:
    """One option of one translator.

    `type` is one of bool, int, octal, size (bytes), time (seconds), percent, percent-or-size, enum, str, list, path, errno (by name
    or number) or fops (a comma list of fop names).  `default`
    is text, as it would stand in a volfile; None means unset.  `key` is the name `volume set` knows it by
    (`cluster.min-free-disk`), empty for what only volfiles set.  `live`: a change reaches a running graph.
    """

    name: str
    type: str
    default: str | None
    doc: str
    key: str = ""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    since: str = "0.1"
    live: bool = True
    aliases: tuple[str, ...] = ()

    @property
    def attribute(self) -> str:
        return self.name.replace("-", "_").replace(".", "_")

    def parse(self, text: str) -> Any:
        """The typed value of `text`.  Raises OptionError, which names the option and what it takes."""
        try:
            value = self._typed(text)
        except ValueError as error:
            raise OptionError(f"option {self.name} {text!r}: {error}") from None
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        if number is not None and (
            (self.low is not None and number < self.low) or (self.high is not None and number > self.high)
        ):
            raise OptionError(f"option {self.name} {text!r}: expected {self._range()}")
        return value

    def _range(self) -> str:
        if self.low is not None and self.high is not None:
            return f"a value from {self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}"

    def _typed(self, text: str) -> Any:
        match self.type:
            case "bool":
                return parse_bool(text)
            case "int":
                try:
                    return int(text, 0)
                except ValueError:
                    raise ValueError("expected a whole number") from None
            case "octal":
                try:
                    return int(text, 8)
                except ValueError:
                    raise ValueError("expected an octal number such as 0755") from None
            case "size":
                return parse_size(text)
            case "time":
                return parse_time(text)
            case "percent":
                return self._percent(text)
            case "percent-or-size":
                return ("percent", self._percent(text)) if text.strip().endswith("%") else ("size", parse_size(text))
            case "enum":
                if text not in self.choices:
                    raise ValueError(f"expected one of {', '.join(self.choices)}{nearest(text, self.choices)}")
                return text
            case "fops":
                return fops_named(word for word in text.split(",") if word.strip())
            case "errno":
                return _errno(text)
            case "list":
                return tuple(word.strip() for word in text.split(",") if word.strip())
            case _:
                return text

    @staticmethod
    def _percent(text: str) -> float:
        try:
            value = float(text.strip().removesuffix("%"))
        except ValueError:
            raise ValueError("expected a percentage such as 10%") from None
        if not 0 <= value <= 100:
            raise ValueError("expected a percentage from 0% to 100%")
        return value


def parse_options(rows: Iterable[Option], given: Mapping[str, str]) -> tuple[SimpleNamespace, list[str]]:
    """Typed values of all `rows` as attributes (dashes become underscores), and the names nobody declared.

    As in GlusterFS an unknown option in a volfile is only worth a warning: newer volfiles must stay readable.
    """
    values: dict[str, Any] = {}
    known: set[str] = set()
    for row in rows:
        names = (row.name, *row.aliases)
        known.update(names)
        text = next((given[name] for name in names if name in given), row.default)
        values[row.attribute] = None if text is None else row.parse(text)
    return SimpleNamespace(**values), [name for name in given if name not in known]
