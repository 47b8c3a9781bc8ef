"""Other bricks for a volume that is there: one replaced, copies or whole sets added, copies removed.

    replace-brick VOLUME OLD NEW [commit [force]]            NEW takes OLD's place and number
    add-brick VOLUME [replica N [arbiter 1]] BRICK... [force]
        a higher N: one new brick (or N - old N) for each set, in the order of the sets, at its end
        the same N, or none: whole new sets
    remove-brick VOLUME replica N BRICK... force             a lower N: from each set as many bricks as it becomes smaller

A brick is known to the others by its number, the N of VOL-client-N, and keeps it as long as it is in the volume.  New bricks
get numbers after the highest one.  `Rebricking` says what two definitions of one volume differ in.

Source: gluster(8); GlusterFS's glusterd (add_brick_at_right_order, glusterd_get_next_available_brickid).  Pure but for the
working directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from fusemux.graph.framework.options import nearest
from fusemux.volume.definition import BrickSpec, Volume, VolumeError, validate

__all__ = [
    "AddWords", "Rebricking", "RemoveWords", "added", "brick_index", "read_add", "read_remove", "read_replace", "removed",
    "replaced",
]  # fmt: skip


class Rebricking(NamedTuple):
    """How the bricks of a volume become those of another definition of it; places are those in `old` and `new`."""

    old: Volume
    new: Volume
    replaced: tuple[tuple[int, int], ...]  # (place in old, place in new)
    added: tuple[int, ...]  # places in new
    removed: tuple[int, ...]  # places in old

    @classmethod
    def of(cls, old: Volume, new: Volume) -> Rebricking:
        before = {old.number(i): i for i in range(len(old.bricks))}
        after = {new.number(i): i for i in range(len(new.bricks))}
        both = sorted(before.keys() & after.keys())
        return cls(
            old, new,
            tuple((before[n], after[n]) for n in both if old.bricks[before[n]].path != new.bricks[after[n]].path),
            tuple(after[n] for n in sorted(after.keys() - before.keys())),
            tuple(before[n] for n in sorted(before.keys() - after.keys())),
        )  # fmt: skip

    @property
    def fresh(self) -> tuple[int, ...]:
        """The places in `new` whose bricks are empty and must be healed from copies of theirs."""
        widened = self.added if self.new.set_size > self.old.set_size else ()
        return tuple(after for _, after in self.replaced) + widened


def brick_index(volume: Volume, word: str) -> int:
    """The brick that HOST:/path, a path or a number means.  Raises VolumeError."""
    path = word.partition(":")[2] if ":/" in word else word
    for index, brick in enumerate(volume.bricks):
        if brick.path in (path, os.path.abspath(path)) or path == str(index):
            return index
    known = [brick.path for brick in volume.bricks]
    raise VolumeError(
        f"volume {volume.name!r} has no brick {word}{nearest(path, known)}; `fusemux volume info {volume.name}` lists them"
    )


# -- words ---------------------------------------------------------------------------------------------------------


class AddWords(NamedTuple):
    replica: int | None
    arbiter: int
    bricks: tuple[str, ...]
    force: bool


class RemoveWords(NamedTuple):
    replica: int
    bricks: tuple[str, ...]


def read_replace(name: str, words: Sequence[str]) -> bool:
    """What follows OLD and NEW: nothing, `commit` or `commit force`; whether to force.  Raises VolumeError."""
    if list(words) in ([], ["commit"], ["commit", "force"], ["force"]):
        return "force" in words
    if words[0] in ("start", "pause", "abort", "status"):
        raise VolumeError(
            f"volume {name!r}: replace-brick has no {words[0]!r}: the new brick is put in at once and healed; leave it out"
        )
    raise VolumeError(f"volume {name!r}: cannot read {' '.join(words)!r}; after the bricks may stand 'commit force'")


def read_add(name: str, words: Sequence[str]) -> AddWords:
    """Raises VolumeError."""
    rest = list(words)
    force = rest[-1:] == ["force"]
    if force:
        rest.pop()
    if rest[:1] in (["disperse"], ["stripe"], ["disperse-data"], ["redundancy"]):
        raise VolumeError(f"volume {name!r}: the {rest[0]} count of a volume cannot be changed; leave it out")
    replica = _count(name, "replica", rest)
    if replica is None and rest[:1] == ["arbiter"]:
        raise VolumeError(f"volume {name!r}: 'arbiter' needs 'replica' before it: 'replica 3 arbiter 1'")
    arbiter = _count(name, "arbiter", rest) if replica is not None else None
    if not rest:
        raise VolumeError(f"volume {name!r}: which bricks are to be added? name them after the counts")
    return AddWords(replica, arbiter or 0, tuple(rest), force)


def read_remove(name: str, words: Sequence[str]) -> RemoveWords:
    """Raises VolumeError."""
    rest = list(words)
    if rest[-1:] in (["start"], ["stop"], ["status"], ["commit"]):
        raise VolumeError(
            f"volume {name!r}: moving files off bricks ({rest[-1]}) is not there; only copies can be removed: "
            f"remove-brick {name} replica N BRICK... force"
        )
    if rest[-1:] == ["force"]:
        rest.pop()
    else:
        raise VolumeError(
            f"volume {name!r}: the bricks leave the volume at once, with what is on them; confirm it with 'force'"
        )
    replica = _count(name, "replica", rest)
    if replica is None:
        raise VolumeError(
            f"volume {name!r}: removing whole sets would lose their files, and moving them elsewhere is not there; "
            "to remove copies say 'replica N', the new number of copies, before the bricks"
        )
    if not rest:
        raise VolumeError(f"volume {name!r}: which bricks are to be removed? name them after 'replica {replica}'")
    return RemoveWords(replica, tuple(rest))


def _count(name: str, word: str, words: list[str]) -> int | None:
    """Take `word N` off the front."""
    if words[:1] != [word]:
        return None
    text = words[1] if len(words) > 1 else ""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise VolumeError(
            f"volume {name!r}: {word!r} needs a number after it, such as '{word} 2'; got {text or 'nothing'!r}"
        )
    del words[:2]
    return int(text)


# -- definitions ---------------------------------------------------------------------------------------------------


def replaced(volume: Volume, index: int, brick: BrickSpec) -> Volume:
    """`brick` in the place of brick `index`.  Raises VolumeError."""
    if volume.replica < 2:
        raise VolumeError(
            f"volume {volume.name!r} is not replicated: nobody has a copy of what is on {volume.bricks[index]}, "
            "so it cannot be replaced; `fusemux volume add-brick` with 'replica 2' makes copies"
        )
    _refuse_known(volume, [brick])
    bricks = (*volume.bricks[:index], brick, *volume.bricks[index + 1 :])
    return _checked(replace(volume, bricks=bricks))


def added(volume: Volume, words: AddWords, spec: Callable[[str, int], BrickSpec]) -> Volume:
    """More copies, or more sets; `spec(word, number)` is the brick that a word means.  Raises VolumeError."""
    first = max(volume.number(i) for i in range(len(volume.bricks))) + 1
    bricks = [spec(word, first + i) for i, word in enumerate(words.bricks)]
    _refuse_known(volume, bricks)
    replica = words.replica or volume.replica
    if (replica, words.arbiter) == (2, 1):
        replica = 3  # the other way to say it
    if words.replica and volume.disperse:
        raise VolumeError(f"volume {volume.name!r} is dispersed, it has no copies; leave 'replica {words.replica}' out")
    if replica == volume.replica:
        return _more_sets(volume, words, bricks, first)
    return _more_copies(volume, replica, words.arbiter, bricks, first)


def _more_sets(volume: Volume, words: AddWords, bricks: list[BrickSpec], first: int) -> Volume:
    if words.arbiter and words.arbiter != volume.arbiter:
        raise VolumeError(
            f"volume {volume.name!r} has 3 full copies; an arbiter can only be added to one that has 2 copies"
        )
    if len(bricks) % volume.set_size:
        size = volume.set_size
        kind = "disperse" if volume.disperse else "replica"
        raise VolumeError(
            f"volume {volume.name!r}: its sets have {size} bricks, so {size}, {2 * size}, ... bricks can be added, "
            f"got {len(bricks)}" + (f"; for more copies say '{kind} {size + 1}'" if kind == "replica" else "")
        )
    numbers = (*_numbers(volume), *range(first, first + len(bricks)))
    return _checked(_numbered(volume, (*volume.bricks, *bricks), numbers))


def _more_copies(volume: Volume, replica: int, arbiter: int, bricks: list[BrickSpec], first: int) -> Volume:
    name = volume.name
    if replica < volume.replica:
        raise VolumeError(
            f"volume {name!r} has {volume.replica} copies; fewer are had with "
            f"`fusemux volume remove-brick {name} replica {replica} BRICK... force`"
        )
    if volume.arbiter:
        raise VolumeError(
            f"volume {name!r} has an arbiter, and the count of such a volume cannot be raised; "
            f"remove the arbiter first: remove-brick {name} replica 2 BRICK... force"
        )
    if arbiter and (volume.replica, replica, arbiter) != (2, 3, 1):
        raise VolumeError(
            f"volume {name!r}: one arbiter can be added to 2 copies ('replica 3 arbiter 1'), "
            f"not {arbiter} to {volume.replica} for replica {replica}"
        )
    each = replica - volume.replica
    if len(bricks) != each * volume.sets:
        raise VolumeError(
            f"volume {name!r}: {replica} copies in place of {volume.replica} need {each} more for each of {volume.sets} "
            f"sets, {each * volume.sets} bricks, got {len(bricks)}"
        )
    widened: list[BrickSpec] = []
    numbers: list[int] = []
    for k in range(volume.sets):
        old, new = slice(k * volume.replica, (k + 1) * volume.replica), slice(k * each, (k + 1) * each)
        widened += [*volume.bricks[old], *bricks[new]]
        numbers += [*_numbers(volume)[old], *range(first, first + len(bricks))[new]]
    return _checked(_numbered(replace(volume, replica=replica, arbiter=arbiter), tuple(widened), tuple(numbers)))


def removed(volume: Volume, words: RemoveWords) -> Volume:
    """Fewer copies.  Raises VolumeError."""
    name, replica = volume.name, words.replica
    if replica >= volume.replica:
        raise VolumeError(
            f"volume {name!r} has {volume.replica} {'copies' if volume.replica > 1 else 'copy'}; 'replica {replica}' "
            "must be fewer" + ("" if volume.replica > 1 else ", and there are none")
        )
    gone = {brick_index(volume, word) for word in words.bricks}
    if len(gone) != len(words.bricks):
        raise VolumeError(f"volume {name!r}: a brick is named twice")
    _refuse_data_bricks(volume, replica, gone)
    each = volume.replica - replica
    for k in range(volume.sets):
        count = len(gone & set(range(k * volume.replica, (k + 1) * volume.replica)))
        if count != each:
            raise VolumeError(
                f"volume {name!r}: replica {replica} takes {each} of the bricks of each set, of set {k} "
                f"({', '.join(b.path for b in volume.bricks[k * volume.replica : (k + 1) * volume.replica])}) {count} are named"
            )
    kept = [i for i in range(len(volume.bricks)) if i not in gone]
    fewer = replace(volume, replica=replica, arbiter=0)
    return _checked(_numbered(fewer, tuple(volume.bricks[i] for i in kept), tuple(volume.number(i) for i in kept)))


def _refuse_data_bricks(volume: Volume, replica: int, gone: set[int]) -> None:
    if not volume.arbiter:
        return
    data = [volume.bricks[i].path for i in sorted(gone) if not volume.is_arbiter(i)]
    arbiters = " ".join(b.path for i, b in enumerate(volume.bricks) if volume.is_arbiter(i))
    if replica != 2 or data:
        raise VolumeError(
            f"volume {volume.name!r}: of a set with an arbiter only the arbiter can be removed"
            + (f", {data[0]} holds data" if data else "")
            + f"; write 'replica 2 {arbiters} force'"
        )


def _refuse_known(volume: Volume, bricks: Sequence[BrickSpec]) -> None:
    known = {brick.path for brick in volume.bricks}
    for brick in bricks:
        if brick.path in known:
            raise VolumeError(f"volume {volume.name!r} has the brick {brick.path} already; give another directory")


def _numbers(volume: Volume) -> tuple[int, ...]:
    return tuple(volume.number(i) for i in range(len(volume.bricks)))


def _numbered(volume: Volume, bricks: tuple[BrickSpec, ...], numbers: tuple[int, ...]) -> Volume:
    return replace(volume, bricks=bricks, numbers=() if numbers == tuple(range(len(bricks))) else numbers)


def _checked(volume: Volume) -> Volume:
    validate(volume)
    return volume
