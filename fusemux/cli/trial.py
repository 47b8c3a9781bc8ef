"""`fusemux try SPEC --run CMD`: a throw-away volume around one command.

The volume is mounted at a fresh directory, which the command finds in $FUSEMUX_MNT.  Signals go to the command; its status is
ours.  When we are killed the server hears of it (PR_SET_PDEATHSIG) and cleans up by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from types import FrameType

from fusemux.cli.mounts import request_of
from fusemux.cli.output import Output
from fusemux.mount.errors import Exit, MountError
from fusemux.mount.plan import PlannedMount, plan_mount
from fusemux.mount.preflight import check_fuse

__all__ = ["try_"]

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def try_(arguments: Namespace, output: Output) -> int:
    from fusemux.serve.attended import attended

    request = request_of(arguments)
    check_fuse(allow_other=request.opt.allow_other)
    mount = tempfile.mkdtemp(prefix="fusemux-try-")
    try:
        plan = plan_mount(arguments.spec, os.path.realpath(mount), request)
        _only_throwaway(plan)
        with attended([plan]):
            status = _run(arguments.shell_command, mount)
    finally:
        os.rmdir(mount)
    output.result({"spec": arguments.spec, "status": status}, "") if output.as_json else None
    return status


def _only_throwaway(plan: PlannedMount) -> None:
    if not plan.source.throwaway:
        raise MountError(
            f"{plan.shown!r} is no throw-away volume; mount it with: fusemux mount {plan.shown} DIR", Exit.USAGE
        )


def _run(command: str | None, mount: str) -> int:
    """The status of `command`, as a shell tells it: 128 + n when signal n killed it."""
    shell = os.environ.get("SHELL", "/bin/sh")
    words = ["/bin/sh", "-c", command] if command is not None else [shell]
    if command is None:
        print(f"a shell in the volume; leave it to throw the volume away ({mount})", file=sys.stderr)
    with _forwarding() as forward_to:
        child = subprocess.Popen(
            words, env={**os.environ, "FUSEMUX_MNT": mount}, cwd=mount if command is None else None
        )
        forward_to(child)
        status = child.wait()
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def _forwarding() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Take the signals that are meant for the command; the ones that come before it is there wait for it."""
    children: list[subprocess.Popen[bytes]] = []
    waiting: list[int] = []

    def take(number: int, frame: FrameType | None) -> None:
        if not children:
            waiting.append(number)
        elif number != signal.SIGINT or not sys.stdin.isatty():  # a terminal's Ctrl-C reaches the command by itself
            children[0].send_signal(number)

    def forward_to(child: subprocess.Popen[bytes]) -> None:
        children.append(child)
        for number in waiting:
            child.send_signal(number)

    before = {number: signal.signal(number, take) for number in _FORWARDED}
    try:
        yield forward_to
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
