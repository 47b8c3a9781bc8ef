"""What `volume set`, `get`, `reset` and `help` know: the option rows of all translators that have a key.

Nothing is declared here: a translator's row with a `key` is a volume option.  `settings()` imports every
translator, so only commands that talk about options call it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fusemux.graph.framework import registry
from fusemux.graph.framework.errors import OptionError
from fusemux.graph.framework.options import Option, nearest
from fusemux.volume.definition import Volume
from fusemux.volume.shape import ROWS

__all__ = ["Setting", "effective", "find_setting", "reset", "set_options", "settings"]


@dataclass(frozen=True)
class Setting:
    """One key of `volume set`, and the rows that it reaches."""

    key: str
    rows: tuple[tuple[str, Option], ...]  # (translator type, row); type "" for the shape of the graph

    @property
    def row(self) -> Option:
        return self.rows[0][1]

    @property
    def live(self) -> bool:
        """Whether a change reaches a running volume."""
        return all(row.live for _, row in self.rows)

    def check(self, value: str) -> None:
        """Raises OptionError, by the key's name, when one of the rows refuses `value`."""
        for _, row in self.rows:
            replace(row, name=self.key).parse(value)


@functools.cache
def settings() -> dict[str, Setting]:
    """All volume options by key, in alphabetical order."""
    found: dict[str, list[tuple[str, Option]]] = {row.key: [("", row)] for row in ROWS}
    for type_ in registry.known_types():
        translator = registry.find(type_)
        for row in translator.options if translator is not None else ():
            if row.key:
                found.setdefault(row.key, []).append((type_, row))
    return {key: Setting(key, tuple(found[key])) for key in sorted(found)}


def find_setting(key: str) -> Setting:
    """Raises OptionError with the nearest name."""
    known = settings()
    if key in known:
        return known[key]
    ending = [name for name in known if name.partition(".")[2] == key]
    hint = f", did you mean {ending[0]!r}?" if ending else nearest(key, known)
    raise OptionError(f"option {key!r} does not exist{hint or '; `fusemux volume set help` lists all'}")


def set_options(volume: Volume, changes: Mapping[str, str]) -> Volume:
    """`volume` with `changes` applied, all of them checked.  Raises OptionError."""
    for key, value in changes.items():
        find_setting(key).check(value)
    return replace(volume, options={**volume.options, **changes})


def reset(volume: Volume, key: str | None) -> Volume:
    """`volume` with one option, or all, back at the default.  Raises OptionError for an unknown name."""
    if key is None:
        return replace(volume, options={})
    if key not in volume.options:
        find_setting(key)
    return replace(volume, options={k: v for k, v in volume.options.items() if k != key})


def effective(volume: Volume, key: str) -> tuple[str | None, bool]:
    """The value of option `key`, and whether it is the default.  Raises OptionError."""
    if key in volume.options:
        return volume.options[key], False
    return find_setting(key).row.default, True
