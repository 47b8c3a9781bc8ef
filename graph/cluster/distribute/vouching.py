"""Whether a name that is not where its hash says can be elsewhere at all.

GlusterFS answers this by commit hashes: equal ones on directory and volume vouch that nothing is misplaced.  The root of a volume
never has it (its layout is written by a heal), nor has any directory whose layout was healed, until a rebalance.  There
each name that does not exist would cost a question to every subvolume.

So a small directory is looked through once: when every file is where its name hashes, or has a linkto file there, this process
vouches for it until it learns the directory anew.  What it does itself keeps to that rule.  Nothing is written: another
client sees the commit hash it always saw.
"""

from __future__ import annotations

import functools
import stat
from collections.abc import Callable, Mapping, Sequence

from fusemux.graph.cluster.distribute.base import internal
from fusemux.graph.cluster.distribute.directory import Directory
from fusemux.graph.cluster.distribute.heal import DirectoryHealing
from fusemux.graph.cluster.distribute.layout import Layout
from fusemux.graph.cluster.distribute.options import searches
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import DirEntry, Frame

__all__ = ["LOOKED_THROUGH", "Vouching", "all_at_home"]

LOOKED_THROUGH = 256  # entries on all subvolumes together, beyond which a directory is not looked through

# What a subvolume has under a name: a file, a directory, or (0 and above) a linkto file to that subvolume.
FILE, DIRECTORY = -1, -2
_NOBODY = 1 << 31


def all_at_home(layout: Layout, hash_of: Callable[[bytes], int], listed: Sequence[Mapping[bytes, int]]) -> bool:
    """Whether every name of `listed`, one mapping for each subvolume, is found from where it hashes.  Pure."""
    for place, names in enumerate(listed):
        for name, what in names.items():
            if what >= 0:
                continue
            home = layout.find(hash_of(name))
            if home < 0 or (home != place and listed[home].get(name) != (place if what == FILE else DIRECTORY)):
                return False
    return True


class Vouching(DirectoryHealing):
    async def may_be_elsewhere(self, frame: Frame, directory: Directory) -> bool:
        """Whether a name that was not found where it hashes to must be searched on all subvolumes."""
        if not self.optimizing:
            word = searches(self.opt)
            return word == "on" or (word == "auto" and not directory.layout.spans_all)
        if directory.layout.commit == self.volume_commit:
            return False
        if directory.vouched is None and all(self.up):
            directory.vouched = await self._look_through(internal(frame), directory)
        return not directory.vouched

    async def _look_through(self, frame: Frame, directory: Directory) -> bool:
        inode = self.table.learn(directory.gfid, stat.S_IFDIR)
        listed: list[dict[bytes, int]] = [{} for _ in self.children]
        room = LOOKED_THROUGH

        def note(place: int, entry: DirEntry) -> bool:
            nonlocal room
            room -= 1
            listed[place][entry.name] = self._what(entry)
            return room >= 0

        try:
            for place in range(len(self.children)):
                await self.visit(frame, place, inode, functools.partial(note, place))
        except FopError:
            return False
        return room >= 0 and all_at_home(directory.layout, self.hash_once, listed)

    def _what(self, entry: DirEntry) -> int:
        if entry.type == stat.S_IFDIR:
            return DIRECTORY
        target = None if entry.iatt is None else self.target_of(entry.iatt)
        return FILE if target is None else target if target >= 0 else _NOBODY
