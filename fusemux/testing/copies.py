"""Whether the copies of a replicated volume are equal: every name, attribute, xattr and byte, as they lie on the bricks.

Not compared: the changelog (`trusted.afr.*`), which accuses others and is therefore each brick's own; what GlusterFS keeps
in `.glusterfs`; access times; contents, sizes and times on an arbiter, which sees no write; directories' sizes.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Comparison", "compare", "tree"]

SHOWN = 20
_OF_CONTENTS = ("size", "content", "xattr trusted.glusterfs.mdata", "xattr user.fusemux.trusted.glusterfs.mdata")
_WITHOUT_ATIME = -16  # of the recorded times: reads go to one copy, and only that one knows of them


class Comparison:
    """True when all copies are equal; else it says where they are not, by its `repr` and in `differences`."""

    def __init__(self, differences: Sequence[str]) -> None:
        self.differences = list(differences)

    def __bool__(self) -> bool:
        return not self.differences

    def __repr__(self) -> str:
        if not self.differences:
            return "<identical>"
        more = len(self.differences) - SHOWN
        lines = self.differences[:SHOWN] + ([f"... and {more} more"] if more > 0 else [])
        return "<different:\n" + "\n".join(lines) + ">"


def compare(sets: Sequence[tuple[Sequence[Path], bool]]) -> Comparison:
    """Compare the bricks of each set; the last one of a set may be an arbiter."""
    differences: list[str] = []
    for bricks, arbiter in sets:
        trees = [tree(brick) for brick in bricks]
        for path in sorted({path for found in trees for path in found}):
            differences += _differing(path, [found.get(path) for found in trees], bricks, arbiter)
    return Comparison(differences)


def _differing(path: str, shapes: list[dict[str, Any] | None], bricks: Sequence[Path], arbiter: bool) -> Iterator[str]:
    there = [brick.name for brick, shape in zip(bricks, shapes, strict=True) if shape is not None]
    if len(there) < len(bricks):
        missing = [brick.name for brick, shape in zip(bricks, shapes, strict=True) if shape is None]
        yield f"{path}: on {', '.join(there)}, but not on {', '.join(missing)}"
    known = [(brick, shape) for brick, shape in zip(bricks, shapes, strict=True) if shape is not None]
    for key in sorted({key for _, shape in known for key in shape}):
        full = known[:-1] if arbiter and key.startswith(_OF_CONTENTS) and known[-1][0] == bricks[-1] else known
        values = [shape.get(key) for _, shape in full]
        if any(value != values[0] for value in values):
            yield f"{path}: {key}: " + ", ".join(f"{brick.name} {_shown(shape.get(key))}" for brick, shape in full)


def _shown(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)


def tree(brick: Path) -> dict[str, dict[str, Any]]:
    """What lies on a brick, by path."""
    found = {"/": _shape(brick)}
    for folder, folders, files in os.walk(brick):
        if folder == str(brick):
            folders.remove(".glusterfs")
        for name in (*folders, *files):
            where = Path(folder, name)
            found[f"/{where.relative_to(brick)}"] = _shape(where)
    return found


def _shape(where: Path) -> dict[str, Any]:
    st = os.lstat(where)
    shape: dict[str, Any] = {"mode": oct(st.st_mode), "owner": (st.st_uid, st.st_gid), "links": st.st_nlink}
    for name in os.listxattr(where, follow_symlinks=False):
        if ".afr." not in name:
            value = os.getxattr(where, name, follow_symlinks=False)
            shape[f"xattr {name}"] = value[:_WITHOUT_ATIME] if name.endswith(".glusterfs.mdata") else value
    if stat.S_ISREG(st.st_mode):
        shape["size"] = st.st_size
        with open(where, "rb") as file:
            shape["content"] = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(st.st_mode):
        shape["target"] = os.readlink(where)
    return shape
