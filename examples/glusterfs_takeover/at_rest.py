"""What must hold of bricks at rest: copies alike, nothing pending, and a `.glusterfs` that tells no lies.

The rules are the on-disk format's, whoever wrote it: every object has a gfid and a handle (a hard link, for directories a
symbolic link to their place), every name of a file has its gfid2path, no handle is left over, and the indices are empty.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import uuid
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import xxhash

__all__ = ["Times", "check_copies", "check_handles", "check_pending", "index_entries"]

_GFID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ROOT = str(uuid.UUID(int=1))
_ARBITERS_OWN = frozenset(("size", "content", "trusted.glusterfs.mdata"))
_PARKING = ".glusterfs-anonymous-inode-"


def _walk(brick: Path) -> Iterator[Path]:
    """All objects but `.glusterfs` and the hidden directory of healers; the brick's root first."""
    yield brick
    for folder, folders, files in os.walk(brick):
        if folder == str(brick):
            folders[:] = [name for name in folders if name != ".glusterfs" and not name.startswith(_PARKING)]
        for name in (*folders, *files):
            yield Path(folder, name)


def _xattrs(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}


def _gfid(path: Path) -> str:
    try:
        return str(uuid.UUID(bytes=os.getxattr(path, "trusted.gfid", follow_symlinks=False)))
    except OSError:
        return ""


# -- copies ------------------------------------------------------------------------------------------------------


class Times(Enum):
    """Which of the stored times must be equal on all copies.  Healed access times never are."""

    ALL = "modified and changed, of everything"
    MODIFIED = "modified, of everything"
    OF_FILES = "modified, of files"


def check_copies(bricks: list[Path], times: Times, exact: str, *, arbiter: bool) -> list[str]:
    """How the copies of one set differ; below the directory `exact` in no time at all.

    With `arbiter` the last one keeps no contents: its files are empty, and their times its own.
    """
    trees = [{str(path.relative_to(brick)): path for path in _walk(brick)} for brick in bricks]
    problems = []
    for name in sorted(set().union(*trees)):
        missing = [brick.name for brick, tree in zip(bricks, trees, strict=True) if name not in tree]
        if missing:
            problems.append(f"{name}: is not on {', '.join(missing)}")
            continue
        compared = Times.ALL if name.split("/")[0] == exact else times
        first, *others = (_copy(tree[name], compared) for tree in trees)
        for brick, other in zip(bricks[1:], others, strict=True):
            own = _ARBITERS_OWN if arbiter and brick == bricks[-1] else frozenset()
            if own and other.get("size") and "target" not in other:
                problems.append(f"{name}: the arbiter {brick.name} keeps {other['size']} bytes")
            for key in sorted((first.keys() | other.keys()) - own):
                if first.get(key) != other.get(key):
                    problems.append(
                        f"{name}: {key} on {bricks[0].name} {first.get(key)!r}, on {brick.name} {other.get(key)!r}"
                    )
    return problems


