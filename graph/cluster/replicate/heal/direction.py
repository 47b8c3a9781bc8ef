"""Which copies of an inode are good and which must be healed from them.  Pure.

`M[i][j]` counts the operations of one kind that copy i has seen and copy j missed (changelog.py); `dirty[i]` those begun on i
and not finished.  A copy that accuses itself (`M[i][i]`, left by version 1 of GlusterFS and by a wiped brick) is not
believed about others.  From that, with answers from all copies:

    sources     those accused by nobody who is believed
    sinks       those that a believed source accuses
    witness[i]  how much i knows of unfinished work: its dirty count, and its own counts where it accuses itself

A copy that is *suspected* (trust.py) is accused by all that are not, unless that left no source at all.

No source at all is *split-brain*: every copy misses something.  With a quorum rule, copies accused by fewer than a quorum still
count as sources then: a minority that recorded a failure of the majority has lost that argument.

What follows is decided for each kind by `data_plan`, `metadata_plan` and `entry_plan`; `Plan` says from where to where, or
that nobody can say.  Where nobody can, a *favourite* may: a policy or a command that picks one copy.

Source: GlusterFS cluster/afr (afr_selfheal_find_direction and the finalize_source functions); design facts, sections 8 and 10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fusemux.graph.cluster.replicate.changelog import DATA, ENTRY, METADATA, Counters, Keys
from fusemux.graph.framework.types import Iatt

__all__ = [
    "FAVOURITES", "Direction", "Favourite", "Marks", "Plan", "data_plan", "direction", "entry_plan", "favourite",
    "metadata_plan",
]  # fmt: skip

NONE = -1
Favourite = Callable[[Mapping[int, Iatt]], int | None]


class Marks(NamedTuple):
    """The changelog of one inode on all copies: `rows[i][j]`, and `dirty[i]`, each (data, metadata, entry).

    `suspects`: the set of copies that may lack something that no changelog tells.
    """

    rows: tuple[tuple[Counters, ...], ...]
    dirty: tuple[Counters, ...]
    suspects: int = 0

    @classmethod
    def of(cls, replies: Sequence[Iatt], keys: Keys) -> Marks:
        from fusemux.graph.cluster.replicate.changelog import unpack

        rows = tuple(tuple(keys.row(reply.xdata)) for reply in replies)
        return cls(rows, tuple(unpack((reply.xdata or {}).get(keys.dirty)) for reply in replies))

    @property
    def clean(self) -> bool:
        """Whether nothing at all is recorded."""
        return not any(any(counters) for row in (*self.rows, self.dirty) for counters in row)


class Direction(NamedTuple):
    sources: frozenset[int]
    sinks: frozenset[int]
    witness: tuple[int, ...]
    split_brain: bool


class Plan(NamedTuple):
    """Heal the `sinks` from `source`; with `split_brain` nobody can say from where.

    An entry plan without a source (-1) merges: every name that any of the `sources` has is made on all;
    without sources every name that any copy has.
    """

    source: int
    sinks: frozenset[int]
    sources: frozenset[int]
    split_brain: bool
    why: str


def direction(kind: int, marks: Marks, quorum: int) -> Direction:
    """Sources, sinks and witnesses.  `quorum`: how many copies make one, 0 without a quorum rule."""
    if marks.suspects:
        found = _directed(kind, marks, quorum, marks.suspects)
        if not found.split_brain:
            return found
    return _directed(kind, marks, quorum, 0)


def _directed(kind: int, marks: Marks, quorum: int, suspects: int) -> Direction:
    count = len(marks.rows)
    matrix = [
        [marks.rows[i][j][kind] or int(suspects >> j & 1 and not suspects >> i & 1) for j in range(count)]
        for i in range(count)
    ]
    everyone = range(count)
    fool = [matrix[i][i] != 0 for i in everyone]
    accused = [sum(1 for i in everyone if matrix[i][j] and not fool[i]) for j in everyone]
    sources = {j for j in everyone if not accused[j]}
    sinks = {j for i in sources if not fool[i] for j in everyone if matrix[i][j]}
    if not sources and kind != ENTRY:
        sources = {j for j in everyone if accused[j] < quorum}
    others = [any(matrix[i][j] for j in everyone if j != i) for i in everyone]
    witness = []
    for i in everyone:
        known = sum(matrix[i][j] for j in everyone if j != i) if fool[i] else 0
        if fool[i] and (others[i] or not any(others)):
            known += matrix[i][i]
        witness.append(known + marks.dirty[i][kind])
    if not sources:
        sinks = set(everyone)
    return Direction(frozenset(sources), frozenset(sinks), tuple(witness), not sources)


def data_plan(marks: Marks, replies: Sequence[Iatt], *, quorum: int, arbiter: int = NONE, pick: Favourite) -> Plan:
    """For the contents of a file.  `arbiter`: the copy without data; `pick` chooses in a split-brain."""
    found = direction(DATA, marks, quorum)
    everyone = frozenset(range(len(replies)))
    keepers = everyone - {arbiter}
    if found.split_brain or found.sinks == everyone:
        return _picked(replies, keepers, pick, same=all(replies[i].size == 0 for i in keepers))
    sources = found.sources
    sizes = {i: replies[i].size for i in sources & keepers}
    why = "the others are accused"
    if len(set(sizes.values())) > 1 or any(found.witness[i] for i in sources):
        sources, why = _likeliest(sources & keepers or sources, replies, found.witness)
        if arbiter in found.sources and arbiter in everyone and not sources - {arbiter}:
            sources = frozenset({arbiter})
    if not sources & keepers:
        return Plan(
            NONE, everyone - sources, sources, False, "only the arbiter is good: a data copy must come back first"
        )
    return Plan(min(sources & keepers), everyone - sources, sources, False, why)


def _likeliest(sources: frozenset[int], replies: Sequence[Iatt], witness: Sequence[int]) -> tuple[frozenset[int], str]:
    """Among copies that nobody accuses: the largest, of these the one that witnessed most, of these the newest.

    Of those that unfinished work has left alike in all of this one alone: their contents may still differ.
    """
    largest = max(replies[i].size for i in sources)
    left = frozenset(i for i in sources if replies[i].size == largest)
    most = max(witness[i] for i in left)
    if most:
        left = frozenset(i for i in left if witness[i] == most)
    newest = max(replies[i].mtime_ns for i in left)
    left = frozenset(i for i in left if replies[i].mtime_ns == newest)
    if most:
        left = frozenset({min(left)})
    return left, "unfinished work: the largest copy, then the one that witnessed most, then the newest"


def metadata_plan(
    marks: Marks, replies: Sequence[Iatt], alike: Sequence[object], *, quorum: int, arbiter: int = NONE, pick: Favourite
) -> Plan:
    """For owner, mode and xattrs.  `alike[i]` compares equal for copies whose metadata are the same."""
    found = direction(METADATA, marks, quorum)
    everyone = frozenset(range(len(replies)))
    if found.split_brain or found.sinks == everyone:
        same = all(value == alike[0] for value in alike)
        if not same and replies[0].is_dir and len({_shape(reply) for reply in replies}) == 1:
            newest = max(everyone, key=lambda i: replies[i].mtime_ns)
            return Plan(newest, everyone - {newest}, frozenset({newest}), False, "only times differ: the newest")
        return _picked(replies, everyone, pick, same=same)
    source = min(found.sources - {arbiter} or found.sources)
    sources = frozenset(i for i in found.sources if alike[i] == alike[source])
    return Plan(source, everyone - sources, sources, False, "the others are accused or differ")


def _shape(reply: Iatt) -> tuple[int, int, int]:
    return reply.mode, reply.uid, reply.gid


def entry_plan(marks: Marks, *, quorum: int, arbiter: int = NONE) -> Plan:
    """For the names of a directory.  Without a copy that is surely right, names are merged, none is removed.

    Those that are accused have no say in that: they would bring back what was removed while they were away.  But one that
    accuses itself and others (version 1 of GlusterFS in the middle of a change) may have names that nobody else has.
    """
    found = direction(ENTRY, marks, quorum)
    everyone = frozenset(range(len(marks.rows)))
    midway = any(found.witness[i] > marks.dirty[i][ENTRY] for i in everyone)
    if found.split_brain or found.sinks == everyone or midway:
        return Plan(NONE, everyone, frozenset(), False, "no copy is surely complete: names of all copies are kept")
    if any(found.witness[i] for i in found.sources):
        return Plan(NONE, everyone, found.sources, False, "unfinished work: names of all that nobody accuses are kept")
    if marks.suspects and found.sources != everyone:
        return Plan(NONE, everyone, found.sources, False, "the others are accused, or may have lost something")
    if not found.sinks:
        return Plan(NONE, everyone, everyone, False, "nobody is accused: names of all copies are kept")
    source = min(found.sources - {arbiter} or found.sources)
    return Plan(source, everyone - found.sources, found.sources, False, "the others are accused")


# -- split-brain ----------------------------------------------------------------------------------------------


def _picked(replies: Sequence[Iatt], candidates: frozenset[int], pick: Favourite, *, same: bool) -> Plan:
    everyone = frozenset(range(len(replies)))
    if same:
        source = min(candidates)
        return Plan(source, everyone - {source}, frozenset({source}), False, "all copies are the same")
    chosen = pick({i: replies[i] for i in candidates})
    if chosen is None:
        return Plan(NONE, everyone, frozenset(), True, "every copy is accused: split-brain")
    return Plan(chosen, everyone - {chosen}, frozenset({chosen}), False, "split-brain, resolved by choice")


def _only(values: Mapping[int, int]) -> int | None:
    """Whose value is the greatest; None when all are equal."""
    if len(set(values.values())) < 2:
        return None
    return max(sorted(values), key=lambda i: values[i])


def _majority(copies: Mapping[int, Iatt]) -> int | None:
    """Of copies with the same time and size; of different files under one name, of those with the same gfid."""
    files = len({copy.gfid for copy in copies.values()}) > 1
    looks = {i: (copy.gfid,) if files else (copy.mtime_ns, copy.size) for i, copy in copies.items()}
    (look, times), *_ = Counter(looks.values()).most_common(1)
    return min(i for i in looks if looks[i] == look) if 2 * times > len(looks) else None


# The policies of option favorite-child-policy, and what the resolving commands use.
FAVOURITES: dict[str, Favourite] = {
    "none": lambda copies: None,
    "size": lambda copies: _only({i: copy.size for i, copy in copies.items()}),
    "mtime": lambda copies: _only({i: copy.mtime_ns for i, copy in copies.items()}),
    "ctime": lambda copies: _only({i: copy.ctime_ns for i, copy in copies.items()}),
    "majority": _majority,
}


def favourite(copy: int) -> Favourite:
    """The choice of one copy, by command."""
    return lambda copies: copy if copy in copies else None
