"""How full the subvolumes are: who may take new files, who has most room, how large each is.

Pure functions on statvfs results, and `Space`, which remembers the last results for a second: one create in a thousand asks.

A subvolume is *filled* when it has less free space than `min-free-disk` or fewer free inodes than `min-free-inodes`.
Percentages are whole numbers, rounded down, as GlusterFS computes them: 9.9 % free is 9 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fusemux.graph.framework.types import StatVfs

__all__ = ["REFRESH_S", "Limits", "Space", "chunks", "filled", "most_free", "total"]

REFRESH_S = 1.0
_CHUNK = 1 << 20

Limits = tuple[tuple[str, float], float]  # min-free-disk as ("percent" | "size", value), min-free-inodes in percent


def _percent(part: int, whole: int) -> int:
    return part * 100 // whole if whole > 0 else 100


def filled(stat: StatVfs, limits: Limits) -> bool:
    """Whether a subvolume shall get no new files."""
    (kind, least), least_inodes = limits
    free = _percent(stat.bavail, stat.blocks) if kind == "percent" else stat.bavail * stat.frsize
    return free < least or _percent(stat.ffree, stat.files) < least_inodes


def most_free(stats: Sequence[StatVfs | None], usable: Iterable[int], limits: Limits) -> int | None:
    """The subvolume of `usable` with most room, by the measure of min-free-disk; filled ones only when all are."""
    best: tuple[bool, int, int] | None = None
    for place in usable:
        stat = stats[place]
        if stat is None or (stat.files and not stat.ffree):
            continue
        room = _percent(stat.bavail, stat.blocks) if limits[0][0] == "percent" else stat.bavail * stat.frsize
        rank = (not filled(stat, limits), room, -place)
        if best is None or rank > best:
            best = rank
    return None if best is None else -best[2]


def chunks(stat: StatVfs | None) -> int:
    """The size of a subvolume in MiB, rounded up; 0 when it is not known.  The weight of its share in new layouts."""
    if stat is None:
        return 0
    per_chunk = max(1, _CHUNK // max(1, stat.bsize))
    return -(-stat.blocks // per_chunk)


def total(stats: Iterable[StatVfs]) -> StatVfs | None:
    """One file system out of several; None out of none.  Counts are converted to the largest block size."""
    known = list(stats)
    if not known:
        return None
    unit = max(stat.frsize or 1 for stat in known)

    def blocks(field: str) -> int:
        return sum(getattr(stat, field) * (stat.frsize or 1) // unit for stat in known)

    return StatVfs(
        bsize=max(stat.bsize for stat in known),
        frsize=unit,
        blocks=blocks("blocks"),
        bfree=blocks("bfree"),
        bavail=blocks("bavail"),
        files=sum(stat.files for stat in known),
        ffree=sum(stat.ffree for stat in known),
        favail=sum(stat.favail for stat in known),
        namemax=min(stat.namemax for stat in known),
    )


class Space:
    """What is known of all subvolumes until `expires` (on the caller's clock)."""

    def __init__(self) -> None:
        self.expires = float("-inf")
        self.stats: list[StatVfs | None] = []
        self.filled: list[bool] = []

    def learn(self, stats: list[StatVfs | None], limits: Limits, now: float) -> None:
        """Take new results; None for a subvolume that did not answer."""
        self.stats = stats
        self.filled = [stat is not None and filled(stat, limits) for stat in stats]
        self.expires = now + REFRESH_S

    def forget(self) -> None:
        """Ask again at the next use: a limit changed, or a subvolume turned out to be full."""
        self.expires = float("-inf")
