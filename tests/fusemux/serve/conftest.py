"""One volume at two places of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mounting import Place


@pytest.fixture(params=["1", "2", "2x2"])
def places(request: pytest.FixtureRequest, volume_place: Place) -> tuple[Path, Path]:
    """Where the volume `web` is mounted; it has a `file` of a hundred bytes."""
    one, other = volume_place.mount_at_places(f"{request.param},name=web")
    (one / "file").write_bytes(bytes(100))
    return one, other
