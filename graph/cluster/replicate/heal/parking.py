"""Where healing puts directories that must leave their place: they may be needed again elsewhere.

A directory renamed while a copy was away must go from its old place before, perhaps, its new place is healed.  So it is not
removed but parked, with all that is in it, in a hidden directory of the brick's root, under its gfid; healing the new
place finds it there by its handle and moves it back.  What is still parked when nothing is pending any more is gone
on the good copies too, and is purged.

The name and gfid of that directory are GlusterFS's (option use-anonymous-inode): `.glusterfs-anonymous-inode-<volume id>`, and the
volume's id with the lowest bit of its first byte flipped.
"""

from __future__ import annotations

import errno
import stat
import uuid

import trio

from fusemux.graph.cluster.replicate.core import Core
from fusemux.graph.cluster.replicate.heal.inspection import times_of
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Iatt, gfid_text

__all__ = ["PREFIX", "is_parked", "park", "purge"]

PREFIX = b".glusterfs-anonymous-inode-"
_BATCH = 256


def _place(core: Core) -> tuple[bytes, bytes]:
    """Name and gfid of the hidden directory."""
    volume = uuid.UUID(core.opt.volume_id) if core.opt.volume_id else uuid.UUID(int=0)
    raw = volume.bytes
    return PREFIX + str(volume).encode(), bytes([raw[0] ^ 1]) + raw[1:]


async def _directory(core: Core, child: int, *, make: bool) -> Inode | None:
    name, gfid = _place(core)
    edge, root = core.children[child], core.graph.itable.root
    inode = core.graph.itable.learn(gfid, stat.S_IFDIR)
    try:
        await edge.lookup(core.internal, root, name, None)
    except FopError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        if not make:
            return None
        await edge.mkdir(core.internal, root, name, 0o700, gfid, None)
    return inode


async def park(core: Core, child: int, parent: Inode, name: bytes, inode: Inode) -> None:
    """Move the directory `name` of one copy out of the way."""
    edge, root = core.children[child], core.graph.itable.root
    before = await edge.lookup(core.internal, root, b"", None)
    place = await _directory(core, child, make=True)
    assert place is not None
    await edge.setattr(core.internal, root, times_of(before), None)
    await edge.rename(core.internal, parent, name, place, gfid_text(inode.gfid).encode(), inode, None, 0, None)


async def is_parked(core: Core, child: int, inode: Inode) -> bool:
    """Whether one copy has the inode only below the hidden directory."""
    try:
        answer = await core.children[child].getxattr(core.internal, inode, b"glusterfs.gfidtopath", None)
    except FopError:
        return False
    paths = bytes(next(iter(answer.values()))).split(b":/")  # a name has no slash
    return all(path.lstrip(b"/").startswith(PREFIX) for path in paths)


async def purge(core: Core) -> None:
    """Nothing is pending on any copy: remove what is parked, and the hidden directory."""
    name, _ = _place(core)
    root = core.graph.itable.root
    for edge in core.children:
        place = await _directory(core, edge.index, make=False)
        if place is None:
            continue
        await _empty(core, edge.index, place)
        before = await edge.lookup(core.internal, root, b"", None)
        await edge.rmdir(core.internal, root, name, place, None)
        await edge.setattr(core.internal, root, times_of(before), None)


async def _empty(core: Core, child: int, place: Inode) -> None:
    """Remove all that is in a directory of one copy, from the bottom up."""
    edge = core.children[child]
    above: list[tuple[Inode, bytes, Inode]] = []  # the way down: parent, name, directory
    at = place
    while True:
        deeper = None
        for name, iatt in await _listing(core, child, at):
            inode = core.graph.itable.learn(iatt.gfid, iatt.type)
            if iatt.is_dir:
                deeper = (at, name, inode)
                break
            await _unlink(core, child, at, name, inode, iatt)
        if deeper is not None:
            above.append(deeper)
            at = deeper[2]
        elif not above:
            return
        else:
            parent, name, inode = above.pop()
            await edge.rmdir(core.internal, parent, name, inode, None)
            at = parent
        await trio.lowlevel.checkpoint()


async def _unlink(core: Core, child: int, parent: Inode, name: bytes, inode: Inode, iatt: Iatt) -> None:
    edge = core.children[child]
    await edge.unlink(core.internal, parent, name, inode, None)
    if iatt.nlink > 1:  # it lives on under another name, and has not changed
        replies = await core.wind(core.members.everyone & ~(1 << child), "lookup", core.internal, inode, b"", None)
        model = next((reply for reply in replies if isinstance(reply, Iatt)), iatt)
        await edge.setattr(core.internal, inode, times_of(model), None)


async def _listing(core: Core, child: int, place: Inode) -> list[tuple[bytes, Iatt]]:
    """Some of the entries of a directory of one copy; none when it is empty."""
    edge = core.children[child]
    fd = core.graph.itable.fd(place, 0)
    try:
        await edge.opendir(core.internal, place, fd, None)
        entries = await edge.readdir(core.internal, fd, _BATCH, 0, True, None)
        return [(entry.name, entry.iatt) for entry in entries if entry.iatt is not None]
    finally:
        with trio.CancelScope(shield=True):
            await edge.release(core.internal, fd, None)
        core.graph.itable.closed(fd)
