"""Where healing puts what must leave its place and may be needed again elsewhere.

A directory renamed while a copy was away must go from its old place before, perhaps, its new place is healed; so must a file,
whose contents may be good on this copy alone.  So they are not removed but parked, a directory with all that is in it, in a
hidden directory of the brick's root, under their gfid; healing the new place finds them there and moves them back.
What is parked when nothing is pending any more is gone on the good copies too, and is purged.

The name and gfid of that directory are GlusterFS's (option use-anonymous-inode): `.glusterfs-anonymous-inode-<volume id>`, and the
volume's id with the lowest bit of its first byte flipped.
"""

from __future__ import annotations

import errno
import stat
import uuid

import trio

from fusemux.graph.cluster.replicate.changelog import DATA
from fusemux.graph.cluster.replicate.core import Core
from fusemux.graph.cluster.replicate.heal.inspection import stamped, times_of
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import ROOT_GFID, DirEntry, Frame, Iatt, gfid_text

__all__ = ["GFID_LESS", "PREFIX", "is_parked", "is_private", "park", "purge", "remove_unmade", "remove_tree", "unpark"]

PREFIX = b".glusterfs-anonymous-inode-"
GFID_LESS = b"glusterfs.gfid-less"  # in a lookup's xdata: say what lies there, with or without a gfid
_BATCH = 256
_GONE = (errno.ENOENT, errno.ESTALE)


def is_private(parent: Inode, name: bytes) -> bool:
    """Whether the name is that of the hidden directory."""
    return name.startswith(PREFIX) and parent.gfid == ROOT_GFID


def _place(core: Core) -> tuple[bytes, bytes]:
    """Name and gfid of the hidden directory."""
    volume = uuid.UUID(core.opt.volume_id) if core.opt.volume_id else uuid.UUID(int=0)
    raw = volume.bytes
    return PREFIX + str(volume).encode(), bytes([raw[0] ^ 1]) + raw[1:]


async def _directory(core: Core, child: int, making: Frame | None = None) -> Inode | None:
    """The hidden directory of one copy, made if need be by `making`; else None when there is none."""
    name, gfid = _place(core)
    edge, root = core.children[child], core.graph.itable.root
    inode = core.graph.itable.learn(gfid, stat.S_IFDIR)
    try:
        await edge.lookup(core.internal, root, name, None)
    except FopError as error:
        if error.errno not in _GONE:
            raise
        if making is None:
            return None
        await edge.mkdir(making, root, name, 0o700, gfid, None)
    return inode


async def park(core: Core, child: int, parent: Inode, name: bytes, inode: Inode, model: Iatt) -> None:
    """Move `name` of one copy out of the way; its change time shall be that of `model`."""
    edge, root = core.children[child], core.graph.itable.root
    before = await edge.lookup(core.internal, root, b"", None)
    place = await _directory(core, child, stamped(core, before))
    assert place is not None
    await edge.setattr(core.internal, root, times_of(before), None)
    parked = gfid_text(inode.gfid).encode()
    if not stat.S_ISDIR(inode.type) and await _has(core, child, place, parked):
        await edge.unlink(stamped(core, model), parent, name, inode, None)  # another of its names is parked
    else:
        await edge.rename(stamped(core, model), parent, name, place, parked, inode, None, 0, None)


async def unpark(core: Core, child: int, parent: Inode, name: bytes, inode: Inode, times: Frame) -> bool:
    """Move what is parked to where it belongs; False when it is not parked."""
    place = await _directory(core, child)
    parked = gfid_text(inode.gfid).encode()
    if place is None or not await _has(core, child, place, parked):
        return False
    await core.children[child].rename(times, place, parked, parent, name, inode, None, 0, None)
    return True


async def _has(core: Core, child: int, parent: Inode, name: bytes) -> bool:
    try:
        await core.children[child].lookup(core.internal, parent, name, None)
    except FopError as error:
        if error.errno not in _GONE:
            raise
        return False
    return True


async def is_parked(core: Core, child: int, inode: Inode) -> bool:
    """Whether one copy has the inode only below the hidden directory."""
    try:
        answer = await core.children[child].getxattr(core.internal, inode, b"glusterfs.gfidtopath", None)
    except FopError:
        return False
    paths = bytes(next(iter(answer.values()))).split(b":/")  # a name has no slash
    return all(path.lstrip(b"/").startswith(PREFIX) for path in paths)


async def purge(core: Core) -> None:
    """Nothing is pending on any copy: remove what is parked and nowhere else any more, and the hidden directory."""
    name, _ = _place(core)
    root = core.graph.itable.root
    for edge in core.children:
        place = await _directory(core, edge.index)
        if place is None or not await _emptied(core, edge.index, place):
            continue
        before = await edge.lookup(core.internal, root, b"", None)
        await edge.rmdir(stamped(core, before), root, name, place, None)
        await edge.setattr(core.internal, root, times_of(before), None)


