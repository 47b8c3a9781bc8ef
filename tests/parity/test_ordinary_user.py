"""The parity suite as an ordinary user, whose bricks keep owners and `trusted.*` under other names.

root starts it in a mount namespace where the user may open /dev/fuse and read the interpreter; the user has no capabilities.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fusemux.private import needs_namespace
from tests.mounting import ROOT, Place

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(400), needs_namespace]

NOBODY = 65534
AS_NOBODY = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups"


def closed_ancestor(path: Path) -> Path | None:
    """The outermost folder on the way to `path` that others may not enter."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), None)


def opened(base: Path) -> list[str]:
    """Shell commands that let everybody reach the interpreter and the checkout, in this namespace."""
    lines: list[str] = []
    closed: dict[Path, list[Path]] = {}
    for path in {Path(name).resolve() for name in (sys.base_prefix, sys.prefix, ROOT)}:
        ancestor = closed_ancestor(path)
        if ancestor is not None:
            closed.setdefault(ancestor, []).append(path)
    for ancestor, paths in closed.items():
        kept = [(shlex.quote(str(base / f"kept{place}")), shlex.quote(str(path))) for place, path in enumerate(paths)]
        lines += [f"mkdir {stash}; mount --bind {path} {stash}" for stash, path in kept]
        lines.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(str(ancestor))}")
        lines += [f"mkdir -p {path}; mount --bind {stash} {path}" for stash, path in kept]
    return lines


def test_an_ordinary_users_volume_does_what_tmpfs_does(volume_place: Place) -> None:
    base = volume_place.root
    base.chmod(0o755)
    (base / "own").mkdir()
    os.chown(base / "own", NOBODY, NOBODY)
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={base}/own/pytest",
             "tests/parity/test_scripts.py", "-k", "2x2 and kernel"]  # fmt: skip
    script = [
        "set -eu",
        *opened(base),
        f"mkdir {base}/node; mount -t tmpfs -o dev none {base}/node",
        f"mknod -m 666 {base}/node/fuse c 10 229; mount --bind {base}/node/fuse /dev/fuse",
        f"cd {shlex.quote(str(ROOT))}",
        f"exec {AS_NOBODY} env HOME={base}/own {shlex.join(suite)}",
    ]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", "\n".join(script)],
        env=volume_place.env, capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert "passed" in done.stdout
