"""Where conformance runs: a given directory, a tmpfs, bindfs, or a throw-away volume of a spec."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fusemux.bench.references import REFERENCES, reference
from fusemux.bench.volumes import volumes

__all__ = ["add_place", "place"]


def add_place(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    parser.add_argument("--on", action="append", metavar="PLACE", help="a directory (with a slash), 'tmpfs', 'bindfs' or the spec "
                        f"of a volume such as 2x2; may be repeated (default {', '.join(default)})")  # fmt: skip
    parser.add_argument("-o", dest="option", action="append", default=[], help="a mount option for the volumes")


@contextmanager
def place(name: str, options: Sequence[str] = ()) -> Iterator[Path]:
    """The directory; what was mounted for it is gone afterwards."""
    if "/" in name:
        yield Path(name)
        return
    target = reference(name) if name in REFERENCES else volumes([name], options=options)
    with target as served:
        yield served.directories[0]
