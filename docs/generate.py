"""Write the pages that are made from the code: docs/options.md and docs/mount-options.md from the rows of the options,
docs/afr-scenarios.md from the list of scenarios and the names of the tests.

python docs/generate.py           write them
python docs/generate.py --check   say which are out of date, and write nothing
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fusemux.graph.framework import registry
from fusemux.graph.framework.options import Option
from fusemux.graph.framework.translator import Translator
from fusemux.mount.table import GROUPS, ROWS, MountOption
from tests import scenarios

HERE = Path(__file__).parent
NOTE = "<!-- Made by docs/generate.py from the rows in the code; change those and run it again. -->"
NOTE_TESTS = (
    "<!-- Made by docs/generate.py from tests/data/afr-scenarios.json and the names of the tests; run it again. -->"
)


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def code(text: str | None) -> str:
    return f"`{cell(text)}`" if text else ""


def value(row: Option) -> str:
    """What an option takes: its type, the choices or the range."""
    if row.choices:
        return ", ".join(f"`{choice}`" for choice in row.choices)
    if row.low is None and row.high is None:
        return row.type
    low, high = (("" if end is None else f"{end:.15g}") for end in (row.low, row.high))
    return f"{row.type} {low}..{high}"


def row_of(row: Option) -> str:
    names = ", ".join(f"`{name}`" for name in (row.name, *row.aliases))
    live = "" if row.live else " Takes effect at the next mount."
    return f"| {names} | {code(row.key)} | {value(row)} | {code(row.default)} | {cell(row.doc)}{live} |"


def table(lines: Iterable[str], *heads: str) -> list[str]:
    return [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *lines, ""]


def summary(cls: type[Translator]) -> str:
    """The first line of the module's docstring, without the name that stands above it already."""
    line = (sys.modules[cls.__module__].__doc__ or "").strip().partition("\n")[0].removeprefix(f"{cls.type}: ")
    return line[:1].upper() + line[1:]


def translator_options() -> str:
    """Every option of every translator, by type."""
    lines = [
        "# Options of translators", "", NOTE, "",
        "The first column is the name in a volfile, the second the name for `fusemux volume set`, where there is one. Sizes take",
        "`KB`, `MB`, `GB`, ...; times `s`, `m`, `h`, `d`, `w`; switches `on` and `off`. A change reaches a mounted volume at once,",
        "unless the text says otherwise.", "",
    ]  # fmt: skip
    for type_ in registry.known_types():
        cls = registry.find(type_)
        assert cls is not None
        lines += [f"## {type_}", "", summary(cls), ""]
        if cls.options:
            lines += table(
                (row_of(row) for row in cls.options), "option", "`volume set`", "takes", "default", "meaning"
            )
        else:
            lines += ["No options.", ""]
    return "\n".join(lines)


def mount_row(option: MountOption) -> str:
    row = option.row
    default = "" if option.group == "fstab" else code(row.default)
    return f"| `{cell(option.written)}` | {value(row) if not option.is_switch else ''} | {default} | {cell(row.doc)} |"


def mount_options() -> str:
    """Every option behind `-o`, by group."""
    lines = [
        "# Options of a mount", "", NOTE, "",
        "What `mount.fusemux` and `fusemux mount` take behind `-o`. A name with a dot in it is an option of the volume",
        "(see [options.md](options.md)), for this mount alone: `-o cluster.min-free-disk=5%`.", "",
    ]  # fmt: skip
    for group, title in GROUPS.items():
        rows = (mount_row(option) for option in ROWS if option.group == group)
        lines += [f"## {title}", "", *table(rows, "option", "takes", "default", "meaning")]
    return "\n".join(lines)


def scenario_row(row: scenarios.Scenario, tests: Iterable[scenarios.Test]) -> str:
    return f"| `{row.file}` | {row.mark} | {cell(row.meaning)} | {'<br>'.join(code(str(test)) for test in tests)} |"


def afr_scenarios() -> str:
    """Which tests play each scenario of GlusterFS's own tests of replication."""
    lines = [
        "# GlusterFS's replication scenarios", "", NOTE_TESTS, "",
        "What the files of GlusterFS's `tests/basic/afr` are about, and the tests of fusemux (below `tests/`) that play the same. A test",
        "is found by its name, which begins like the file's: `test_lk_quorum...` plays `lk-quorum.t`. Marks: **L**, has an equivalent here;",
        "**l**, makes sense in part, or with what fusemux does not have yet; **-**, has no meaning in one process.", "",
    ]  # fmt: skip
    played = scenarios.played()
    for title, rows in scenarios.tables().items():
        found = (scenario_row(row, played[row.file]) for row in rows)
        lines += [f"## {title}", "", *table(found, "file", "mark", "meaning", "tests")]
    return "\n".join(lines)


PAGES = {"options.md": translator_options, "mount-options.md": mount_options, "afr-scenarios.md": afr_scenarios}


def outdated() -> dict[Path, str]:
    """The pages that differ from what the code says now, with their new text."""
    texts = {HERE / name: page().rstrip("\n") + "\n" for name, page in PAGES.items()}
    return {path: text for path, text in texts.items() if not path.exists() or path.read_text() != text}


if __name__ == "__main__":
    changed = outdated()
    if "--check" in sys.argv[1:]:
        for path in changed:
            print(f"{path.name} is out of date; run python docs/generate.py")
        sys.exit(bool(changed))
    for path, text in changed.items():
        path.write_text(text)
