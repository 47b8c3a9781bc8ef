"""Whether a brick is consistent: every object has its gfid, its one handle, and its records; nothing is left over."""

from __future__ import annotations

import os
import stat

from fusemux.bricks.storage.posix.handle import link_text, path_of
from fusemux.graph.framework.types import ROOT_GFID, gfid_text
from tests.bricks.serving import Place


def faults(place: Place) -> list[str]:
    """What is wrong with a brick that is at rest."""
    found: list[str] = []
    handles = _handles(place)
    names: dict[bytes, list[bytes]] = {}
    _walk(place, b"", ROOT_GFID, handles, names, found)
    for gfid, records in names.items():
        st = os.lstat(place.path / ".glusterfs" / path_of(gfid))
        if st.st_nlink != len(records) + 1:
            found.append(f"{gfid.hex()} has {len(records)} names but {st.st_nlink} links")
        if _records(place, gfid) != set(records):
            found.append(f"{gfid.hex()} records {_records(place, gfid)}, its names are {records}")
    found += [f"the handle of {gfid.hex()} belongs to nothing" for gfid in handles]
    for folder in ("unlink", "landfill"):
        found += [f"{folder} holds {name}" for name in os.listdir(place.path / ".glusterfs" / folder)]
    return found


def _handles(place: Place) -> set[bytes]:
    gl = place.path / ".glusterfs"
    gfids = {bytes.fromhex(name.name.replace("-", "")) for name in gl.glob("??/??/*")}
    gfids.discard(ROOT_GFID)
    return gfids


def _records(place: Place, gfid: bytes) -> set[bytes]:
    path = place.path / ".glusterfs" / path_of(gfid)
    names = [name for name in os.listxattr(path, follow_symlinks=False) if "trusted.gfid2path." in name]
    return {os.getxattr(path, name, follow_symlinks=False) for name in names}


def _walk(
    place: Place, folder: bytes, parent: bytes, handles: set[bytes], names: dict[bytes, list[bytes]], found: list[str]
) -> None:
    for name in os.listdir(os.fsencode(place.path) + b"/" + folder):
        path = folder + b"/" + name if folder else name
        if path == b".glusterfs":
            continue
        gfid = place.stored(path, b"trusted.gfid")
        if gfid is None:
            found.append(f"{path!r} has no gfid")
            continue
        handle = os.fsencode(place.path / ".glusterfs" / path_of(gfid))
        if not os.path.lexists(handle):
            found.append(f"{path!r} has no handle")
        elif stat.S_ISDIR(os.lstat(os.fsencode(place.path) + b"/" + path).st_mode):
            if os.readlink(handle) != link_text(parent, name):
                found.append(f"the handle of {path!r} leads to {os.readlink(handle)!r}")
            _walk(place, path, gfid, handles, names, found)
        else:
            names.setdefault(gfid, []).append(gfid_text(parent).encode() + b"/" + name)
            if not os.path.samestat(os.lstat(handle), os.lstat(os.fsencode(place.path) + b"/" + path)):
                found.append(f"the handle of {path!r} is another file")
        handles.discard(gfid)
