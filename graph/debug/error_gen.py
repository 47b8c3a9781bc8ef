"""Make fops fail: debug/error-gen of GlusterFS, with its options.

Every n-th enabled fop (n = 100 / failure), or with `random-failure` that share of them at random, answers `error-no`
instead of reaching the child.  Each injected error is counted and says in the log that it was injected.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fops import FOP_NAMES, Fop
from fusemux.graph.framework.options import Option
from fusemux.graph.framework.translator import Translator

__all__ = ["ErrorGen"]

log = logging.getLogger("fusemux.debug")
_NEVER = frozenset({"release"})  # has no way to fail


class ErrorGen(Translator):
    type = "debug/error-gen"
    options = (
        Option("failure", "percent", "10", "Share of the enabled fops that fail.", key="debug.error-failure"),
        Option("error-no", "errno", "EIO", "What they answer.", key="debug.error-number"),
        Option("enable", "fops", None, "The fops that may fail; unset: all.", key="debug.error-fops"),
        Option("random-failure", "bool", "off", "Fail at random instead of every n-th time.", key="debug.random-failure"),
    )  # fmt: skip

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.injected = 0
        self._owed = 0.0

    def intercepts(self, fop: str) -> bool:
        return self.opt.failure > 0 and fop not in _NEVER and (not self.opt.enable or fop in self.opt.enable)

    async def around(self, fop: Fop, next: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        if self._due():
            self.injected += 1
            log.info("%s: injected %s into %s", self.name, errno.errorcode[self.opt.error_no], fop.name)
            raise FopError(self.opt.error_no, f"injected by {self.name}")
        return await next(*args)

    def _due(self) -> bool:
        if self.opt.random_failure:
            return bool(self.process.random.random() * 100 < self.opt.failure)
        self._owed += self.opt.failure
        if self._owed < 100:
            return False
        self._owed -= 100
        return True

    def statedump(self) -> dict[str, Any]:
        return {"injected": self.injected, "fops": sorted(self.opt.enable or FOP_NAMES)}
