"""What a rename of a file does on which subvolume, in which order: decided here, performed by `fops/rename.py`.

Theory.  Four subvolumes matter: where the old name hashes (`sh`) and where its data is (`sc`, cached), and the same of the new name
(`dh`, `dc`; `dc` is None when nothing lies there).  Data never moves: afterwards the file is on `sc` under its new name, and when
that name hashes elsewhere (`dh` is not `sc`) a linkto file on `dh` points to `sc`.

The order is chosen so that a crash after any step loses nothing that was acknowledged: at every moment both files, or after
the step that decides (`decides`) the moved one, can be reached by a lookup:

1. A linkto file under the *old* name on `dh`, which the last rename there turns into the one for the new name.
   It replaces whatever is there atomically: a linkto of the file that is replaced, or that file itself.
2. When the new name's data is elsewhere, a hard link old -> new on `sc`: until step 3 nothing points to it.
3. The rename that decides: on `sc` itself when the replaced data lies there too (or the name hashes there), else on `dh`.
4. What is left over: the old name on `sc`, its linkto on `sh`, the replaced data on `dc`.

Until step 3 every step can be taken back (`undo`).  After it, failures leave names that lookups clean up.

Differs from GlusterFS in one case, sc = dc and dh elsewhere: it unlinks the linkto of the new name first and makes
another one afterwards; a crash between leaves a file that only a search everywhere finds.  Here it is replaced.  Both end in the same bytes.

Source: GlusterFS `dht-rename.c` (design facts, section 6).  Pure.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Kind", "Step", "plan"]


class Kind(Enum):
    """What a step does on its subvolume.  `OLD` and `NEW` say to which name."""

    LINKTO_OLD = "make a linkto file to sc under the old name; one that is there already will do"
    LINK_NEW = "hard-link the old name to the new one"
    RENAME = "rename old to new, replacing"
    UNLINK_OLD = "unlink the old name"
    UNLINK_OLD_LINKTO = "unlink the old name, if it is a linkto file"
    UNLINK_NEW = "unlink the new name again"
    UNLINK_REPLACED = "unlink the replaced file"


class Step(NamedTuple):
    kind: Kind
    place: int
    # The rename has happened once this is done.  A failure up to here fails it, after taking back what was done; a later one does not.
    decides: bool = False
    undo: Kind | None = None  # how to take it back


def plan(sh: int, sc: int, dh: int, dc: int | None) -> list[Step]:
    """The steps that rename a file; see the theory above for the names."""
    steps: list[Step] = []
    if dh != sc:
        # Where the old name's own linkto must be (dh == sh) it is only made sure of, and must not be taken back.
        steps.append(Step(Kind.LINKTO_OLD, dh, undo=None if dh == sh else Kind.UNLINK_OLD_LINKTO))
    if sc == dc:
        steps.append(Step(Kind.RENAME, sc, decides=True))
        if dh != sc:
            steps.append(Step(Kind.RENAME, dh))
    elif dh == sc:
        steps.append(Step(Kind.RENAME, sc, decides=True))
    else:
        steps.append(Step(Kind.LINK_NEW, sc, undo=Kind.UNLINK_NEW))
        steps.append(Step(Kind.RENAME, dh, decides=True))
        steps.append(Step(Kind.UNLINK_OLD, sc))
    if sh not in (sc, dh):
        steps.append(Step(Kind.UNLINK_OLD_LINKTO, sh))
    if dc is not None and dc not in (sc, dh):
        steps.append(Step(Kind.UNLINK_REPLACED, dc))
    return steps
