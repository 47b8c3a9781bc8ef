"""Make the bricks of a new volume, all of them or none."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator

from fusemux.bricks.prepare import prepare
from fusemux.volume.definition import Volume

__all__ = ["prepared"]


@contextlib.contextmanager
def prepared(volume: Volume, *, force: bool) -> Iterator[None]:
    """The directories of `volume` are bricks of it; when the body, or a later brick, fails they are as they were.

    Ramdisks are made when the volume is first served.  Raises FusemuxError.
    """
    with contextlib.ExitStack() as undo:
        for brick in volume.bricks:
            if brick.ramdisk_bytes is None:
                undo.callback(_restorer(brick.path))
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
