"""Distribute over replica sets: what the one does by itself must leave the copies of the other equal."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Frame
from fusemux.testing.graph import GraphVolume


@pytest.mark.skipif(os.geteuid() != 0, reason="trusted.* attributes need root")
@pytest.mark.fusemux(distribute=2, replica=2, backend="graph")
def test_copies_of_a_directory_that_a_lookup_has_completed_have_the_same_times(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        for name in "abcdefgh":
            await volume.mkdir(f"/{name}")
            await volume.mkdir(f"/{name}/inner")
            for brick in volume.bricks[2:]:
                lose(brick.path, f"{name}/inner")
        volume.frame = Frame()  # one without a time, as the kernel's lookups have
        for name in "abcdefgh":
            with suppress(FopError):  # what hashes to the set that has lost it is not looked for elsewhere
                await volume.lookup(f"/{name}/inner")
        completed = [name for name in "abcdefgh" if (volume.bricks[2].path / name / "inner").is_dir()]
        assert completed

    fusemux_volume.run(scenario)
    assert fusemux_volume.bricks_identical()


def lose(brick: Path, directory: str) -> None:
    """Take an empty directory from a brick, behind everybody's back."""
    gfid = os.getxattr(brick / directory, "trusted.gfid").hex()
    text = f"{gfid[:8]}-{gfid[8:12]}-{gfid[12:16]}-{gfid[16:20]}-{gfid[20:]}"
    (brick / ".glusterfs" / text[:2] / text[2:4] / text).unlink()
    (brick / directory).rmdir()
