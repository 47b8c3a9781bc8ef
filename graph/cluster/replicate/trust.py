"""Which copies can be relied upon, by how the bricks' last runs ended.  Pure.

The changelog says what a copy has missed if somebody was there to record it.  Two things leave no record: a serving process that
dies between two copies of a change of names or attributes (these are not marked in advance while all copies are there), and a
machine that loses power, for its brick then takes back what was not synced, the brick's own records included.  The bricks
know that this happened (`Past`), and from it follows:

* `unclean`: the copies may differ though no changelog says so, and only a look at everything finds that.  So it is when a
  brick comes for the first time and had crashed (the process that served it died), and whenever one was rolled back.  A
  brick that alone was killed under a living set is no such case: the set has recorded what it missed.
* `suspects`: copies that were rolled back, while another one is there that was not.  Until all has been looked at they are taken
  as accused of everything by the copies that are sound: they are not read, and they are healed from the others.
  What they say about others still counts.  When all were rolled back alike, there is nobody better to believe.

* `unmended`: copies that may have broken off in the middle of one operation.  Nothing is healed before that is mended
  (heal/mending.py).

A brick that does not know its past (NEW) is neither a suspect nor anybody's witness: it may be an empty one.  When none
of them knows, the volume is new.
"""

from __future__ import annotations

from collections.abc import Mapping

from fusemux.graph.framework.process import Past

__all__ = ["Trust"]


class Trust:
    def __init__(self, count: int) -> None:
        self.unclean = False
        self.unmended = 0
        self._pasts = [Past.NEW] * count
        self._up = 0

    def came(self, child: int, past: Past, *, first: bool) -> None:
        """A child came up, `first`: for the first time since this set began."""
        self._up |= 1 << child
        if past is Past.ROLLED_BACK or (first and past is Past.CRASHED):
            self.unclean = True
            self.unmended |= 1 << child
        self._pasts[child] = past
        if self._up + 1 == 1 << len(self._pasts) and all(known is Past.NEW for known in self._pasts):
            self._pasts = [Past.CLEAN] * len(self._pasts)

    def is_new(self, child: int) -> bool:
        """Whether it may be an empty one: what it lacks says nothing."""
        return self._pasts[child] is Past.NEW

    def went(self, child: int) -> None:
        self._up &= ~(1 << child)

    @property
    def suspects(self) -> int:
        rolled = sound = 0
        for child, past in enumerate(self._pasts):
            if past is Past.ROLLED_BACK:
                rolled |= 1 << child
            elif past is not Past.NEW:
                sound |= 1 << child
        return rolled if sound & self._up else 0

    def follow(self, old: Trust, places: Mapping[int, int]) -> None:
        """Go on with what `old` knew of the children that stay: `places` leads from ours to its."""
        self.unclean = old.unclean
        for child, before in places.items():
            self._pasts[child] = old._pasts[before]
            self.unmended = self.unmended & ~(1 << child) | (old.unmended >> before & 1) << child

    def mended(self, child: int) -> None:
        """What a child was in the middle of is completed."""
        self.unmended &= ~(1 << child)

    def vouched(self) -> None:
        """Everything was looked at, on all children: they are alike."""
        self.unclean = False
        self._pasts = [Past.CLEAN] * len(self._pasts)
