"""Compare two transcripts and show where they part."""

from __future__ import annotations

from tests.parity.world import Line

CONTEXT = 6  # lines before the first difference
SHOWN = 12  # differences


def differences(expected: list[Line], actual: list[Line]) -> str:
    """Nothing when both are equal; otherwise a report that begins with what led to the first difference."""
    if expected == actual:
        return ""
    pairs = list(zip(expected, actual, strict=False))
    wrong = [place for place, (left, right) in enumerate(pairs) if left != right]
    first = wrong[0] if wrong else len(pairs)
    report = [f"    {call} -> {result}" for call, result in expected[max(0, first - CONTEXT) : first]]
    for place in wrong[:SHOWN]:
        (call, left), (other_call, right) = pairs[place]
        name = call if call == other_call else f"{call}  BUT  {other_call}"
        report += [f"{place:4d} {name}", f"       tmpfs: {left}", f"       here:  {right}"]
    if len(wrong) > SHOWN:
        report.append(f"     ... and {len(wrong) - SHOWN} more")
    if len(expected) != len(actual):
        report.append(f"     {len(expected)} lines on tmpfs, {len(actual)} here")
    return "\n".join(report)
