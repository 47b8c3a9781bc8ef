"""Scenarios in which the kernel takes part: what it has cached must not outlive what changes below it."""

from __future__ import annotations

import os
import time
from errno import EINVAL, EIO
from pathlib import Path

import pytest

from fusemux.testing.volume import Volume

pytestmark = pytest.mark.mount

SIDES = (b"the first side, which is longer", b"second side")
alone = pytest.mark.fusemux(replica=2, options={"cluster.quorum-type": "none", "cluster.self-heal-daemon": "off"})


def _split(volume: Volume) -> Path:
    """A file with other contents on each copy, whose size the kernel knows."""
    path = volume.path / "file"
    path.write_bytes(b"old")
    for brick, content in ((0, SIDES[0]), (1, SIDES[1])):
        volume.brick(1 - brick).kill()
        path.write_bytes(content)
        volume.brick(brick).kill()
        volume.brick(1 - brick).start()
    volume.brick(1).start()
    assert path.stat().st_size in map(len, SIDES)
    return path


def _shows(path: Path, content: bytes) -> bool:
    """Whether the file has this content, soon: pages that the kernel has kept go by a notice of their own."""
    end = time.monotonic() + 10
    while (path.read_bytes(), path.stat().st_size) != (content, len(content)):
        if time.monotonic() > end:
            return False
    return True


def _unreadable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError as error:
        assert error.errno == EIO
        return True
    return False


@alone
def test_split_brain_resolution_with_setfattr(fusemux_volume: Volume) -> None:
    """As users do it: ask, look at one copy and the other, decide."""
    path = _split(fusemux_volume)
    assert _unreadable(path)
    told = os.getxattr(path, "replica.split-brain-status")
    assert told == b"data-split-brain:yes    metadata-split-brain:no    Choices:test-client-0,test-client-1"
    for child, content in enumerate(SIDES):
        os.setxattr(path, "replica.split-brain-choice", f"test-client-{child}".encode())
        assert _shows(path, content)
    os.setxattr(path, "replica.split-brain-choice", b"none")
    assert _unreadable(path)
    with pytest.raises(OSError, match=os.strerror(EINVAL)):
        os.setxattr(path, "replica.split-brain-heal-finalize", b"test-client-2")
    os.setxattr(path, "replica.split-brain-heal-finalize", b"test-client-1")
    assert _shows(path, SIDES[1])
    assert b"not under data or metadata split-brain" in os.getxattr(path, "replica.split-brain-status")
    assert fusemux_volume.bricks_identical()


@alone
@pytest.mark.parametrize("brick", [0, 1])
def test_split_brain_healing_is_seen_through_the_kernels_cache(fusemux_volume: Volume, brick: int) -> None:
    path = _split(fusemux_volume)
    assert fusemux_volume.order("heal-split-brain", how="source-brick", brick=str(brick), path="/file") == ["/file"]
    assert _shows(path, SIDES[brick])
