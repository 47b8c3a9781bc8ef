"""The two owners that a set of bricks can have: GlusterFS's daemons, or one process of fusemux."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from machine import HOST, STATE, WORK, run, until

__all__ = ["Fusemux", "GlusterFS"]

VOLUME = "gv"
ROOT = Path(__file__).resolve().parents[2]


class GlusterFS:
    """glusterd, and the volume while it is started."""

    def __init__(self) -> None:
        config = WORK / "glusterd.vol"
        config.write_text(
            f"volume management\n type mgmt/glusterd\n option working-directory {STATE}\n"
            " option transport-type socket\n option transport.socket.bind-address 127.0.0.1\nend-volume\n"
        )
        run("glusterd", "-f", config, "-p", WORK / "glusterd.pid")
        until("glusterd answers", lambda: self._asked("volume", "list", check=False) is not None)
        self.point = WORK / "gluster-mount"
        self.point.mkdir()

    @staticmethod
    def _asked(*words: str | Path, check: bool = True) -> str | None:
        done = run("gluster", "--mode=script", *words, check=check)
        return None if done.returncode else done.stdout

    def create(self, words: Sequence[str], bricks: list[Path]) -> None:
        self._asked("volume", "create", VOLUME, *words, *[f"{HOST}:{brick}" for brick in bricks], "force")

    def start(self) -> None:
        """Also brings bricks back that are down."""
        self._asked("volume", "start", VOLUME, "force")
        until("all bricks are online", lambda: len(self._pids()) == len(self._pid_files()))

    def _pid_files(self) -> list[Path]:
        return sorted(Path("/run/gluster/vols", VOLUME).glob("*.pid"))

    def _pids(self) -> dict[str, int]:
        """Running bricks by the end of their path."""
        found = {}
        for file in self._pid_files():
            with contextlib.suppress(OSError, ValueError):
                pid = int(file.read_text())
                if "(glusterfsd)" in Path(f"/proc/{pid}/stat").read_text():
                    found[file.stem.rpartition("-")[2]] = pid
        return found

    def kill(self, brick: Path) -> None:
        os.kill(self._pids()[brick.name], signal.SIGKILL)
        until(f"brick {brick.name} is gone", lambda: brick.name not in self._pids())

    def stop(self) -> None:
        self._asked("volume", "stop", VOLUME, "force")
        until("all bricks are gone", lambda: not self._pids())

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """A fresh mount, which sees all bricks."""
        log = WORK / "client.log"
        run("mount", "-t", "glusterfs", "-o", f"log-file={log},log-level=INFO", f"{HOST}:/{VOLUME}", self.point)
        try:
            yield self.point
        finally:
            run("umount", self.point)

    def complaints(self) -> list[str]:
        """What the client's log has of errors, and of layouts that do not fit together."""
        text = (WORK / "client.log").read_text()
        return re.findall(r"^\[[^\]]*\] [EC] .*|.*(?:ismatching layout|anomalies).*", text, re.MULTILINE)

    def heal(self) -> None:
        """Have the self-heal daemon look now, until nothing is listed."""
        self._asked("volume", "heal", VOLUME, check=False)
        until("heal info lists nothing", self._settled)

    def _settled(self) -> bool:
        self._asked("volume", "heal", VOLUME, check=False)  # until the daemon is connected it refuses
        return self.pending() == 0

    def pending(self) -> int:
        """How many entries heal info lists; -1 when a brick did not answer."""
        text = self._asked("volume", "heal", VOLUME, "info", check=False) or ""
        counts = re.findall(r"^Number of entries: (\S+)", text, re.MULTILINE)
        return sum(map(int, counts)) if counts and all(map(str.isdigit, counts)) else -1


class Fusemux:
    """fusemux, given GlusterFS's own folder of volumes."""

    def __init__(self) -> None:
        self.env = os.environ | {
            "PYTHONPATH": str(ROOT), "FUSEMUX_STATE_DIR": str(STATE), "FUSEMUX_RUN_DIR": str(WORK / "fusemux"),
        }  # fmt: skip
        self.point = WORK / "fusemux-mount"
        self.point.mkdir()
        self.log = WORK / "fusemux.log"

    def __call__(self, *words: str | Path, check: bool = True) -> str:
        return run(sys.executable, "-m", "fusemux", *words, check=check, env=self.env).stdout

    def create(self, words: Sequence[str], bricks: list[Path]) -> None:
        self("volume", "create", VOLUME, *words, *bricks)

    def mount(self, *options: str) -> Path:
        """With `options` for this mount only."""
        self("mount", VOLUME, self.point, "-o", ",".join([f"log-file={self.log}", "log-level=warning", *options]))
        return self.point

    def umount(self) -> None:
        self("umount", self.point)

    @contextlib.contextmanager
    def mounted(self, *options: str) -> Iterator[Path]:
        point = self.mount(*options)
        try:
            yield point
        finally:
            self.umount()

    def crash(self) -> None:
        """kill -9, and clear what is left of the mount."""
        server = json.loads(self("status", "--json"))["servers"][0]["pid"]
        os.kill(server, signal.SIGKILL)
        until("the server is gone", lambda: not Path(f"/proc/{server}/status").exists())
        self("umount", self.point)

    def faults_fired(self) -> int:
        return sum(fault["fired"] for fault in json.loads(self("fault", "list", VOLUME, "--json")))

    def kill(self, brick: Path) -> None:
        self("brick", "kill", VOLUME, brick)

    def heal(self) -> None:
        until(
            "fusemux has nothing to heal", lambda: (self("volume", "heal", VOLUME, check=False), self.pending() == 0)[1]
        )

    def pending(self) -> int:
        rows = json.loads(self("volume", "heal", VOLUME, "info", "--json"))
        return sum(len(row["entries"]) if row["entries"] is not None else 1 for row in rows)

    def complaints(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []
