"""Make fops slow: debug/delay-gen of GlusterFS, with its options.

A share of the enabled fops waits `delay-duration` microseconds before it goes on.  The subtree then suspends, so
cluster translators above call their children side by side.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from fusemux.graph.framework.fops import Fop
from fusemux.graph.framework.options import Option
from fusemux.graph.framework.translator import Translator

__all__ = ["DelayGen"]


class DelayGen(Translator):
    type = "debug/delay-gen"
    options = (
        Option("delay-percentage", "percent", "10", "Share of the enabled fops that wait.", key="delay-gen.delay-percentage"),
        Option("delay-duration", "int", "100000", "How long, in microseconds.", key="delay-gen.delay-duration", low=0),
        Option("enable", "fops", None, "The fops that may wait; unset: all.", key="delay-gen.enable"),
    )  # fmt: skip

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.delayed = 0

    @property
    def suspends(self) -> bool:
        return self.opt.delay_percentage > 0 or super().suspends

    def intercepts(self, fop: str) -> bool:
        return self.opt.delay_percentage > 0 and (not self.opt.enable or fop in self.opt.enable)

    async def around(self, fop: Fop, next: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        if self.process.random.random() * 100 < self.opt.delay_percentage:
            self.delayed += 1
            await trio.sleep(self.opt.delay_duration / 1e6)
        return await next(*args)

    def statedump(self) -> dict[str, Any]:
        return {"delayed": self.delayed}
