"""Bricks for tests: on a ramdisk, on a disk through the thread pool, and as ordinary users have them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bricks.serving import Place


@pytest.fixture
def ram() -> Iterator[Path]:
    """A folder in memory."""
    folder = tempfile.mkdtemp(prefix="fusemux-test-", dir="/dev/shm")
    yield Path(folder)
    shutil.rmtree(folder)


@pytest.fixture(params=["inline", "pool", "mapped"])
def brick(request: pytest.FixtureRequest, ram: Path, tmp_path: Path) -> Place:
    """A prepared brick; the test runs once for each way a brick is served."""
    if request.param == "pool":
        return Place(tmp_path / "brick", {"io-mode": "pool"}).prepare()
    return Place(ram / "brick", {"io-mode": "inline"}, mapped=request.param == "mapped" or os.geteuid() != 0).prepare()


@pytest.fixture
def plain(ram: Path) -> Place:
    """A prepared ramdisk brick with real trusted.* attributes, for tests of the format itself."""
    if os.geteuid() != 0:
        pytest.skip("trusted.* attributes need root")
    return Place(ram / "brick", {"io-mode": "inline"}).prepare()
