"""Start a serving process, in the background with a readiness handshake, or here."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fusemux.graph.framework.errors import FusemuxError
from fusemux.mount.errors import Exit, MountError
from fusemux.mount.plan import PlannedMount
from fusemux.serve.daemon import Readiness, in_background
from fusemux.serve.journal import open_log

__all__ = ["serve"]


def serve(plans: Sequence[PlannedMount], *, foreground: bool | None = None, folders: Sequence[str] = ()) -> int:
    """Serve `plans`.  In the background: returns 0 when all of them serve; else: the status with which the server ended.

    Raises MountError when it could not serve.  The first plan's options decide (foreground, log, binding).
    """
    opt = plans[0].request.opt
    here = opt.foreground if foreground is None else foreground
    try:
        open_log(opt.log_file, opt.log_level, background=not here)  # an unusable log file is told at once
    except FusemuxError as error:
        raise MountError(str(error)) from None

    def run(readiness: Readiness) -> int:
        from fusemux.serve.server import run

        return run(plans, readiness, folders=folders)

    if here:
        sys.stdout.flush()
        failure = Readiness()
        status = run(failure)
        if failure.error:
            raise MountError(failure.error, Exit(status))
        return status
    status, message = in_background(run)
    if status:
        raise MountError(message, Exit(status))
    return 0
