"""Testing now and then whether the file system under a brick still works.

One task serves all bricks of the process.  A test writes the time to `.glusterfs/health_check` and reads it back, in the
thread when it may wait, because a dying disk may never answer; a brick whose test fails, or takes longer than it may, is
reported to its graph as down and tested no more until it is started again.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import trio

from fusemux.graph.framework.process import Process

__all__ = ["Health", "health_of", "probe"]

log = logging.getLogger("fusemux.bricks")


def probe(path: str) -> None:
    """Write and read back in the brick at `path`.  Raises OSError."""
    text = time.strftime("%Y-%m-%d %H:%M:%S").encode()
    fd = os.open(f"{path}/.glusterfs/health_check", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, text, 0)
        if os.pread(fd, 64, 0) != text:
            raise OSError(errno.EIO, "what was written reads back differently")
    finally:
        os.close(fd)


@dataclass
class _Watched:
    """One brick: how to test it, how often, and whom to tell."""

    path: str
    interval_s: float
    timeout_s: float
    waits: bool  # its file system may block
    failed: Callable[[str], None]
    due: float


class Health:
    """The tests of all bricks of one process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._watched: dict[str, _Watched] = {}
        self._scope: trio.CancelScope | None = None

    def watch(
        self, path: str, interval_s: float, timeout_s: float, *, waits: bool, failed: Callable[[str], None]
    ) -> None:
        """Test the brick at `path` every `interval_s`; call `failed(why)` once when it fails.

        With `waits` the test runs in a thread and may take `timeout_s` (0: any time).
        """
        due = trio.current_time() + interval_s
        self._watched[path] = _Watched(path, interval_s, timeout_s or float("inf"), waits, failed, due)
        self._restart()

    def unwatch(self, path: str) -> None:
        if self._watched.pop(path, None) is not None:
            self._restart()

    def _restart(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None
        if self._watched:
            self._scope = self.process.spawn(self._run, name="brick health")

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            while self._watched:
                await trio.sleep_until(min(brick.due for brick in self._watched.values()))
                now = trio.current_time()
                for brick in list(self._watched.values()):
                    if brick.due <= now:
                        brick.due = now + max(brick.interval_s, brick.timeout_s if brick.waits else 0)
                        nursery.start_soon(self._test, brick)

    async def _test(self, brick: _Watched) -> None:
        why = f"no answer within {brick.timeout_s:g} s"
        with trio.move_on_after(brick.timeout_s):
            try:
                if brick.waits:
                    await trio.to_thread.run_sync(probe, brick.path, abandon_on_cancel=True)
                else:
                    probe(brick.path)
            except OSError as error:
                why = error.strerror or str(error)
            else:
                brick.due = trio.current_time() + brick.interval_s
                return
        if self._watched.get(brick.path) is brick:
            del self._watched[brick.path]
            log.error("brick %s failed its health check: %s", brick.path, why)
            brick.failed(why)


_of_process: WeakKeyDictionary[Process, Health] = WeakKeyDictionary()


def health_of(process: Process) -> Health:
    health = _of_process.get(process)
    if health is None:
        health = _of_process[process] = Health(process)
    return health
