"""What `mount.fusemux --help` says of the options, from the one table."""

from __future__ import annotations

import textwrap

from fusemux.mount.table import GROUPS, ROWS, MountOption

__all__ = ["help_text"]

_HEAD = """\
usage: mount.fusemux SPEC DIR [-sfnvN] [-o OPTIONS] [-t TYPE] [--foreground] [--replace-stale] [--debug]

Mount a volume. SPEC is a stored volume, a volfile, or a short form of a throw-away volume on ramdisks:
  1   3   2x2   4+2   2x(4+2)   replica=3,size=256M   disperse=4+2,name=web

  -f  check everything, mount nothing     -v  say what was done     -s  pass over unknown options
  -o  options, separated by commas; commas inside double quotes do not separate

Exit status, as mount(8): 0 it serves, 1 usage or permissions, 2 system error, 4 bug, 8 interrupted, 32 mount failed.
"""
_TAIL = """
A word with a dot is a volume option for this mount alone, such as -o cluster.min-free-disk=5%;
`fusemux volume set help` lists them.
"""


def help_text() -> str:
    parts = [_HEAD]
    for group, title in GROUPS.items():
        parts.append(f"{title}:")
        parts += [_entry(option) for option in ROWS if option.group == group]
        parts.append("")
    return "\n".join(parts) + _TAIL


def _entry(option: MountOption) -> str:
    lines = textwrap.wrap(_doc(option), 84)
    head = f"  {option.written}"
    first = f"{head:32}" if len(head) < 31 else f"{head}\n{'':32}"
    return first + f"\n{'':32}".join(lines)


def _doc(option: MountOption) -> str:
    choices = f" One of {', '.join(option.row.choices)}." if option.row.choices else ""
    default = f" Default: {option.row.default}." if option.row.default and not option.is_switch else ""
    return " ".join(f"{option.row.doc}{choices}{default}".split())
