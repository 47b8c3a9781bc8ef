"""Tables for people: columns that line up, units in the heading, a column of ratios next to what they compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["megabytes", "microseconds", "multiple", "ratio", "render", "thousands"]


def render(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The rows under their heading; the first column is text and stands left, the others are numbers and stand right."""
    lines = [list(heading), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    text = []
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join([line[0].ljust(widths[0]), *cells]).rstrip())
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text)


def thousands(value: float) -> str:
    """A count: 12,345; with decimals below 100."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def microseconds(ns: float) -> str:
    return thousands(ns / 1000)


def megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.1f}"


def multiple(value: float | None) -> str:
    """A ratio that was computed already; a dash where there is none."""
    return "-" if value is None else f"{value:.2f}"


def ratio(value: float, reference: float | None) -> str:
    """`value` in units of `reference`; a dash where there is none."""
    return f"{value / reference:.2f}" if reference else "-"
