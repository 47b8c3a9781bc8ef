"""What must be true of the bricks of a distributed volume at rest."""

from __future__ import annotations

import os

from fusemux.graph.cluster.distribute.layout import Layout, anomalies, decode

from .volume import LAYOUT, LINKTO, Volume

__all__ = ["check_bricks"]


def check_bricks(v: Volume, *, linktos: bool = True) -> None:
    """Every directory is on every brick with a sound layout; every file's data is on one brick; with `linktos` a linkto file
    is exactly where a name hashes and its data is not."""
    _check(v, "", linktos)
    assert not v.dht.locks.held, "locks are still held"


def _check(v: Volume, path: str, linktos: bool) -> None:
    bricks = range(len(v.names))
    listed = [set(os.listdir(v.brick_path(place, path))) - {".glusterfs"} for place in bricks]
    layout = Layout(decode(place, v.xattr(place, path, LAYOUT)) for place in bricks)
    assert not anomalies(layout.extents).damaged, f"{path}: {layout}"
    for name in sorted(set().union(*listed)):
        below = f"{path}/{name}"
        here = v.where(below)
        if "dir" in here.values():
            assert here == dict.fromkeys(bricks, "dir"), f"{below}: {here}"
            _check(v, below, linktos)
            continue
        data = [place for place, what in here.items() if what == "file"]
        assert len(data) == 1, f"{below}: {here}"
        hashed = layout.find(v.dht.hash(os.fsencode(name)))
        wanted = {data[0]: "file"} if hashed == data[0] else {data[0]: "file", hashed: f"->{v.names[data[0]]}"}
        if linktos:
            assert here == wanted, f"{below}: {here}, hashed on {hashed}"
        gfids = {v.xattr(place, below, "trusted.gfid") for place in here}
        assert len(gfids) == 1, f"{below}: {gfids}"
        assert all(v.xattr(place, below, LINKTO) is None for place in data)
