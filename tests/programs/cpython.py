"""CPython's own tests with their temporary directory in a volume.

    python -m tests.programs.cpython DIR [TEST ...]     DIR lies in a mounted volume

Runs `python -m test --tempdir`; whatever fails there is run again on tmpfs, and what fails there too is not the volume's fault.
What FUSE itself cannot do is listed in EXPECTED with its reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

MODULES = (
    "test_os", "test_posix", "test_shutil", "test_mmap", "test_fcntl", "test_pathlib", "test_tempfile", "test_mailbox",
    "test_sqlite3", "test_zipfile", "test_tarfile", "test_glob", "test_dbm",
)  # fmt: skip

# Test -> why no FUSE file system of this kind can pass it.
EXPECTED: dict[str, str] = {}


def failures(directory: Path, tests: Sequence[str], *, limit_s: float = 600) -> dict[str, str]:
    """Name -> what went wrong, for each test that failed with its temporary files in `directory`."""
    with tempfile.TemporaryDirectory() as outside:
        report = Path(outside, "report.xml")
        # -u none: no network, no audio, no gigabytes.
        command = [
            sys.executable,
            "-m",
            "test",
            "-u",
            "none",
            "--tempdir",
            str(directory),
            "--junit-xml",
            str(report),
            *tests,
        ]
        environment = os.environ | {"TMPDIR": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            command, env=environment, cwd=outside, capture_output=True, text=True, timeout=limit_s, check=False
        )
        if not report.exists():
            return {"python -m test": done.stdout[-3000:] + done.stderr[-3000:]}
        found = _failed(ElementTree.parse(report).getroot())
    if done.returncode != 0 and not found:
        found["python -m test"] = done.stdout[-3000:]
    return found


def _failed(root: ElementTree.Element) -> dict[str, str]:
    found = {}
    for case in root.iter("testcase"):
        for problem in (*case.findall("error"), *case.findall("failure")):
            found[case.get("name", "?")] = (problem.text or problem.get("message") or "")[-1500:]
    return found


def difference(directory: Path, tests: Sequence[str] = MODULES) -> dict[str, str]:
    """What fails in `directory`, but neither on tmpfs nor by a known limit of FUSE."""
    failed = {name: why for name, why in failures(directory, tests).items() if name not in EXPECTED}
    if failed:
        modules = sorted({test for test in tests if any(f".{test}." in f".{name}." for name in failed)} or set(tests))
        with tempfile.TemporaryDirectory(dir="/dev/shm") as reference:
            also = failures(Path(reference), modules)
        failed = {name: why for name, why in failed.items() if name not in also}
    return failed


if __name__ == "__main__":
    wrong = difference(Path(sys.argv[1]), sys.argv[2:] or MODULES)
    for name, why in wrong.items():
        print(f"--- {name}\n{why}")
    print(f"{len(wrong)} tests fail only in the volume; {len(EXPECTED)} are expected to")
    sys.exit(bool(wrong))
