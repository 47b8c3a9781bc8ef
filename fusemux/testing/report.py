"""What a failed test shows of its volume, and what is said when healing does not end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["POLL_S", "NotHealed", "pending", "report"]

POLL_S = 0.02
LOG_LINES = 50


class NotHealed(AssertionError):
    """The copies were not healed in time."""


def report(head: str, faults: Sequence[str], calls: Sequence[str], log: str, graph: str) -> str:
    parts = {
        "faults": list(faults) or ["none was set"],
        f"the last {len(calls)} calls": list(calls),
        "log": log.splitlines()[-LOG_LINES:] or ["nothing to warn of"],
        "graph": graph.splitlines(),
    }
    lines = [head]
    for title, body in parts.items():
        lines += ["", f"{title}:", *(f"  {line}" for line in body)]
    return "\n".join(lines)


def pending(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        entries = row["entries"]
        what = "down" if entries is None else ", ".join(
            (entry["path"] or entry["gfid"]) + (" (split-brain)" if entry["split_brain"] else "") for entry in entries
        ) or "nothing"  # fmt: skip
        lines.append(f"  {row['brick']}: {what}")
    return "\n".join(lines)
