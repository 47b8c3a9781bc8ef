"""`fusemux`: the command line.

Nothing heavy is imported before a command needs it, and no user sees a traceback: errors are one line that names the thing
and the way out (`--debug` shows the rest).  Exit status: 0 done, 1 failed, 2 usage, 4 a bug, 8 interrupted; `mount` exits as
mount(8), `try` as what it ran.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from fusemux.cli.output import Output
from fusemux.cli.parser import COMMANDS, UsageError, parse
from fusemux.graph.framework.errors import FusemuxError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """The console script `fusemux`."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        return _run(words)
    except UsageError as error:
        return _failed(error, 2, debug)
    except FusemuxError as error:
        return _failed(error, int(getattr(error, "exit", 1)), debug)
    except KeyboardInterrupt:
        return 8
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read the output has seen enough
        return 1
    except Exception as error:
        if debug:
            raise
        print(f"error: {type(error).__name__}: {error}; this is a bug, --debug shows more", file=sys.stderr)
        return 4


def _failed(error: FusemuxError, status: int, debug: bool) -> int:
    if debug:
        raise error
    print(f"error: {error}", file=sys.stderr)
    return status


def _run(words: list[str]) -> int:
    if words[:1] == ["bench"]:
        from fusemux.bench import main as bench

        return int(bench(words[1:]) or 0)
    if _is_mount_fuse(words):
        from fusemux.mount.main import main as mount

        return mount(words)
    arguments = parse(words)
    if arguments.version:
        from fusemux import __version__

        print(f"fusemux {__version__}")
        return 0
    module, _, function = arguments.run.partition(":")
    command = getattr(importlib.import_module(f"fusemux.cli.{module}"), function)
    status = command(arguments, Output(as_json=getattr(arguments, "json", False)))
    sys.stdout.flush()
    return int(status or 0)


def _is_mount_fuse(words: list[str]) -> bool:
    """Whether libfuse's mount.fuse3 called: it runs `fusemux SPEC DIR -o OPTIONS` for `mount -t fuse.fusemux`."""
    return len(words) >= 4 and words[2] == "-o" and words[0] not in COMMANDS and not words[0].startswith("-")
