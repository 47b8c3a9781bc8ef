"""Before a full look after an unclean end: have each copy complete what it was in the middle of.

A brick that dies between the steps of one operation may have a file without its handle, or a directory whose handle leads to
where it was.  Whoever looks the name up has it mended (storage/posix); but healing also looks for files by their gfid, would not
find such a one, and make it again elsewhere: two files of one gfid.  So every directory of a copy is looked up by its name, from
the root down, and every file that has no handle, before anything is healed.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

import trio

from fusemux.graph.cluster.replicate.core import Core
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import DirEntry

__all__ = ["mend"]

_BATCH = 256
_GONE = (errno.ENOENT, errno.ESTALE)


async def mend(core: Core, child: int) -> None:
    """Look up on one copy what may have no handle.  Raises FopError when the copy does not answer."""
    pending = [core.graph.itable.root]
    while pending:
        directory = pending.pop()
        edge = core.children[child]
        fd = core.graph.itable.fd(directory, 0)
        try:
            await edge.opendir(core.internal, directory, fd, None)
            offset = 0
            while entries := await edge.readdir(core.internal, fd, _BATCH, offset, True, None):
                offset = entries[-1].offset
                pending += await _looked_up(core, child, directory, entries)
                await trio.lowlevel.checkpoint()
        except FopError as error:
            if error.errno not in _GONE:
                raise
        finally:
            with trio.CancelScope(shield=True):
                await edge.release(core.internal, fd, None)
            core.graph.itable.closed(fd)


async def _looked_up(core: Core, child: int, parent: Inode, entries: Sequence[DirEntry]) -> list[Inode]:
    """The directories among them."""
    directories = []
    for entry in entries:
        if entry.iatt is None or not (entry.iatt.is_dir or entry.iatt.nlink == 0):
            continue
        try:
            found = await core.children[child].lookup(core.internal, parent, entry.name, None)
        except FopError as error:
            if error.errno not in _GONE:
                raise
            continue
        if found.is_dir:
            directories.append(core.graph.itable.learn(found.gfid, found.type))
    return directories
