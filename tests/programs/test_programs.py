"""Programs that people run, with their files in a volume: CPython's tests, git, SQLite.

The quick versions.  The full ones, on any directory of any mounted volume:

    python -m tests.programs.cpython DIR
    python -m tests.programs.git DIR 300
    python -m tests.programs.sqlite DIR 5000
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.mounting import Place
from tests.parity.conftest import BINDINGS
from tests.programs import cpython, git, sqlite

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(600)]


# The whole of CPython's tests once, through the binding that is taken by itself; through others what is closest to the system.
TESTS = dict.fromkeys(BINDINGS, ("test_os", "test_posix", "test_mmap", "test_fcntl"))
TESTS[BINDINGS[0]] = cpython.MODULES


@pytest.fixture(params=BINDINGS)
def binding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def mounted(binding: str, volume_place: Place) -> Path:
    """A 2x2 volume, not in strict mode: programs are there to show speed and timing as they are."""
    volume_place.environment["FUSEMUX_STRICT"] = "0"
    return volume_place.mount("2x2", f"binding={binding}")


@pytest.mark.skipif(importlib.util.find_spec("test.test_os") is None, reason="Python's test package is not installed")
def test_cpythons_own_tests_pass(mounted: Path, binding: str) -> None:
    wrong = cpython.difference(mounted, TESTS[binding])
    assert not wrong, "\n".join(f"--- {name}\n{why}" for name, why in wrong.items())


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_keeps_its_repositories_sound(mounted: Path) -> None:
    git.load(mounted)


def test_sqlite_keeps_every_acknowledged_commit(mounted: Path) -> None:
    sqlite.load(mounted)
