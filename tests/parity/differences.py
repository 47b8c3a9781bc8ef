"""What a binding cannot carry, and why: the only ways in which a mount may differ from tmpfs.

Each row is a call (or one flag of it) and what the mount answers instead.  The reference side answers the same without doing
it, so the rest of each script is compared as ever; a row that is no longer true fails the suite.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.parity.world import NO_HOLES


class Lack(NamedTuple):
    call: str  # as in World: a call, or call:FLAG
    answer: str
    reason: str


PYFUSE3 = (
    Lack("fallocate", "EOPNOTSUPP", "pyfuse3 has no handler for FUSE_FALLOCATE"),
    Lack("open:TMPFILE", "EOPNOTSUPP", "pyfuse3 has no handler for FUSE_TMPFILE"),
    Lack("lseek:DATA", NO_HOLES, "pyfuse3 has no handler for FUSE_LSEEK: the kernel takes everything for data"),
    Lack("lseek:HOLE", NO_HOLES, "pyfuse3 has no handler for FUSE_LSEEK: the kernel takes everything for data"),
)

LACKS: dict[str, tuple[Lack, ...]] = {"pyfuse3": PYFUSE3, "kernel": ()}


def lacks(binding: str) -> dict[str, str]:
    """For `World`."""
    return {lack.call: lack.answer for lack in LACKS[binding]}
