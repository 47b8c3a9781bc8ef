"""Log fops as they pass: debug/trace of GlusterFS.

One line a fop, when it is answered: name, arguments by the names of the fop table, reply or error, microseconds.  Payloads
are shown by their length.  With `include-ops` or `exclude-ops` only some; a fop that is not traced does
not stop here.  The last `history` lines are kept for the statedump.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import Any

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fops import Fop
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.options import Option
from fusemux.graph.framework.translator import Translator
from fusemux.graph.framework.types import Frame, Iatt, gfid_text

__all__ = ["Trace", "described"]

log = logging.getLogger("fusemux.trace")


class Trace(Translator):
    type = "debug/trace"
    options = (
        Option("log-file", "bool", "yes", "Write the lines to the log."),
        Option("include-ops", "fops", None, "Trace only these fops.", aliases=("include",)),
        Option("exclude-ops", "fops", None, "Do not trace these fops.", aliases=("exclude",)),
        Option("history-size", "int", "1024", "How many lines the statedump shows.", low=0, high=1_000_000),
    )  # fmt: skip

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.history: deque[str] = deque(maxlen=self.opt.history_size)

    def reconfigure(self, given: Any) -> None:
        super().reconfigure(given)
        self.history = deque(self.history, maxlen=self.opt.history_size)

    def intercepts(self, fop: str) -> bool:
        included = not self.opt.include_ops or fop in self.opt.include_ops
        return included and fop not in (self.opt.exclude_ops or ())

    async def around(self, fop: Fop, next: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        began = perf_counter_ns()
        outcome = "cancelled"
        try:
            reply = await next(*args)
            outcome = described(reply)
            return reply
        except FopError as error:
            outcome = repr(error)
            raise
        finally:
            self._record(fop, args, outcome, (perf_counter_ns() - began) // 1000)

    def _record(self, fop: Fop, args: tuple[Any, ...], outcome: str, took_us: int) -> None:
        frame: Frame = args[0]
        words = [f"{arg.name}={described(value)}" for arg, value in zip(fop.args, args[1:], strict=False)]
        line = (
            f"{self.name}: {fop.name}({', '.join(words)}) uid={frame.uid} pid={frame.pid} -> {outcome} in {took_us} us"
        )
        self.history.append(line)
        if self.opt.log_file:
            log.info("%s", line)

    def statedump(self) -> dict[str, Any]:
        return {"history": list(self.history)}


def described(value: Any) -> str:
    """A fop's argument or reply in a few words."""
    inode = getattr(value, "inode", value)
    if isinstance(inode, Inode):
        return gfid_text(inode.gfid)
    if isinstance(value, Iatt):
        return f"{gfid_text(value.gfid)} mode={value.mode:o} size={value.size} nlink={value.nlink}"
    if isinstance(value, bytes | bytearray | memoryview) and len(value) > 64:
        return f"<{len(value)} bytes>"
    if isinstance(value, list):
        return f"<{len(value)} entries>"
    return repr(value)
