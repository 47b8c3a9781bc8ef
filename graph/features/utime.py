"""Stamp every changing fop with one time, so that all copies of a file record the same.

Without it each brick would keep the clock of its own backing store, and which copy answers a stat would show
in the times (tar's "file changed as we read it").  The bricks store the stamp in `trusted.glusterfs.mdata` and
answer with it.  Reads are stamped only with `noatime off`, and then cost a write of that xattr on each brick.

Source: GlusterFS features/utime (option features.ctime).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import time_ns
from typing import Any

from fusemux.graph.framework.fops import FOPS
from fusemux.graph.framework.options import Option
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import Frame

__all__ = ["Utime"]

_READS = frozenset({"readv", "readdir"})  # what moves an access time
_STAMPED = frozenset(fop.name for fop in FOPS.values() if fop.changes)


class Utime(Translator):
    type = "features/utime"
    options = (
        Option("noatime", "bool", "on", "Leave access times alone when files are read.", key="ctime.noatime"),
    )  # fmt: skip

    def intercepts(self, fop: str) -> bool:
        return fop in _STAMPED or (fop in _READS and not self.opt.noatime)

    @property
    def passes(self) -> bool:
        """The brick notes itself when the kernel has written; that it has read, nobody would note."""
        return self.opt.noatime and self.child.passes


def _stamping(name: str) -> Callable[..., Awaitable[Any]]:
    def stamp(self: Utime, frame: Frame, *args: Any) -> Awaitable[Any]:  # the child's awaitable, none of its own
        frame.time_ns = time_ns()
        reply: Awaitable[Any] = getattr(self.children[0], name)(frame, *args)
        return reply

    stamp.__name__ = name
    return stamp


for _name in _STAMPED | _READS:
    setattr(Utime, _name, _stamping(_name))
