"""Which volume a node id or file handle belongs to, where one FUSE session carries several.

With one volume the session's numbers are the bridge's.  With several, node 1 is a directory that nobody sees for long, and
the volumes' roots are its entries 0, 1, 2, ...; every other node keeps its number, which is taken from a gfid and so
as good as unique.  Volumes that share gfids (a copy of another's bricks) are told apart: the second to show a number
is given another for it.  A handle carries the volume's index in its low bits.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from fusemux.fuse.nodes import ROOT_ID
from fusemux.graph.framework.errors import FopError

if TYPE_CHECKING:
    from fusemux.fuse.bridge import Bridge

__all__ = ["VOLUMES_MAX", "ManyRoutes", "Routes", "SoleRoute", "Volume"]

_INDEX_BITS = 10
_INDEX = (1 << _INDEX_BITS) - 1
VOLUMES_MAX = 1 << _INDEX_BITS


class Volume:
    """One volume of a session.  Bindings keep more in subclasses."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.index = 0
        self.root = ROOT_ID  # what the session calls the volume's root


V = TypeVar("V", bound=Volume)


class Routes(Protocol[V]):
    """Between the session's numbers and the bridges'."""

    volumes: Sequence[V]

    def node(self, shown: int) -> tuple[V, int]:
        """The volume and node id behind the session's number.  Raises FopError."""

    def show(self, volume: V, nodeid: int) -> int:
        """The session's number of a node that the kernel is told of."""

    def handle(self, shown: int) -> tuple[V, int]:
        """The volume and handle behind the session's."""

    def show_handle(self, volume: V, fh: int) -> int:
        """The session's number of a handle."""

    def forget(self, shown: int, nlookup: int) -> None:
        """The kernel drops references."""


class SoleRoute(Generic[V]):
    """One volume: all numbers are the bridge's."""

    def __init__(self, volume: V) -> None:
        self.volumes: Sequence[V] = (volume,)
        self._volume = volume

    def node(self, shown: int) -> tuple[V, int]:
        return self._volume, shown

    def show(self, volume: V, nodeid: int) -> int:
        return nodeid

    def handle(self, shown: int) -> tuple[V, int]:
        return self._volume, shown

    def show_handle(self, volume: V, fh: int) -> int:
        return fh

    def forget(self, shown: int, nlookup: int) -> None:
        self._volume.bridge.forget(shown, nlookup)


class ManyRoutes(Generic[V]):
    """Several volumes below one root."""

    def __init__(self, volumes: Sequence[V]) -> None:
        self.volumes: Sequence[V] = tuple(volumes)
        self._owners: dict[int, V] = {}
        self._behind: dict[int, int] = {}  # session's number -> node id, where they differ
        self._shown: dict[tuple[int, int], int] = {}  # (index, node id) -> session's number, where they differ
        self._numbers = count(ROOT_ID + 1)
        for index, volume in enumerate(self.volumes):
            volume.index = index
            volume.root = self._rename(volume, ROOT_ID)

    def _rename(self, volume: V, nodeid: int) -> int:
        shown = next(number for number in self._numbers if number not in self._owners)
        self._owners[shown] = volume
        self._behind[shown] = nodeid
        self._shown[volume.index, nodeid] = shown
        return shown

    def node(self, shown: int) -> tuple[V, int]:
        try:
            return self._owners[shown], self._behind.get(shown, shown)
        except KeyError:
            error = errno.EACCES if shown == ROOT_ID else errno.ESTALE
            raise FopError(error, f"node {shown:#x} is of no volume") from None

    def show(self, volume: V, nodeid: int) -> int:
        owner = self._owners.get(nodeid)
        if owner is volume and nodeid not in self._behind:
            return nodeid
        known = self._shown.get((volume.index, nodeid))
        if known is not None:
            return known
        if owner is not None or nodeid <= ROOT_ID:
            return self._rename(volume, nodeid)
        self._owners[nodeid] = volume
        return nodeid

    def handle(self, shown: int) -> tuple[V, int]:
        return self.volumes[shown & _INDEX], shown >> _INDEX_BITS

    def show_handle(self, volume: V, fh: int) -> int:
        return fh << _INDEX_BITS | volume.index

    def forget(self, shown: int, nlookup: int) -> None:
        volume = self._owners.get(shown)
        if volume is None:
            return
        nodeid = self._behind.get(shown, shown)
        if nodeid == ROOT_ID:
            return
        volume.bridge.forget(nodeid, nlookup)
        if nodeid not in volume.bridge.known:
            del self._owners[shown]
            if self._behind.pop(shown, None) is not None:
                del self._shown[volume.index, nodeid]
