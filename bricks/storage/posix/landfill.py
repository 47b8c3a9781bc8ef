"""What waits to be deleted: trees that heal moved out of the way, and what a crash left behind.

Heal may have to remove a whole tree at once; it is renamed into `.glusterfs/landfill` and razed later, a few entries at a
time, so that nothing waits for it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from fusemux.bricks.storage.posix.attributes import AttributeFops
from fusemux.bricks.storage.posix.handle import link_text, path_of

__all__ = ["Landfill"]

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Landfill(AttributeFops):
    def purge_unlinked(self) -> None:
        """At start, when nothing is open: what `unlink` still holds was left by a crash."""
        for name in self._listed("unlink"):
            with suppress(IsADirectoryError):
                os.unlink(f"unlink/{name}", dir_fd=self.gl)

    def has_landfill(self) -> bool:
        return bool(self._listed("landfill"))

    def step(self, razing: Iterator[None]) -> bool:
        """One step of `raze`; whether there are more."""
        return next(razing, self) is not self

    def raze(self) -> Iterator[None]:
        """Empty the landfill, with the handles of all it holds; each step removes one entry."""
        for name in self._listed("landfill"):
            try:
                fd = os.open(f"landfill/{name}", _DIR, dir_fd=self.gl)
            except NotADirectoryError:
                os.unlink(f"landfill/{name}", dir_fd=self.gl)
                continue
            try:
                yield from self._raze(fd)
            finally:
                os.close(fd)
            os.rmdir(f"landfill/{name}", dir_fd=self.gl)

    def _raze(self, fd: int) -> Iterator[None]:
        parent = self.get_xattr(fd, self.GFID)
        for name in map(os.fsencode, os.listdir(fd)):
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            gfid = self.xattrs.get(fd, name, self.GFID)
            is_dir = stat.S_ISDIR(st.st_mode)
            if is_dir:
                inner = os.open(name, _DIR, dir_fd=fd)
                try:
                    yield from self._raze(inner)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)
            if gfid is not None and is_dir:
                self._drop_link(gfid, parent or gfid, name)
            elif gfid is not None and st.st_nlink <= 2:
                self._drop_handle(gfid)
            yield

    def _drop_link(self, gfid: bytes, parent: bytes, name: bytes) -> None:
        """The handle of a directory that is gone, unless it was made again elsewhere."""
        path = os.fsencode(path_of(gfid))
        with suppress(FileNotFoundError):
            if os.readlink(path, dir_fd=self.gl) == link_text(parent, name):
                self.drop_dir(gfid)
                os.unlink(path, dir_fd=self.gl)

    def _drop_handle(self, gfid: bytes) -> None:
        file = self.opened.get(gfid)
        if file is not None:
            self.keep_nameless(file)
            return
        with suppress(FileNotFoundError):
            os.unlink(path_of(gfid), dir_fd=self.gl)

    def _listed(self, folder: str) -> list[str]:
        try:
            fd = os.open(folder, _DIR, dir_fd=self.gl)
        except FileNotFoundError:
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)
