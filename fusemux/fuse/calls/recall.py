"""What directories look like and which names they have not, from memory.

A kernel that checks permissions itself (`default_permissions`) asks for a directory's attributes after every change of its
entries: two to four of the ten requests of a file's life, by far the most where many work in one directory.  But such a change
sets nothing but two times, and to which value is known.  And before it makes a file it asks whether the name exists, for
names that nobody has ever used; what a directory made here holds is known, and one in which names are looked up in vain
again and again is read once.  So both are answered from here, where nobody but this bridge changes the volume and the graph
allows it (`Translator.recalls`); everything else that may change a directory, also what the graph reports (heals) and what
fails (perhaps half-way), forgets it.

GlusterFS does the second in performance/nl-cache.
"""

from __future__ import annotations

from collections.abc import Iterable

from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Iatt

__all__ = ["ADDRESS", "NAMES_MAX", "Recall"]

ADDRESS = b"@"  # in NAME@VOLUME-dht:SUBVOLUME, by which distribute finds, and makes, NAME wherever it hashes to

NAMES_MAX = 4096  # of one directory: more are not remembered
_LIMIT = 1024  # directories, some 300 bytes each; beyond that all are forgotten
_ALL_NAMES_MAX = 65536  # of all directories, some 80 bytes each; beyond that all are forgotten
_VAIN = 8  # lookups in vain before a directory is read

_new = tuple.__new__


class Recall:
    """Attributes and names of directories by gfid.

    `changes` counts what may have changed any of them: an answer that was on its way meanwhile is not to be kept.
    """

    __slots__ = ("_links", "_looks", "_names", "_on", "_process", "_top", "_vain", "changes", "live", "names_held")

    def __init__(self, process: Process, top: Edge, *, on: bool) -> None:
        self._process = process
        self._top = top
        self._on = on
        self._links = -1
        self._looks: dict[bytes, Iatt] = {}
        self._names: dict[bytes, set[bytes]] = {}  # all that the directory has
        self.names_held = 0
        self._vain: dict[bytes, int] = {}  # lookups that may be in vain before the directory is read (again)
        self.changes = 0
        self.live = False

    def _follow(self) -> None:
        """The graph was linked anew: a brick went or came, a fault was placed, an option changed."""
        self._links = self._process.links
        self.live = self._on and self._top.recalls
        self.changes += 1
        self._looks.clear()
        self._forget_names()

    # -- attributes ------------------------------------------------------------------------------------------

    def get(self, gfid: bytes) -> Iatt | None:
        if self._links != self._process.links:
            self._follow()
        return self._looks.get(gfid)

    def keep(self, iatt: Iatt, changes: int) -> None:
        """`iatt` was asked for when there had been so many `changes`."""
        if self._links != self._process.links:
            self._follow()
        if changes != self.changes or not self.live:
            return
        if len(self._looks) >= _LIMIT:
            self._looks.clear()
        self._looks[iatt.gfid] = iatt

    def _changed_at(self, gfid: bytes, now: int) -> None:
        self.changes += 1
        iatt = self._looks.get(gfid)
        if iatt is None:
            return
        mtime, ctime = iatt.mtime_ns, iatt.ctime_ns
        if now < mtime or now < ctime:  # which one stays depends on how far ahead that lies, and on where it was set
            del self._looks[gfid]
            return
        self._looks[gfid] = _new(Iatt, (*iatt[:10], now, now, None))

    # -- names -----------------------------------------------------------------------------------------------

    def lacks(self, gfid: bytes, name: bytes) -> bool:
        """Whether the directory is known not to have this name."""
        if self._links != self._process.links:
            self._follow()
        names = self._names.get(gfid)
        return names is not None and name not in names

    def in_vain(self, gfid: bytes) -> bool:
        """A name was looked up that is not there; whether all names should be read, to be told by `know`.

        Those who look up names while they are read, or after that was interrupted, begin to count anew.
        """
        if not self.live:
            return False
        left = self._vain.get(gfid, _VAIN) - 1
        if left and len(self._vain) >= _LIMIT:
            self._vain.clear()
        self._vain[gfid] = left or _VAIN
        return not left

    def know(self, gfid: bytes, names: Iterable[bytes] | None, changes: int) -> None:
        """These are all names there were when there had been so many `changes`; None: they could not be read, or are too many.

        The more they are, the more lookups have to be in vain before they are read another time.
        """
        held = set() if names is None else set(names)
        self._vain[gfid] = _VAIN + (NAMES_MAX if names is None else len(held))
        if self._links != self._process.links:
            self._follow()
        if names is None or changes != self.changes or not self.live or len(held) > NAMES_MAX:
            return
        self._forget_names(gfid)
        self._make_room(len(held))
        self._names[gfid] = held

    def _make_room(self, count: int) -> None:
        self.names_held += count
        if self.names_held > _ALL_NAMES_MAX or len(self._names) >= _LIMIT:
            self._forget_names()
            self.names_held = count

    def _forget_names(self, gfid: bytes | None = None) -> None:
        if gfid is None:
            self._names.clear()
            self.names_held = 0
        elif (names := self._names.pop(gfid, None)) is not None:
            self.names_held -= len(names)

    # -- what happens ----------------------------------------------------------------------------------------

    def came(self, gfid: bytes, name: bytes, now: int) -> None:
        """The directory got a name that is no directory's, at `now` (ns; 0: the bricks know when)."""
        self._changed_at(gfid, now)
        self._name_came(gfid, name)

    def went(self, gfid: bytes, name: bytes, now: int) -> None:
        """The directory lost a name that was no directory's."""
        self._changed_at(gfid, now)
        self._name_went(gfid, name)

    def directory_came(self, gfid: bytes, name: bytes, made: bytes | None = None) -> None:
        """The directory got the name of another one; `made`: that is the gfid of a new one."""
        if self._links != self._process.links:
            self._follow()
        self.look_again(gfid)
        self._name_came(gfid, name)
        if made is not None and self.live:
            self._make_room(0)
            self._names[made] = set()

    def directory_went(self, gfid: bytes, name: bytes) -> None:
        self.look_again(gfid)
        self._name_went(gfid, name)

    def _name_came(self, gfid: bytes, name: bytes) -> None:
        names = self._names.get(gfid)
        if names is None:
            return
        if ADDRESS in name:
            # Such a name is never answered from memory, but it may have made the one that it begins with.
            name = name.partition(ADDRESS)[0]
        if name in names:
            return
        names.add(name)
        self.names_held += 1
        if len(names) > NAMES_MAX or self.names_held > _ALL_NAMES_MAX:
            self._forget_names(gfid)

    def _name_went(self, gfid: bytes, name: bytes) -> None:
        names = self._names.get(gfid)
        if names is not None and name in names:
            names.remove(name)
            self.names_held -= 1

    def look_again(self, *gfids: bytes) -> None:
        """The attributes of these may have changed, not their names."""
        self.changes += 1
        for gfid in gfids:
            self._looks.pop(gfid, None)

    def forget(self, *gfids: bytes) -> None:
        """Anything may have changed about these."""
        self.look_again(*gfids)
        for gfid in gfids:
            self._forget_names(gfid)
