"""A server that lives as long as a `with` block of its parent: for commands and tests around one mount."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator, Sequence

from fusemux.mount.errors import Exit, MountError
from fusemux.mount.plan import PlannedMount
from fusemux.serve.daemon import Readiness, in_background
from fusemux.serve.journal import open_log
from fusemux.serve.record import Record, record_of

__all__ = ["attended"]

_PR_SET_PDEATHSIG = 1
END_S = 60


@contextlib.contextmanager
def attended(plans: Sequence[PlannedMount]) -> Iterator[Record]:
    """Serve `plans` in a child process while the body runs; then unmount, and wait for the child's end.

    When this process dies the child unmounts and ends by itself.  Raises MountError when it could not serve.
    """
    parent = os.getpid()

    def run(readiness: Readiness) -> int:
        from fusemux.serve.server import run

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            return int(Exit.USER)
        opt = plans[0].request.opt
        open_log(opt.log_file, opt.log_level if opt.log_file else "error", background=False)
        return run(plans, readiness)

    status, message = in_background(run, keep_output=True)
    if status:
        raise MountError(message, Exit(status))
    record = record_of(plans[0].path)
    assert record is not None, "a server that serves has a record"
    try:
        yield record
    finally:
        _end(record)


def _end(record: Record) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(record.pid, signal.SIGTERM)
    deadline = time.monotonic() + END_S
    while os.waitpid(record.pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(record.pid, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.005)
