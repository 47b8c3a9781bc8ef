"""Throw-away volumes of fusemux itself as targets: one serving process, ramdisk bricks, gone at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fusemux.bench.targets import Target, mounted_below, stop_server, wait_until

__all__ = ["sized", "volumes"]

PROGRAM = ("-m", "fusemux")


def sized(spec: str, wanted_bytes: int) -> str:
    """`spec` with bricks that have room for `wanted_bytes` each, unless it says itself how big they are."""
    return spec if "size=" in spec else f"{spec},size={(wanted_bytes >> 20) + 256}M"


@contextmanager
def volumes(
    specs: Sequence[str], *, name: str = "fusemux", options: Sequence[str] = (), program: Sequence[str] = PROGRAM
) -> Iterator[Target]:
    """`specs` served by one process; `options` as for mount -o; `program` stands in for fusemux's command line.

    The server has a run directory of its own, so that it neither sees nor disturbs what else is mounted here.
    """
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fusemux-bench-")))
        places = [base / "mnt" / str(number) for number in range(len(specs))]
        for place in places:
            place.mkdir(parents=True)
        chosen = [word for option in options for word in ("-o", option)]
        words = [f"{spec}:{place}" for spec, place in zip(specs, places, strict=True)]
        log = stack.enter_context(open(base / "log", "w+b"))
        server = subprocess.Popen(
            [sys.executable, *program, "serve", *chosen, *words],
            env=os.environ | {"FUSEMUX_RUN_DIR": str(base / "run"), "FUSEMUX_STRICT": "0"}, stderr=log,
        )  # fmt: skip
        stack.callback(_show_trouble, Path(log.name))
        stack.callback(_stop, server, base)
        wait_until(lambda: all(map(os.path.ismount, places)), f"{name} serves {len(specs)} volumes", server)
        yield Target(name, places, [server.pid], places)


def _show_trouble(log: Path) -> None:
    """What the server logged beyond information; nothing when all went well."""
    for line in log.read_text(errors="replace").splitlines():
        if not re.match(r"\[[^]]*\] [IDT] ", line):
            print(f"server: {line}", file=sys.stderr)


def _stop(server: subprocess.Popen[bytes], base: Path) -> None:
    """Ask it to end, which unmounts; insist when it does not.  Nothing stays mounted below `base`."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(20)
    stop_server(server, mounted_below(base))
