"""The one bounded thread pool of the process, with a fair queue for each brick.

A fop on a disk-backed brick runs its system calls here; ramdisk bricks never come here.  Each key (a brick) may
occupy at most half of the threads (at least one), and keys that wait are served in turn, so one slow brick never
starves another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

__all__ = ["Pool"]


class Pool:
    """`await pool.run(key, fn, *args)` runs `fn(*args)` in a thread and returns its result."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._limiter: trio.CapacityLimiter | None = None
        self._keys: dict[Any, trio.CapacityLimiter] = {}

    def resize(self, threads: int) -> None:
        """Change the number of threads; running calls go on."""
        self.threads = threads
        if self._limiter is not None:
            self._limiter.total_tokens = threads
        for limiter in self._keys.values():
            limiter.total_tokens = max(1, threads // 2)

    async def run(self, key: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """Cancellation waits for the call: a system call that was begun is never abandoned."""
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(self.threads)
        mine = self._keys.get(key)
        if mine is None:
            mine = self._keys[key] = trio.CapacityLimiter(max(1, self.threads // 2))
        async with mine:
            return await trio.to_thread.run_sync(fn, *args, limiter=self._limiter)

    def drop(self, key: Any) -> None:
        """A brick was detached."""
        self._keys.pop(key, None)

    def close(self) -> None:
        self._keys.clear()
        self._limiter = None
