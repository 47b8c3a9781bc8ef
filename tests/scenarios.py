"""Which tests play the scenarios of GlusterFS's own replication tests (tests/basic/afr), found by their names.

`tests/data/afr-scenarios.json` lists those scenarios by the names of their files.  A test plays the one whose name, in snake case, its
own begins with: `test_lk_quorum_of_three` plays `lk-quorum.t`.  Where several do, the longest counts.  Files in
sub-folders are named with them (`granular-esh/cli.t`: `test_granular_esh_cli`); the list may give other beginnings (`also`).
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Scenario", "Test", "played", "tables", "tests"]

HERE = Path(__file__).parent
DATA = HERE / "data" / "afr-scenarios.json"
PLACES = ("graph/cluster/replicate", "fusemux")  # where such tests are, below tests/


class Scenario(NamedTuple):
    file: str
    mark: str  # L: wanted; l: where it makes sense; -: has no meaning here
    meaning: str
    stems: tuple[str, ...]  # what names of tests begin with, after `test_`


class Test(NamedTuple):
    module: str  # below tests/
    function: str

    def __str__(self) -> str:
        return f"{self.module}::{self.function}"


@cache
def tables() -> Mapping[str, tuple[Scenario, ...]]:
    """The scenarios, by the title of their table."""
    return {table["title"]: tuple(_scenario(**row) for row in table["rows"]) for table in _data()["tables"]}


def _scenario(file: str, mark: str, meaning: str, also: tuple[str, ...] = ()) -> Scenario:
    return Scenario(file, mark, meaning, (re.sub(r"[^a-z0-9]+", "_", file.removesuffix(".t")), *also))


@cache
def _data() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DATA.read_text())
    return loaded


def tests() -> Iterator[Test]:
    """All tests where scenarios are played, in the order of the files."""
    for place in PLACES:
        for path in sorted((HERE / place).rglob("test_*.py")):
            for node in ast.parse(path.read_bytes()).body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    yield Test(str(path.relative_to(HERE)), node.name)


def played() -> dict[str, list[Test]]:
    """The tests that play each scenario, by its file."""
    stems = {stem: row.file for rows in tables().values() for row in rows for stem in row.stems}
    found: dict[str, list[Test]] = {file: [] for file in stems.values()}
    for test in tests():
        words = test.function.removeprefix("test_").split("_")
        for end in range(len(words), 0, -1):
            file = stems.get("_".join(words[:end]))
            if file is not None:
                found[file].append(test)
                break
    return found