def _copy(path: Path, times: Times) -> dict[str, object]:
    status = os.lstat(path)
    seen: dict[str, object] = {
        "mode": oct(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "rdev": status.st_rdev,
    }
    if not stat.S_ISDIR(status.st_mode):
        seen |= {"links": status.st_nlink, "size": status.st_size}
    if stat.S_ISREG(status.st_mode):
        seen["content"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if stat.S_ISLNK(status.st_mode):
        seen["target"] = os.readlink(path)
    for name, value in _xattrs(path).items():
        if name == "trusted.glusterfs.mdata":  # version and flags, ctime, mtime, atime
            if times is not Times.OF_FILES or not stat.S_ISDIR(status.st_mode):
                seen[name] = (value[:9] + value[9 if times is Times.ALL else 25 : 41]).hex()
        elif not name.startswith("trusted.afr."):
            seen[name] = value
    return seen


# -- nothing pending ---------------------------------------------------------------------------------------------


def check_pending(brick: Path) -> list[str]:
    """Accusations, dirty marks and index entries that are left."""
    problems = []
    for path in _walk(brick):
        for name, value in _xattrs(path).items():
            if name.startswith("trusted.afr.") and any(value):
                problems.append(f"{brick.name}/{path.relative_to(brick)}: {name} is {value.hex()}")
    return problems + [f"{brick.name}: index {entry} is left" for entry in index_entries(brick)]


def index_entries(brick: Path) -> list[str]:
    """What the indices list, as KIND/GFID or entry-changes/GFID/NAME."""
    base = brick / ".glusterfs/indices"
    found = [f"{kind}/{name}" for kind in ("xattrop", "dirty") for name in _names(base / kind) if _GFID.fullmatch(name)]
    for gfid in _names(base / "entry-changes"):
        if _GFID.fullmatch(gfid):
            found += [f"entry-changes/{gfid}/{name}" for name in _names(base / "entry-changes" / gfid)]
    return sorted(found)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


# -- handles -----------------------------------------------------------------------------------------------------


def check_handles(brick: Path) -> list[str]:
    """What is wrong with gfids, handles, link counts and gfid2path.

    Removed directories that wait in the landfill are no fault, nor are handles of what they held: GlusterFS leaves both.
    """
    problems: list[str] = []
    names: Counter[str] = Counter()
    known = {_ROOT, *map(_gfid, _removed(brick))}
    for path in _walk(brick):
        where, gfid = f"{brick.name}/{path.relative_to(brick)}", _gfid(path)
        if not gfid:
            problems.append(f"{where}: has no gfid")
            continue
        known.add(gfid)
        if path != brick:
            names[gfid] += 1
            problems += [f"{where}: {problem}" for problem in _handle_problems(brick, path, gfid)]
    for folder in sorted((brick / ".glusterfs").glob("[0-9a-f][0-9a-f]")):
        if stat.S_IMODE(folder.stat().st_mode) != 0o700:
            problems.append(f"{brick.name}: {folder.name} has mode {oct(folder.stat().st_mode)}")
        for handle in folder.glob("*/*"):
            problems += [f"{brick.name}: {problem}" for problem in _stray_problems(handle, known, names[handle.name])]
    left = _names(brick / ".glusterfs/unlink")
    return problems + [f"{brick.name}: {name} was unlinked, but is left" for name in left]


def _stray_problems(handle: Path, known: set[str], names: int) -> list[str]:
    """What is wrong with a handle, given how many names were found for it."""
    if handle.name not in known:
        return [] if _is_hidden(handle) or _leads_nowhere(handle) else [f"the handle {handle.name} belongs to nothing"]
    of_directory = handle.is_symlink() and os.readlink(handle).startswith("../../")
    links = os.lstat(handle).st_nlink
    if names and not of_directory and links != names + 1:
        return [f"{handle.name} has {names} names, but {links} links"]
    return []


def _is_hidden(handle: Path) -> bool:
    """The handle of the healers' hidden directory."""
    return handle.is_symlink() and _PARKING in os.readlink(handle)


def _removed(brick: Path) -> Iterator[Path]:
    """What waits to be deleted."""
    for folder, folders, files in os.walk(brick / ".glusterfs/landfill"):
        for name in (*folders, *files):
            yield Path(folder, name)


def _leads_nowhere(handle: Path) -> bool:
    """The handle of a directory that went with its parent."""
    return handle.is_symlink() and os.readlink(handle).startswith("../../") and not handle.exists()


def _handle_problems(brick: Path, path: Path, gfid: str) -> list[str]:
    handle = brick / ".glusterfs" / gfid[:2] / gfid[2:4] / gfid
    parent = _ROOT if path.parent == brick else _gfid(path.parent)
    if not os.path.lexists(handle):
        return [f"has no handle {gfid}"]
    if path.is_dir() and not path.is_symlink():
        right = f"../../{parent[:2]}/{parent[2:4]}/{parent}/{path.name}"
        is_right = handle.is_symlink() and os.readlink(handle) == right
        return [] if is_right else [f"its handle {gfid} does not lead to it"]
    problems = [] if os.path.samestat(os.lstat(handle), os.lstat(path)) else [f"its handle {gfid} is another inode"]
    text = f"{parent}/".encode() + os.fsencode(path.name)
    key = f"trusted.gfid2path.{xxhash.xxh64_hexdigest(text)}"
    values = {name: value for name, value in _xattrs(path).items() if name.startswith("trusted.gfid2path.")}
    if values.get(key) != text:
        problems.append(f"has no {key} for this name, but {values}")
    elif len(values) != os.lstat(path).st_nlink - 1:
        problems.append(f"has {len(values)} gfid2path for {os.lstat(path).st_nlink - 1} names")
    return problems
