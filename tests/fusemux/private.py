"""Shell scripts in a mount namespace of their own: what they mount, hide or replace, nobody else sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounting import ROOT, Place

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
needs_namespace = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None,
    reason="needs root and util-linux for a mount namespace",
)

# Functions for the scripts.  The last process in the namespace takes its mounts with it.
_PRELUDE = """
set -eu
without_dev_fuse() {
    mkdir -p "$BASE/dev"; mount -t tmpfs -o mode=755 none "$BASE/dev"
    for node in null urandom zero shm; do
        if [ -d /dev/$node ]; then mkdir "$BASE/dev/$node"; else touch "$BASE/dev/$node"; fi
        mount --bind /dev/$node "$BASE/dev/$node"
    done
    mount --rbind "$BASE/dev" /dev
}
dev_fuse_for_all() {
    mkdir -p "$BASE/node"; mount -t tmpfs -o dev none "$BASE/node"
    mknod -m 666 "$BASE/node/fuse" c 10 229; mount --bind "$BASE/node/fuse" /dev/fuse
}
with_helpers() {  # what `fusemux install-helper` does, in a /sbin that only we see
    mkdir -p "$BASE/sbin"; mount --bind /usr/sbin "$BASE/sbin"; mount -t tmpfs none /usr/sbin
    ln -s "$BASE"/sbin/* /usr/sbin
    $FUSEMUX install-helper --target "$BASE/mount.fusemux"
}
as_nobody() {  # an ordinary user that may read the interpreter's files wherever they lie
    setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search "$@"
}
"""


def run_private(place: Place, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `script` (sh); $FUSEMUX, $MOUNT and $BASE are the command line, the helper and the place's folder."""
    place.root.chmod(0o755)
    shim = place.root / "mount.fusemux"
    if not shim.exists():
        shim.write_text(_shim(place))
        shim.chmod(0o755)
    variables = (
        f'FUSEMUX="{sys.executable} -m fusemux"; MOUNT="{sys.executable} -m fusemux.mount"; BASE="{place.root}"\n'
    )
    words = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", variables + _PRELUDE + script]
    done = subprocess.run(words, env=place.env, cwd="/", capture_output=True, text=True, timeout=90, check=False)
    assert not check or done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def _shim(place: Place) -> str:
    """A mount.fusemux as pip would install it, for a checkout that is not installed; mount(8) empties the environment."""
    settings = "\n".join(
        f"export {key}={value}" for key, value in {**place.environment, "PYTHONPATH": str(ROOT)}.items()
    )
    return f'#!/bin/sh\n{settings}\nexec {sys.executable} -m fusemux.mount "$@"\n'


def leftovers(place: Place) -> list[str]:
    """What is still there of servers, ramdisks and mounts."""
    files = [path for name in ("servers", "ramdisks") for path in Path(place.root, "run", name).glob("*")]
    return [*map(str, files), *place.mounts(), *map(str, place.servers())]
