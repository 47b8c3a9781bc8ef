"""features/arbiter: the brick that votes but keeps no data.

The third copy of a `replica 2 arbiter 1` set holds names, attributes, xattrs and the changelog, so that it knows which of the
two others is good.  Contents stop here: what would change them succeeds and changes nothing, so every file stays empty; what
would read them answers ENOTCONN.  Source: GlusterFS features/arbiter.
"""

from __future__ import annotations

import errno
from typing import Any

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import Frame, Iatt, Xdata

__all__ = ["Arbiter"]


class Arbiter(Translator):
    type = "features/arbiter"

    async def writev(self, frame: Frame, fd: Fd, data: bytes, offset: int, xdata: Xdata = None) -> int:
        return len(data)

    async def truncate(self, frame: Frame, target: Inode | Fd, size: int, xdata: Xdata = None) -> Iatt:
        iatt: Iatt = await self.child.stat(frame, target, xdata)
        return iatt

    async def fallocate(self, frame: Frame, fd: Fd, mode: int, offset: int, length: int, xdata: Xdata = None) -> Iatt:
        iatt: Iatt = await self.child.stat(frame, fd, xdata)
        return iatt

    async def copy_file_range(
        self,
        frame: Frame,
        fd: Fd,
        offset: int,
        fd_out: Fd,
        offset_out: int,
        length: int,
        flags: int,
        xdata: Xdata = None,
    ) -> int:
        return length

    async def readv(self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Xdata = None) -> Any:
        raise self._no_data()

    async def seek(self, frame: Frame, fd: Fd, offset: int, whence: int, xdata: Xdata = None) -> int:
        raise self._no_data()

    async def rchecksum(self, frame: Frame, fd: Fd, offset: int, length: int, xdata: Xdata = None) -> tuple[int, bytes]:
        raise self._no_data()

    def _no_data(self) -> FopError:
        return FopError(errno.ENOTCONN, f"{self.name}: an arbiter keeps no data")
