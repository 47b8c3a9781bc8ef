"""A machine within the machine: private mounts, processes and network, so that a GlusterFS can run and leave no trace.

Inside, only loopback exists, /run, /var/lib/glusterd and /var/log/glusterfs are empty file systems in memory, the host's name
is `brickhost` (GlusterFS refuses bricks on `localhost`), and every process ends when the first one does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["HOST", "STATE", "WORK", "enter", "prepare", "run", "until", "why_not"]

HOST = "brickhost"
STATE = Path("/var/lib/glusterd")  # where GlusterFS keeps its volumes; fusemux reads them there
WORK = Path("/run/takeover")  # bricks and mount points
_UNSHARE = ("unshare", "-m", "-n", "-p", "-f", "--kill-child", "--mount-proc")
_HIDDEN = (Path("/run"), STATE, Path("/var/log/glusterfs"))
LIMIT_S = 60


def why_not() -> str:
    """Why it cannot be done here, or nothing."""
    missing = [
        command for command in ("glusterd", "glusterfs", "gluster", "unshare", "ip") if not shutil.which(command)
    ]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: glusterfs-server, glusterfs-client, util-linux, iproute2)"
    if os.geteuid() != 0:
        return "only root can run GlusterFS"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    tried = subprocess.run([*_UNSHARE, "mount", "-t", "tmpfs", "none", "/run"], capture_output=True, text=True)
    return f"namespaces are not possible here: {tried.stderr.strip()}" if tried.returncode else ""


def enter(arguments: Sequence[str]) -> int:
    """Run this program inside, with `arguments`; its exit status."""
    # A shell is the first process there: it waits for the orphans of others.
    command = [*_UNSHARE, "sh", "-c", '"$@"; exit $?', "sh", sys.executable, str(Path(__file__).parent), *arguments]
    return subprocess.run(command, check=False).returncode


def prepare() -> None:
    """Once, inside: hide what is the real machine's."""
    if os.getppid() != 1:
        raise SystemExit("this must run in namespaces of its own")
    hosts = Path(tempfile.mkdtemp(prefix="takeover-"), "hosts")
    hosts.write_text(f"127.0.0.1 localhost {HOST}\n")
    run("mount", "--bind", hosts, "/etc/hosts")
    shutil.rmtree(hosts.parent, ignore_errors=True)
    for folder in _HIDDEN:
        folder.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "none", folder)
    run("ip", "link", "set", "lo", "up")
    WORK.mkdir()


def run(
    *command: str | Path, check: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command and what it wrote; one that fails ends the program with that."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, env=env, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def until(what: str, true: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait until `true()`; raises RuntimeError, which says `what` did not happen."""
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {limit_s:.0f} s in vain until {what}")
        time.sleep(0.05)
