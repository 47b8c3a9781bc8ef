"""Go to the background, but let the caller wait until every mount serves.

The parent waits at a pipe.  The child writes one message on it: `ready`, or an exit status and the text of the
error; when the child dies without a word the parent says how it died.  The parent exits 0 only for `ready`.

Nothing may have started a thread or an event loop before `in_background` forks.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

__all__ = ["Readiness", "in_background"]


class Readiness:
    """The child's end of the pipe; without a pipe (in the foreground) `ready` and `failed` only act here."""

    def __init__(self, pipe: int | None = None, *, keep_output: bool = False) -> None:
        self._pipe = pipe
        self._keep_output = keep_output
        self.told = False
        self.error = ""

    @property
    def in_background(self) -> bool:
        """Whether somebody waits at the other end."""
        return self._pipe is not None

    def ready(self) -> None:
        """All mounts serve: let the caller go, and let go of its terminal."""
        self.told = True
        if self._pipe is not None:
            if not self._keep_output:
                _silence()
            self._send(b"ready")

    def failed(self, status: int, message: str) -> None:
        """Nothing serves: the caller says `message` and exits with `status`."""
        self.told, self.error = True, message
        if self._pipe is not None:
            self._send(b"%d %s" % (status, message.encode(errors="surrogateescape")))

    def _send(self, message: bytes) -> None:
        assert self._pipe is not None
        try:
            while message:
                message = message[os.write(self._pipe, message) :]
        except BrokenPipeError:
            pass  # the caller was killed while it waited
        finally:
            os.close(self._pipe)
            self._pipe = None


def in_background(serve: Callable[[Readiness], int], *, keep_output: bool = False) -> tuple[int, str]:
    """Run `serve(readiness)` in a process of its own session; the exit status and error for the caller.

    Returns only in the parent.  With `keep_output` the child keeps stdout and stderr.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(serve, Readiness(writer, keep_output=keep_output))
    os.close(writer)
    try:
        return _outcome(child, _read_all(reader))
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        return 8, "interrupted; nothing is mounted"
    finally:
        os.close(reader)


def _child(serve: Callable[[Readiness], int], readiness: Readiness) -> NoReturn:
    status = 4
    try:
        os.setsid()
        os.chdir("/")
        status = serve(readiness)
    except BaseException as error:
        if not readiness.told:
            readiness.failed(4, f"{type(error).__name__}: {error}; this is a bug, --debug shows more")
        raise
    finally:
        os._exit(status)


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)


def _outcome(child: int, message: bytes) -> tuple[int, str]:
    if message == b"ready":
        return 0, ""
    if message:
        number, _, text = message.decode(errors="surrogateescape").partition(" ")
        os.waitpid(child, 0)
        return int(number), text
    _, status = os.waitpid(child, 0)
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.waitstatus_to_exitcode(status)}"
    return 32, f"the serving process ended ({how}) before it served; its log says more"


def _silence() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
