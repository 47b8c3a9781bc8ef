"""Make a directory a brick of a volume, or say why it cannot be one."""

from __future__ import annotations

import os
import uuid

from fusemux.bricks.storage.posix import layout
from fusemux.bricks.storage.posix.handle import DOT_GLUSTERFS
from fusemux.graph.framework.errors import FusemuxError

__all__ = ["is_empty", "prepare", "prepare_fresh"]


def prepare(path: str, volume_id: str, *, force: bool = False) -> None:
    """`path` becomes a brick of volume `volume_id`: its xattrs, `.glusterfs`, all of GlusterFS's format.

    The directory is made when it is missing (not its parents).  A brick of this volume stays as it is.  Refused
    are a brick of another volume, a directory inside a brick, and, without `force`, a directory that holds
    anything.  Raises FusemuxError.
    """
    wanted = uuid.UUID(volume_id)
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        pass
    except OSError as error:
        raise FusemuxError(f"brick {path}: cannot be made: {error.strerror}") from None
    mapped = layout.is_mapped(path)
    found = layout.volume_of(path, mapped=mapped)
    if found is None:
        _refuse_foreign(path, force)
        _refuse_nested(path, mapped)
        layout.mark(path, wanted, mapped=mapped)
    elif found != wanted:
        raise FusemuxError(
            f"brick {path} belongs to volume {found}, not to {wanted}; delete that volume first, or give another directory"
        )
    layout.lay_out(path, mapped=mapped)


def is_empty(path: str) -> bool:
    """Whether the directory holds no file of any volume; one that is not there is empty, too."""
    try:
        return not set(os.listdir(path)) - {DOT_GLUSTERFS.decode(), "lost+found"}
    except FileNotFoundError:
        return True
    except OSError as error:
        raise FusemuxError(f"brick {path}: {error.strerror}") from None


def prepare_fresh(path: str, volume_id: str, *, again: bool = False) -> None:
    """`path`, which must be empty, becomes a brick that is to be healed from other copies.

    Bookkeeping that was left in it is removed, so that it has nothing to say about anybody.  `again`: it is known to have been this
    very brick.  Otherwise one that was a brick of the volume before is refused, for it may be a mistake.  Raises FusemuxError.
    """
    if not is_empty(path):
        raise FusemuxError(f"brick {path} is not empty; a copy begins with an empty directory, which is then healed")
    if os.path.isdir(path):
        mapped = layout.is_mapped(path)
        found = layout.volume_of(path, mapped=mapped)
        if found == uuid.UUID(volume_id) and not again:
            raise FusemuxError(f"brick {path} was a brick of this volume before; give a new directory")
        if found in (None, uuid.UUID(volume_id)):
            layout.strip(path, mapped=mapped)
    prepare(path, volume_id)


def _refuse_foreign(path: str, force: bool) -> None:
    names = [name for name in os.listdir(path) if name != "lost+found"]
    if names and not force:
        raise FusemuxError(
            f"brick {path} is not empty (it holds {sorted(names)[0]!r}); give an empty directory, or force to take what is there"
        )


def _refuse_nested(path: str, mapped: bool) -> None:
    above = os.path.dirname(os.path.realpath(path))
    while True:
        try:
            volume = layout.volume_of(above, mapped=mapped)
        except OSError:
            volume = None  # a file system without xattrs holds no brick
        if volume is not None:
            raise FusemuxError(
                f"brick {path} lies inside {above}, a brick of volume {volume}; give a directory outside of it"
            )
        parent = os.path.dirname(above)
        if parent == above:
            return
        above = parent
