"""The SPEC of a mount: a stored volume, a volfile, or a short form of a throw-away volume on ramdisks.

    web                         a stored volume (also localhost:/web, as GlusterFS writes it)
    ./web.vol                   a volfile: anything with a '/' in it, or that ends in .vol
    1   3   2x2   2x3           bricks; sets x copies
    4+2   2x(4+2)   3x4+2       data + redundancy fragments, and sets of them
    replica=3,size=256M         words instead: distribute, replica, arbiter, disperse, redundancy, size, name, and any
    disperse=4+2,name=web       volume option (cluster.min-free-disk=5%)

A stored volume is never hidden: its name cannot be a short form.  `read_spec` is pure but for one question: whether a
volume of that name is stored.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fusemux.graph.framework.options import nearest
from fusemux.volume.definition import BrickSpec, Volume, VolumeError, validate
from fusemux.volume.words import best_redundancy, default_options, ramdisk_bytes

__all__ = ["ShortForm", "StoredName", "VolfilePath", "read_short", "read_spec"]

_SHAPE = re.compile(r"(?:(?P<sets>\d+)x)?(?:\((?P<a>\d+)\+(?P<b>\d+)\)|(?P<k>\d+)\+(?P<m>\d+)|(?P<n>\d+))")
_WORDS = ("distribute", "replica", "arbiter", "disperse", "redundancy", "size", "name")
BRICKS_MAX = 1024


@dataclass(frozen=True)
class StoredName:
    name: str


@dataclass(frozen=True)
class VolfilePath:
    path: Path


@dataclass(frozen=True)
class ShortForm:
    volume: Volume  # throw-away, all bricks on ramdisks


def read_spec(text: str, ramdisks: Path, is_stored: Callable[[str], bool]) -> StoredName | VolfilePath | ShortForm:
    """What `text` names.  `ramdisks` is where the ramdisks of throw-away volumes are to be mounted.

    Raises VolumeError, which says what a SPEC may be.
    """
    if not text:
        raise VolumeError("the SPEC is empty; give a stored volume, a volfile, or a short form such as 2x2")
    name = re.sub(r"^(?:localhost|127\.0\.0\.1):/?(?=[^/]+$)", "", text)
    if is_stored(name):
        return StoredName(name)
    if "=" not in text.partition(",")[0] and ("/" in text or text.endswith(".vol")):
        if name != text:
            raise VolumeError(f"there is no volume {name!r}; `fusemux volume list` shows what there is")
        return VolfilePath(Path(text).absolute())
    if "=" in text or "," in text or _SHAPE.fullmatch(text):
        return ShortForm(read_short(text, ramdisks))
    raise VolumeError(
        f"there is no volume {text!r}; give a stored volume (`fusemux volume list`), "
        "the path of a volfile, or a short form such as 2x2, 4+2 or replica=3,size=256M"
    )


def read_short(text: str, ramdisks: Path) -> Volume:
    """The throw-away volume of a short form.  Raises VolumeError."""
    words: dict[str, str] = {}
    options: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = item.partition("=")
        if not equals:
            _put(words, "shape", key, text)
        elif "." in key:
            _put(options, key, value, text)
        elif key in _WORDS:
            _put(words, key, value, text)
        else:
            raise VolumeError(
                f"short form {text!r}: unknown word {key!r}{nearest(key, _WORDS)}; known are {', '.join(_WORDS)}"
            )
    name = words.pop("name", None) or f"tmp-{secrets.token_hex(4)}"
    size = ramdisk_bytes(words.pop("size", ""))
    volume = _shaped(text, name, words)
    bricks = tuple(BrickSpec(str(ramdisks / name / f"b{i}"), size) for i in range(len(volume.bricks)))
    volume = replace(volume, bricks=bricks, options={**default_options(volume.replica > 1), **options}, throwaway=True)
    validate(volume)
    return volume


def _put(into: dict[str, str], key: str, value: str, text: str) -> None:
    if key in into:
        raise VolumeError(f"short form {text!r}: {key!r} is given twice")
    into[key] = value


def _shaped(text: str, name: str, words: dict[str, str]) -> Volume:
    """The volume with placeholders for bricks."""
    shape = words.pop("shape", None)
    if shape is not None:
        match = _SHAPE.fullmatch(shape)
        if match is None:
            raise VolumeError(f"short form {text!r}: {shape!r} is no shape; shapes are 3, 2x2, 4+2, 2x(4+2)")
        given = {"replica", "arbiter", "disperse", "redundancy", "distribute"} & words.keys()
        if given - {"arbiter"}:
            raise VolumeError(f"short form {text!r}: {shape!r} and {min(given)} say the same thing; use one of them")
        sets, replica, disperse, redundancy = _from_shape(match)
        return _counted(text, name, sets, replica, _number(text, words, "arbiter", 0), disperse, redundancy)
    arbiter = _number(text, words, "arbiter", 0)
    replica = _number(text, words, "replica", 1)
    disperse, redundancy = _disperse(text, words)
    return _counted(text, name, _number(text, words, "distribute", 1), replica, arbiter, disperse, redundancy)


def _from_shape(match: re.Match[str]) -> tuple[int, int, int, int]:
    sets = int(match["sets"] or 1)
    data, spare = match["a"] or match["k"], match["b"] or match["m"]
    if data is not None:
        return sets, 1, int(data) + int(spare), int(spare)
    count = int(match["n"])
    return (sets, count, 0, 0) if match["sets"] else (count, 1, 0, 0)


def _disperse(text: str, words: dict[str, str]) -> tuple[int, int]:
    value = words.get("disperse")
    redundancy = _number(text, words, "redundancy", 0)
    if value is None:
        return (0, redundancy)
    data, plus, spare = value.partition("+")
    if plus:
        if redundancy or not (data.isdigit() and spare.isdigit()):
            raise VolumeError(f"short form {text!r}: disperse={value} is not understood; write disperse=4+2")
        return int(data) + int(spare), int(spare)
    count = _number(text, words, "disperse", 0)
    return count, redundancy or best_redundancy(count)


def _number(text: str, words: dict[str, str], key: str, default: int) -> int:
    value = words.get(key)
    if value is None:
        return default
    if not value.isdigit():
        raise VolumeError(f"short form {text!r}: {key}={value} needs a number, such as {key}=2")
    return int(value)


def _counted(text: str, name: str, sets: int, replica: int, arbiter: int, disperse: int, redundancy: int) -> Volume:
    if (replica, arbiter) == (2, 1):
        replica = 3
    count = sets * (disperse or replica)
    if not 1 <= count <= BRICKS_MAX:
        raise VolumeError(f"short form {text!r}: {count} bricks; a volume has 1 to {BRICKS_MAX}")
    bricks = tuple(BrickSpec(f"/{i}") for i in range(count))
    return Volume(name, bricks, replica=replica, arbiter=arbiter, disperse=disperse, redundancy=redundancy)
