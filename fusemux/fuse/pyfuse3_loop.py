"""The event loop as pyfuse3 shall see it: one reader, no lock, no task switch for a request that does not wait.

pyfuse3 reads /dev/fuse in a changing number of tasks that take turns behind a lock.  On ramdisks no request ever waits,
so that a task, a lock and a trip through trio's scheduler for each request are three quarters of what it costs.  pyfuse3 looks
up everything it needs of trio in its global `trio`, and its own asyncio support works by putting something else there; so does this:

* `Lock` locks nothing: there is only one reader.
* `wait_readable` looks first whether a request is there already, or comes within a moment, and asks trio only then.  At least every
  `_TURN_S` all other tasks of the loop run.
* A task that pyfuse3 starts as the next reader is only kept as a spare.  It really starts when the current
  reader's request suspends (`suspended`), and readers in excess end by themselves (`min_tasks=0`).
"""

from __future__ import annotations

import errno
import select
from collections.abc import Awaitable, Callable
from time import monotonic
from types import TracebackType
from typing import Any

import trio

__all__ = ["ReaderLoop"]

_TURN_S = 0.001  # other tasks wait no longer than this for their turn
_WAIT_MS = 1  # how long to wait for the next request before trio is asked

_Task = Callable[..., Awaitable[None]]


class ReaderLoop:
    """Put in the place of `pyfuse3.trio` before its `main` runs."""

    ClosedResourceError = trio.ClosedResourceError

    def __init__(self) -> None:
        self.lowlevel = self
        self._nursery: trio.Nursery | None = None
        self._spares: list[tuple[_Task, tuple[Any, ...], str | None]] = []
        self._waiting = 0  # requests that are suspended
        self._turn_ends = 0.0
        self._poll: select.poll | None = None
        self._closing = False

    # -- what pyfuse3 uses of trio ---------------------------------------------------------------------------

    def Lock(self) -> ReaderLoop:
        return self

    async def __aenter__(self) -> ReaderLoop:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def open_nursery(self) -> _Readers:
        return _Readers(self)

    @staticmethod
    def current_task() -> trio.lowlevel.Task:
        return trio.lowlevel.current_task()

    @staticmethod
    def current_trio_token() -> trio.lowlevel.TrioToken:
        return trio.lowlevel.current_trio_token()

    def notify_closing(self, fd: int) -> None:
        self._closing = True
        trio.lowlevel.notify_closing(fd)

    async def wait_readable(self, fd: int) -> None:
        poll = self._poll
        if poll is None:
            poll = self._poll = select.poll()
            poll.register(fd, select.POLLIN)
        if self._closing:
            raise trio.ClosedResourceError
        if monotonic() < self._turn_ends and poll.poll(0 if self._waiting else _WAIT_MS):
            return
        await trio.lowlevel.wait_readable(fd)
        self._turn_ends = monotonic() + _TURN_S

    # -- readers ---------------------------------------------------------------------------------------------

    def keep_spare(self, task: _Task, args: tuple[Any, ...], name: str | None) -> None:
        if not self._spares and self._nursery is not None and not self._nursery.child_tasks:
            self._nursery.start_soon(self._read, task, args, name=name)  # the first
        else:
            self._spares.append((task, args, name))

    async def _read(self, task: _Task, args: tuple[Any, ...]) -> None:
        """Run a reader.  It fails when a request was taken back between waiting and reading: then it begins anew."""
        while True:
            try:
                await task(*args)
                return
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise

    def suspended(self) -> None:
        """The request that is being served waits for something: another task shall read."""
        self._waiting += 1
        if self._spares and self._nursery is not None:
            task, args, name = self._spares.pop()
            self._nursery.start_soon(self._read, task, args, name=name)

    def resumed(self) -> None:
        self._waiting -= 1


class _Readers:
    """The nursery of pyfuse3's `main`."""

    def __init__(self, loop: ReaderLoop) -> None:
        self._loop = loop
        self._manager = trio.open_nursery()

    async def __aenter__(self) -> _Readers:
        self._loop._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._manager.__aexit__(kind, error, trace)
        finally:
            self._loop._nursery = None

    def start_soon(self, task: _Task, *args: Any, name: str | None = None) -> None:
        self._loop.keep_spare(task, args, name)
