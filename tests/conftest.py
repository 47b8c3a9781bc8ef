"""What all tests share: strict mode, places of their own, and a check that nothing stays mounted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import mounting
from tests.mounting import Place

pytest_plugins = ["fusemux.testing.plugin"]  # an entry point where fusemux is installed; here it may not be

# The contract of every edge is checked in this process and in every one that a test starts.  A performance test
# that wants the real thing sets FUSEMUX_STRICT=0 for itself.
os.environ.setdefault("FUSEMUX_STRICT", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a mount are skipped with the reason where there can be none."""
    reason = mounting.why_not_mount()
    for item in items:
        if reason and ("mount" in item.keywords or "volume_place" in getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that leaves a mount behind is a failure of the whole run, and it is cleared.  Other runs' mounts are theirs."""
    factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
    marks = (f"/{mounting.PREFIX}", f"{factory.getbasetemp()}/")
    left = [point for point in mounting.mounts_below("/") if any(mark in point for mark in marks)]
    for point in left:
        mounting.lazily_unmount(point)
    if left:
        print(f"\nleft mounted by a test, now cleared: {', '.join(left)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _own_directories(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the machine's volumes, even one that forgets to say where its own are."""
    base = tmp_path_factory.getbasetemp()
    for name in ("FUSEMUX_RUN_DIR", "FUSEMUX_STATE_DIR"):
        monkeypatch.setenv(name, str(base / name.lower()))


@pytest.fixture
def volume_place() -> Iterator[Place]:
    """Where a test mounts volumes: `volume_place.mount("2x2")` returns the mount point."""
    with mounting.place() as made:
        yield made
        for where in [Path(point) for point in made.mounts()]:
            assert not (log := made.log(where)), f"the server of {where} warned:\n{log}"


@pytest.fixture(scope="module")
def tmpfs() -> Iterator[Path]:
    """A plain tmpfs (for root), or a folder on one."""
    with mounting.tmpfs_mounted() as folder:
        yield folder
