"""The scripts, by topic.  A script is a function of a World; `SCRIPTS` holds all of them by name."""

from __future__ import annotations

from tests.parity.scripts import (
    data,
    descriptors,
    directories,
    extended,
    limits,
    links,
    locks,
    mapped,
    metadata,
    opening,
    permissions,
    renaming,
    special,
)
from tests.parity.scripts.table import ROOT_ONLY, SCRIPTS

__all__ = [
    "ROOT_ONLY", "SCRIPTS", "data", "descriptors", "directories", "extended", "limits", "links", "locks", "mapped", "metadata",
    "opening", "permissions", "renaming", "special",
]  # fmt: skip
