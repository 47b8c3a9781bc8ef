"""The options of cluster/distribute, and what they say about a rebalance.

Names and defaults are GlusterFS's (design facts, section 11); `key` is the name that `volume set` knows.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import NamedTuple

from fusemux.graph.cluster.distribute.hash import munger
from fusemux.graph.framework.errors import OptionError
from fusemux.graph.framework.options import Option

__all__ = ["OPTIONS", "RebalanceSettings", "check"]

_YES = ("on", "yes", "true", "enable", "1")
_NO = ("off", "no", "false", "disable", "0")

OPTIONS = (
    Option("lookup-unhashed", "enum", "on",
           "Search a name that is not where its hash says on all subvolumes; auto: only in directories that do not "
           "span all of them. Counts when lookup-optimize is off.",
           key="cluster.lookup-unhashed", choices=(*_YES, *_NO, "auto")),
    Option("lookup-optimize", "bool", "on",
           "Do not search a name everywhere in directories whose commit hash is that of the volume.",
           key="cluster.lookup-optimize"),
    Option("rmdir-optimize", "bool", "on",
           "When a directory is removed, take its linkto files for stale without looking where they point to: all subvolumes are "
           "listed anyway, and the files themselves would be found.",
           key="cluster.rmdir-optimize"),
    Option("min-free-disk", "percent-or-size", "10%",
           "A subvolume with less free space gets no new files while another has more.", key="cluster.min-free-disk"),
    Option("min-free-inodes", "percent", "5%",
           "A subvolume with fewer free inodes gets no new files while another has more.", key="cluster.min-free-inodes"),
    Option("unhashed-sticky-bit", "bool", "off", "Show the sticky bit on files that are not where their names hash."),
    Option("use-readdirp", "bool", "on",
           "Ask the subvolumes for attributes along with names; off: file by file, for those that may be linkto files.",
           key="dht.force-readdirp"),
    Option("assert-no-child-down", "bool", "off", "One subvolume down takes the whole volume down."),
    Option("directory-layout-spread", "int", None, "New directories use at most so many subvolumes.",
           key="cluster.subvols-per-directory", low=1),
    Option("decommissioned-bricks", "list", None, "Subvolumes that get nothing new, because they will be removed."),
    Option("rebalance-stats", "bool", "off", "Measure how long a rebalance takes for each file.",
           key="cluster.rebalance-stats"),
    Option("readdir-optimize", "bool", "off", "List directories only from the first subvolume that is up.",
           key="cluster.readdir-optimize"),
    Option("rsync-hash-regex", "str", None,
           r"Names that match are hashed as the first group; unset: ^\.(.+)\.[^.]+$, rsync's temporary names; none: off.",
           key="cluster.rsync-hash-regex"),
    Option("extra-hash-regex", "str", None, "The same, tried before rsync-hash-regex.", key="cluster.extra-hash-regex"),
    Option("weighted-rebalance", "bool", "on", "Give larger subvolumes larger shares of new layouts.",
           key="cluster.weighted-rebalance"),
    Option("randomize-hash-range-by-gfid", "bool", "off",
           "Rotate the shares of a directory by its gfid instead of its path.", key="cluster.randomize-hash-range-by-gfid"),
    Option("rebal-throttle", "enum", "normal", "How many files a rebalance moves at a time.",
           key="cluster.rebal-throttle", choices=("lazy", "normal", "aggressive")),
    Option("lock-migration", "bool", "off", "A rebalance moves files on which record locks are held, with the locks.",
           key="cluster.lock-migration"),
    Option("force-migration", "bool", "off", "A rebalance moves files that are being written.",
           key="cluster.force-migration"),
    Option("ensure-durability", "bool", "on", "A rebalance syncs a file before the original is removed.",
           key="rebalance.ensure-durability"),
    Option("xattr-name", "str", "trusted.glusterfs.dht",
           "The xattr of a directory's share; others are named after it. A volume with data must keep it.",
           key="cluster.dht-xattr-name", live=False),
)  # fmt: skip


class RebalanceSettings(NamedTuple):
    """What a rebalance shall do, as the options have it now."""

    files_at_once: int
    with_locks: bool
    with_writers: bool
    syncing: bool
    measuring: bool

    @classmethod
    def of(cls, opt: SimpleNamespace, processors: int | None = None) -> RebalanceSettings:
        """GlusterFS: lazy moves 1 file at a time, normal at least 2, aggressive at least 4, else half of the processors
        beyond four."""
        half = ((os.cpu_count() or 1 if processors is None else processors) - 4) // 2
        at_once = {"lazy": 1, "normal": max(half, 2), "aggressive": max(half, 4)}[opt.rebal_throttle]
        return cls(at_once, opt.lock_migration, opt.force_migration, opt.ensure_durability, opt.rebalance_stats)


def check(opt: SimpleNamespace, names: list[str]) -> None:
    """What the rows cannot refuse by themselves.  Raises OptionError."""
    for option, pattern in (("rsync-hash-regex", opt.rsync_hash_regex), ("extra-hash-regex", opt.extra_hash_regex)):
        try:
            munger(pattern, None)
        except ValueError as error:
            raise OptionError(f"option {option} {pattern!r}: {error}") from None
    if not opt.xattr_name.startswith("trusted."):
        raise OptionError(f"option xattr-name {opt.xattr_name!r}: expected a name that begins with trusted.")
    for name in opt.decommissioned_bricks or ():
        if names and name not in names:
            raise OptionError(f"option decommissioned-bricks {name!r}: the subvolumes are {', '.join(names)}")


def searches(opt: SimpleNamespace) -> str:
    """lookup-unhashed as on, off or auto."""
    word: str = opt.lookup_unhashed
    return "on" if word in _YES else "off" if word in _NO else word