async def _emptied(core: Core, child: int, place: Inode) -> bool:
    """Remove what is parked on one copy; False when another copy has a name for some of it."""
    kept: set[bytes] = set()
    while left := [entry for entry in await _listing(core, child, place, len(kept)) if entry.name not in kept]:
        for name, iatt in [(entry.name, entry.iatt) for entry in left]:
            if iatt is None:
                kept.add(name)
                continue
            inode = core.graph.itable.learn(iatt.gfid, iatt.type)
            if await _wanted(core, child, inode, iatt):
                kept.add(name)
            elif iatt.is_dir:
                await remove_tree(core, child, place, name, inode, purging=True)
            else:
                await _unlink(core, child, place, name, inode, iatt, purging=True)
    return not kept


async def _wanted(core: Core, child: int, inode: Inode, iatt: Iatt) -> bool:
    """Whether what is parked on one copy has its place on another, and not yet here."""
    if not iatt.is_dir and iatt.nlink > 1:
        return False
    others = core.members.up & ~(1 << child)
    replies = await core.wind(others, "lookup", core.internal, inode, b"", None)
    for edge in core.edges(others):
        if isinstance(replies[edge.index], Iatt) and not await is_parked(core, edge.index, inode):
            return True
    return False


async def remove_tree(
    core: Core, child: int, parent: Inode, name: bytes, directory: Inode, *, purging: bool = False
) -> None:
    """Remove a directory of one copy with all that is in it, from the bottom up.

    Raises EBUSY at a file that others have, too, but whose contents are good on this copy alone; not when `purging`: then
    nothing is left to be healed.
    """
    edge = core.children[child]
    above: list[tuple[Inode, bytes, Inode]] = [(parent, name, directory)]  # the way down: parent, name, directory
    while above:
        at = above[-1][2]
        deeper = None
        entries = await _listing(core, child, at)
        for entry in entries:
            if entry.iatt is None:
                await remove_unmade(core, child, at, entry.name)
                continue
            inode = core.graph.itable.learn(entry.iatt.gfid, entry.iatt.type)
            if entry.iatt.is_dir:
                deeper = (at, entry.name, inode)
                break
            await _unlink(core, child, at, entry.name, inode, entry.iatt, purging=purging)
        if deeper is not None:
            above.append(deeper)
        elif not entries:
            await edge.rmdir(core.internal, *above.pop(), None)
        await trio.lowlevel.checkpoint()


async def remove_unmade(core: Core, child: int, parent: Inode, name: bytes) -> None:
    """Remove a name without a gfid from one copy: what it was making when it lost its power.

    Raises ENOTEMPTY for what holds something: that was made on the brick itself, behind our back.
    """
    edge = core.children[child]
    found = await edge.lookup(core.internal, parent, name, {GFID_LESS: b""})
    if any(found.gfid):
        raise FopError(errno.EAGAIN, f"{core.name}: {name!r} on {edge.name} has got a gfid meanwhile")
    if stat.S_ISREG(found.mode) and found.size:
        raise FopError(errno.ENOTEMPTY, f"{core.name}: {name!r} on {edge.name} has no gfid, but contents")
    inode = Inode(found.gfid, found.type, core.graph.itable.inode_slots)
    await (edge.rmdir if found.is_dir else edge.unlink)(core.internal, parent, name, inode, None)


async def _unlink(
    core: Core, child: int, parent: Inode, name: bytes, inode: Inode, iatt: Iatt, *, purging: bool = False
) -> None:
    edge = core.children[child]
    if iatt.nlink > 1:  # it may have lost names since it was listed
        iatt = await edge.lookup(core.internal, inode, b"", core.keys.ask)
    replies = await core.wind(core.members.everyone & ~(1 << child), "lookup", core.internal, inode, b"", None)
    model = next((reply for reply in replies if isinstance(reply, Iatt)), None)
    if not purging and iatt.nlink < 2 and model is not None and core.keys.accused_by(iatt.xdata, DATA):
        raise FopError(errno.EBUSY, f"{core.name}: {edge.name} alone has the contents of {gfid_text(inode.gfid)}")
    await edge.unlink(stamped(core, model or iatt), parent, name, inode, None)


async def _listing(core: Core, child: int, place: Inode, more: int = 0) -> list[DirEntry]:
    """Some of the entries of a directory of one copy, at least one that is not among `more` others; none when it is empty."""
    edge = core.children[child]
    fd = core.graph.itable.fd(place, 0)
    try:
        await edge.opendir(core.internal, place, fd, None)
        entries: list[DirEntry] = await edge.readdir(core.internal, fd, _BATCH + more, 0, True, core.keys.ask)
        return entries
    finally:
        with trio.CancelScope(shield=True):
            await edge.release(core.internal, fd, None)
        core.graph.itable.closed(fd)
