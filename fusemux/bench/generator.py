"""The load generator's program: built once into the user's cache, found there, or stood in for by Python.

The C program (loadgen/) is what figures are taken with: 100 threads of it do 70,000 cycles a second on a tmpfs and more,
so it is never the limit.  Where there is no C compiler its Python twin (`python_load`) puts the same load with several
processes and says so in every report; it does perhaps a quarter of that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fusemux.graph.framework.errors import FusemuxError

__all__ = ["build_load_generator", "load_command"]

SOURCES = Path(__file__).parent / "loadgen"


def load_command(*, python: bool = False) -> list[str]:
    """The command that starts the load generator; built first where it is not there yet.

    With `python`, or where no compiler is found, the Python twin.  FUSEMUX_LOAD names another program.
    """
    if given := os.environ.get("FUSEMUX_LOAD"):
        return [given]
    if not python and (built := build_load_generator()):
        return [str(built)]
    return [sys.executable, "-m", "fusemux.bench.python_load"]


def build_load_generator() -> Path | None:
    """The path of the built C program, or None without a compiler.  Raises FusemuxError when it does not compile."""
    target = cache_directory() / f"fusemux-load-{_fingerprint()}"
    if target.exists():
        return target
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fresh = Path(scratch) / "fusemux-load"
        sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
        done = subprocess.run(
            [compiler, "-O2", "-pthread", "-o", str(fresh), *sources], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise FusemuxError(
                f"the load generator does not compile with {compiler}; --python-load does without:\n{done.stderr}"
            )
        fresh.replace(target)
    return target


def cache_directory() -> Path:
    """Where what was built is kept: `$XDG_CACHE_HOME/fusemux`, by default `~/.cache/fusemux`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "fusemux"


def _fingerprint() -> str:
    """Changes with the sources and the kind of machine, so that an old program is never taken for the new one."""
    digest = hashlib.sha256(os.uname().machine.encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
