"""The serving process of a test's volume: `python -m fusemux.testing.child PIPE PARENT SPEC PATH OPTIONS [FOLDER ...]`.

It tells readiness on the pipe and serves until SIGTERM, which it also gets when the test's process dies; then it
unmounts and, because nobody else will, removes the folders.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main(argv: Sequence[str]) -> int:
    pipe, parent, spec, path, options, *folders = argv
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        return 8
    from fusemux.graph.framework.errors import FusemuxError
    from fusemux.mount.parsing import parse
    from fusemux.mount.plan import plan_mount
    from fusemux.mount.preflight import check_target
    from fusemux.serve.daemon import Readiness
    from fusemux.serve.journal import open_log
    from fusemux.serve.server import run

    readiness = Readiness(int(pipe), keep_output=True)
    try:
        request = parse([options])
        open_log(request.opt.log_file, request.opt.log_level, background=False)
        plan = plan_mount(spec, check_target(path, replace_stale=True), request)
        status = run([plan], readiness)
    except FusemuxError as error:
        status = int(getattr(error, "exit", 32))
        readiness.failed(status, str(error))
    if os.getppid() != int(parent):
        from fusemux.testing.place import remove

        remove([Path(folder) for folder in folders])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
