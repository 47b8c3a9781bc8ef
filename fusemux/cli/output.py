"""What commands print: tables for people, one JSON value for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["Output", "size_text", "table"]


class Output:
    """Where a command says what it found or did; with `as_json` only `result` is printed."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, value: Any, text: str) -> None:
        """The command's outcome: `value` for programs, `text` for people."""
        if self.as_json:
            print(json.dumps(value, indent=2, ensure_ascii=True))
        elif text:
            print(text)

    def note(self, text: str) -> None:
        """What people should know besides; on stderr."""
        if not self.as_json:
            print(text, file=sys.stderr)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest entry; the last one is not padded."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def size_text(size: int) -> str:
    """`64MB`, as GlusterFS writes sizes; exact."""
    for unit in ("", "KB", "MB", "GB"):
        if size % 1024 or unit == "GB" or not size:
            return f"{size}{unit}"
        size //= 1024
    return f"{size}TB"
