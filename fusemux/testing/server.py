"""Start, ask, end and kill the process that serves a test's volume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from fusemux.mount.errors import MountError
from fusemux.mount.table import find_word
from fusemux.serve.control import ask
from fusemux.testing.place import Place

__all__ = ["ServerProcess"]

END_S = 20
# Every call must come by: the kernel is not to read and write bricks by itself.
_OBSERVED = [word for word in ("nopassthrough",) if find_word(word)]


class ServerProcess:
    """A child of this process that serves `place`; it unmounts by itself when this process dies."""

    def __init__(self, place: Place, options: Sequence[str]) -> None:
        self.place = place
        self.options = options
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Raises RuntimeError when it does not run."""
        if self._child is None:
            raise RuntimeError("the volume is not served")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Returns when the volume serves.  Raises MountError."""
        place = self.place
        reader, writer = os.pipe2(os.O_CLOEXEC)
        options = ",".join([f"log-file={place.log}", "log-level=warning", *_OBSERVED, *self.options])
        words = [str(writer), str(os.getpid()), place.spec, str(place.path), options, *map(str, place.folders)]
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "fusemux.testing.child", *words],
                env=place.environment, cwd="/", pass_fds=[writer], start_new_session=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        finally:
            os.close(writer)
        with open(reader, "rb") as pipe:
            message = pipe.read().decode(errors="surrogateescape")
        if message != "ready":
            self._child.wait()
            self._child = None
            raise MountError(message.partition(" ")[2] or "the serving process ended before it served")

    def ask(self, op: str, *, timeout_s: float = 60, **arguments: Any) -> Any:
        """Raises Refused, and Unreachable when it is not there."""
        socket = self.place.root / "run" / "servers" / f"{self.pid}.sock"
        return ask(socket, op, timeout_s=timeout_s, **arguments)

    def kill(self) -> None:
        """SIGKILL: the mount becomes stale."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def wait_ended(self, within_s: float) -> bool:
        """Whether it ends by itself in time."""
        if self._child is None:
            return True
        try:
            self._child.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """SIGTERM: it unmounts and lets go; killed when that takes too long."""
        if self._child is None:
            return
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._child = None
