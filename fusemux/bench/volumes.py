"""Throw-away volumes of fusemux itself as targets: one serving process, ramdisk bricks, gone at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fusemux.bench.targets import Target, stop_server, wait_until

__all__ = ["serve_command", "volumes"]


def serve_command(specs: Sequence[str], base: Path, options: Sequence[str], interpreter: Sequence[str]) -> list[str]:
    """The command that serves a throw-away volume of each spec below `base`, in one process, in the foreground."""
    chosen = [word for option in options for word in ("-o", option)]
    return [sys.executable, *interpreter, "-m", "fusemux", "serve", "--base", str(base), *chosen, *specs]


@contextmanager
def volumes(
    specs: Sequence[str], *, name: str = "fusemux", options: Sequence[str] = (), interpreter: Sequence[str] = ()
) -> Iterator[Target]:
    """`specs` served by one process; `options` as for mount -o; `interpreter` holds options for the server's Python."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fusemux-bench-")))
        server = subprocess.Popen(serve_command(specs, base, options, interpreter))
        places = [base / str(n) for n in range(len(specs))]
        stack.callback(stop_server, server, places)
        wait_until(lambda: all(map(os.path.ismount, places)), f"{name} serves {len(specs)} volumes", server)
        yield Target(name, places, [server.pid], places)
