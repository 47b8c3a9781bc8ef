"""The process: what all graphs and bricks in it share.

Whatever exists once in a process belongs here and nowhere else: the thread pool, the log level, the clock, the
source of gfids, the table of bricks served from here, the tasks that outlive a fop.  Translators only
request (`request("pool-threads", self, 8)`); the process decides (the largest request wins for threads, the last
for the log level) and what it decided can be observed.  GlusterFS lets each translator set such knobs itself, and
in 2016 an option thus never reached the threads it was for.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import trio

from fusemux.graph.framework.gfids import Gfids

if TYPE_CHECKING:
    from fusemux.graph.framework.translator import Translator

__all__ = ["AttachedBrick", "Past", "Process"]


class Past(Enum):
    """How the last run of a brick ended, as it knows itself (bricks/features/run.py)."""

    NEW = "new"  # it does not know
    CLEAN = "clean"
    CRASHED = "crashed"  # the process died; what it had written is there
    ROLLED_BACK = "rolled back"  # the machine went down; what was not synced may be gone


class AttachedBrick(Protocol):
    """What a leaf of the client graph needs to know of a brick in this process."""

    path: str
    up: bool
    past: Past
    session: object  # a new one each time the brick comes up: open files do not outlive it

    edge: Any  # an Edge, or what answers like one: to the top of the brick's own graph, while it is up
    fd_slots: int  # how many slots the brick's graph wants in its open files

    def watch(self, listener: Callable[[bool], None]) -> None:
        """Call `listener(up)` whenever the brick comes up or goes down."""

    def unwatch(self, listener: Callable[[bool], None]) -> None: ...

    def fail(self, call: str, error: Exception) -> None:
        """`call` raised what no fop may raise: the brick goes down."""


class Process:
    """Shared by every graph of this process.  Enter it as an async context; background tasks end with it."""

    def __init__(
        self,
        *,
        strict: bool | None = None,
        pool_threads: int = 8,
        seed: int | None = None,
        log_level: int = logging.INFO,
    ) -> None:
        """`strict` None: as the environment says (FUSEMUX_STRICT=1), which reaches processes that tests start."""
        self.strict = os.environ.get("FUSEMUX_STRICT", "0") not in ("", "0") if strict is None else strict
        self.bricks: dict[str, AttachedBrick] = {}
        self._expecting: dict[str, list[Callable[[], None]]] = {}
        self.links = 0  # how often any graph was linked: whoever remembers answers compares it
        self.random = random.Random(seed) if seed is not None else random.SystemRandom()
        self.new_gfid = Gfids(random.Random(self.random.getrandbits(128))).new
        self._requests: dict[str, dict[Translator, Any]] = {}
        self._own_pool_threads = pool_threads
        self.own_log_level = log_level  # while nobody asks for another
        self._appliers: dict[str, Callable[[], None]] = {}
        self._nursery: trio.Nursery | None = None
        self._nursery_manager: Any = None
        from fusemux.graph.framework.pool import Pool

        self.pool = Pool(pool_threads)
        self._appliers["pool-threads"] = self._apply_pool_threads
        self._appliers["log-level"] = self._apply_log_level

    # -- life cycle ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Process:
        self._nursery_manager = trio.open_nursery()
        self._nursery = await self._nursery_manager.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> Any:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()
        try:
            return await self._nursery_manager.__aexit__(*exc)
        except BaseExceptionGroup as group:
            # Background tasks contain their errors, so what the nursery wrapped is what left the body: let it through bare.
            if list(group.exceptions) == [exc[1]]:
                return False
            raise
        finally:
            self._nursery = None
            self.pool.close()

    def spawn(self, task: Callable[..., Awaitable[None]], *args: Any, name: str | None = None) -> trio.CancelScope:
        """Run `task` in the background until it ends, its scope is cancelled or the process ends.

        An exception in it is logged and ends only that task: one brick or volume never takes the process with it.
        """
        if self._nursery is None:
            raise RuntimeError("the Process was not entered")
        scope = trio.CancelScope()
        self._nursery.start_soon(_contained, scope, task, args, name=name or repr(task))
        return scope

    # -- bricks ----------------------------------------------------------------------------------------------

    def attach_brick(self, brick: AttachedBrick) -> None:
        """`brick` is served from here now."""
        self.bricks[brick.path] = brick
        self.brick_changed(brick.path)

    def detach_brick(self, brick: AttachedBrick) -> None:
        if self.bricks.get(brick.path) is brick:
            del self.bricks[brick.path]
            self.brick_changed(brick.path)

    def expect_brick(self, path: str, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the brick at `path`, there or not yet, is attached, comes up, goes down, is detached."""
        self._expecting.setdefault(path, []).append(listener)

    def unexpect_brick(self, path: str, listener: Callable[[], None]) -> None:
        listeners = self._expecting.get(path, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners:
            self._expecting.pop(path, None)

    def brick_changed(self, path: str) -> None:
        """Tell those who expect the brick at `path`."""
        for listener in list(self._expecting.get(path, ())):
            listener()

    # -- process-wide settings -------------------------------------------------------------------------------

    def request(self, setting: str, who: Translator, value: Any) -> None:
        """Ask for a process-wide setting; None withdraws the request.  Settings: pool-threads, log-level."""
        if setting not in self._appliers:
            raise KeyError(f"no process-wide setting {setting!r}")
        asked = self._requests.setdefault(setting, {})
        asked.pop(who, None)
        if value is not None:
            asked[who] = value
        self._appliers[setting]()

    def withdraw(self, who: Translator) -> None:
        """`who` has ended: nothing it asked for counts any more.  The graph calls this when it stops."""
        for setting, asked in self._requests.items():
            if asked.pop(who, None) is not None:
                self._appliers[setting]()

    def _apply_pool_threads(self) -> None:
        asked = self._requests.get("pool-threads", {}).values()
        self.pool.resize(max(asked, default=self._own_pool_threads))

    def _apply_log_level(self) -> None:
        asked = list(self._requests.get("log-level", {}).values())
        logging.getLogger("fusemux").setLevel(asked[-1] if asked else self.own_log_level)


async def _contained(scope: trio.CancelScope, task: Callable[..., Awaitable[None]], args: tuple[Any, ...]) -> None:
    with scope:
        try:
            await task(*args)
        except Exception:
            logging.getLogger("fusemux").exception("background task %r ended", task)
