"""How pyfuse3's operations are run: driven in place, with errors translated and faults contained."""

from __future__ import annotations

import errno
import logging
import stat
import types
from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from typing import Any

import pyfuse3
from pyfuse3 import EntryAttributes, FUSEError, RequestContext

from fusemux.fuse.binding import MountOptions
from fusemux.fuse.pyfuse3_loop import ReaderLoop
from fusemux.fuse.pyfuse3_volume import Pyfuse3Volume
from fusemux.fuse.routes import Routes
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Frame

__all__ = ["ServedOperations", "frame_of", "served"]

log = logging.getLogger("fusemux.fuse")
_LOGGED_MAX = 256


def frame_of(ctx: RequestContext) -> Frame:
    """The caller of a request."""
    return Frame(ctx.uid, ctx.gid, ctx.pid, ctx.umask)


class ServedOperations(pyfuse3.Operations):
    """What the operations share."""

    supports_dot_lookup = True

    def __init__(
        self, routes: Routes[Pyfuse3Volume], loop: ReaderLoop, on_init: Callable[[], None], options: MountOptions
    ) -> None:
        super().__init__()
        self.routes = routes
        self.many = len(routes.volumes) > 1
        self.loop = loop
        self.on_init = on_init
        self.enable_writeback_cache = options.writeback_cache
        self.enable_acl = options.posix_acl
        self.usual_count = 128  # entries that a directory reply holds
        self.dot = EntryAttributes()
        self.dot.st_mode = stat.S_IFDIR
        self._logged: set[tuple[str, str, int]] = set()

    def init(self) -> None:
        """The kernel has said hello; the answer leaves when this returns."""
        self.on_init()

    def report(self, name: str, args: tuple[Any, ...], fault: BaseException) -> None:
        """Log what an operation raised, in full the first time."""
        trace = fault.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        key = (name, type(fault).__name__, trace.tb_lineno if trace is not None else 0)
        shown = ", ".join(repr(arg)[:80] for arg in args if isinstance(arg, int | bytes))
        if key in self._logged or len(self._logged) >= _LOGGED_MAX:
            log.debug("%s(%s) failed again: %r", name, shown, fault)
            return
        self._logged.add(key)
        log.error("%s(%s) raised, answered EIO", name, shown, exc_info=fault)


def served(operation: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
    """Drive `operation` in place: without a task when it does not suspend.

    When it does, the loop lets another task read requests meanwhile.
    """
    name = operation.__name__

    @wraps(operation)
    @types.coroutine
    def serve(self: ServedOperations, *args: Any) -> Generator[Any, Any, Any]:
        try:
            call = operation(self, *args)
            try:
                trap = call.send(None)
            except StopIteration as done:
                return done.value
            self.loop.suspended()
            try:
                return (yield from _rest(call, trap))
            finally:
                self.loop.resumed()
        except FopError as error:
            raise FUSEError(error.errno) from None
        except Exception as fault:
            self.report(name, args, fault)
            raise FUSEError(errno.EIO) from None

    return serve


def _rest(call: Coroutine[Any, Any, Any], trap: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine that was driven up to `trap`."""
    try:
        while True:
            try:
                sent = yield trap
            except BaseException as thrown:
                trap = call.throw(thrown)
            else:
                trap = call.send(sent)
    except StopIteration as done:
        return done.value
