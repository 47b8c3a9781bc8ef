"""How many copies must take part: client quorum.

Sets of children are integers here and in the other pure modules of replicate: bit i is child i.

    none    one child is enough
    auto    more than half; of an even number also exactly half when the first child is among them
    fixed   `count` children

Unset means auto for more than two children and none for two.  Checked before a transaction, after its fop, for locks, lookups
and reads, and for whether the set counts as up at all.  Source: GlusterFS cluster/afr (afr_has_quorum, fix_quorum_options).
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Quorum", "rule"]

Quorum = Callable[[int], bool]  # whether this set of children is enough


def rule(children: int, type: str | None, count: int | None) -> Quorum:
    """The rule for a set of `children` copies, by the options quorum-type and quorum-count."""
    if type is None:
        type = "auto" if children > 2 else "none"
    if type == "auto":
        return lambda present: 2 * present.bit_count() + (present & 1) > children
    need = count if type == "fixed" and count else 1
    return lambda present: present.bit_count() >= need
