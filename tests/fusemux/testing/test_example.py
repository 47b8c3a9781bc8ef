"""The example of the plugin is true: its tests pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounting import ROOT

EXAMPLE = ROOT / "examples" / "test_sqlite_on_a_dying_brick.py"


@pytest.mark.mount
def test_sqlite_survives_dying_bricks(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "fusemux.testing.plugin",
        "-p",
        "no:cacheprovider",
        str(EXAMPLE),
    ]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-c", os.devnull],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
    assert not list(tmp_path.glob("fusemux-pytest-*"))
