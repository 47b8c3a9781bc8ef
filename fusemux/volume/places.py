"""Where fusemux keeps what must last (volume definitions) and what ends with the machine (sockets, ramdisks).

root uses the system's folders, everybody else those that the XDG base directory specification names; the environment
variables FUSEMUX_STATE_DIR and FUSEMUX_RUN_DIR override both.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["run_dir", "state_dir"]


def state_dir() -> Path:
    """The folder of volume definitions; it need not exist yet."""
    chosen = os.environ.get("FUSEMUX_STATE_DIR")
    if chosen:
        return Path(os.path.abspath(chosen))
    if os.geteuid() == 0:
        return Path("/var/lib/fusemux")
    return Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")) / "fusemux"


def run_dir() -> Path:
    """The folder of sockets, records of running servers, and ramdisks; it need not exist yet."""
    chosen = os.environ.get("FUSEMUX_RUN_DIR")
    if chosen:
        return Path(os.path.abspath(chosen))
    if os.geteuid() == 0:
        return Path("/run/fusemux")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "fusemux" if runtime else Path(tempfile.gettempdir()) / f"fusemux-{os.geteuid()}"
