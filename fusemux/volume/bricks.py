"""Make the bricks of a new volume, all of them or none."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator

from fusemux.bricks.prepare import prepare, prepare_fresh
from fusemux.volume.definition import BrickSpec, Volume

__all__ = ["prepared", "prepared_bricks"]


@contextlib.contextmanager
def prepared(volume: Volume, *, force: bool) -> Iterator[None]:
    """The directories of `volume` are bricks of it; when the body, or a later brick, fails they are as they were.

    Ramdisks are made when the volume is first served.  Raises FusemuxError.
    """
    with prepared_bricks(volume, volume.bricks, force=force):
        yield


@contextlib.contextmanager
def prepared_bricks(
    volume: Volume, bricks: Iterable[BrickSpec], *, force: bool = False, fresh: bool = False
) -> Iterator[None]:
    """The same for some `bricks` of it; `fresh` ones must be empty, because they will be healed from other copies."""
    with contextlib.ExitStack() as undo:
        for brick in bricks:
            if brick.ramdisk_bytes is None:
                undo.callback(_restorer(brick.path))
                if fresh:
                    prepare_fresh(brick.path, str(volume.id))
                else:
                    prepare(brick.path, str(volume.id), force=force)
        yield
        undo.pop_all()


def _restorer(path: str) -> Callable[[], None]:
    """What takes back everything that `prepare` may do to `path`."""
    existed = os.path.isdir(path)
    before = set(os.listxattr(path)) if existed else set()
    laid_out = os.path.isdir(os.path.join(path, ".glusterfs"))

    def restore() -> None:
        with contextlib.suppress(OSError):  # what cannot be undone is told by the error that made us undo it
            for name in set(os.listxattr(path)) - before:
                os.removexattr(path, name)
            if not laid_out:
                shutil.rmtree(os.path.join(path, ".glusterfs"), ignore_errors=True)
            if not existed:
                os.rmdir(path)

    return restore
