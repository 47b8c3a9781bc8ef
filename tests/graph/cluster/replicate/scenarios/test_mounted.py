"""Scenarios in which the kernel takes part: what it has cached must not outlive what changes below it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import time
from errno import EINVAL, EIO, ENOTCONN
from itertools import combinations
from pathlib import Path
from typing import IO

import pytest

from fusemux.testing.volume import Volume

pytestmark = pytest.mark.mount

_MS_REMOUNT = 32
_libc = ctypes.CDLL(None, use_errno=True)
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


def _locks(file: IO[bytes]) -> bool:
    """Whether flock(2) gives, and takes back, a lock on a file that is open."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
    except OSError as error:
        assert error.errno == ENOTCONN
        return False
    return True


@pytest.mark.parametrize(
    "works",
    [
        pytest.param(works, id=name, marks=pytest.mark.fusemux(replica=copies, options=options, mount_options=("locks=bricks",)))
        for name, copies, options, works in (
            ("none", 2, {"cluster.quorum-type": "none"}, ["0", "1"]),
            ("fixed-2", 2, {"cluster.quorum-type": "fixed", "cluster.quorum-count": "2"}, []),
            ("fixed-1", 2, {"cluster.quorum-type": "fixed", "cluster.quorum-count": "1"}, ["0", "1"]),
            ("auto", 2, {"cluster.quorum-type": "auto"}, ["1"]),
            ("three", 3, {}, ["0", "1", "2"]),
        )
    ],
)  # fmt: skip
def test_lk_quorum_with_flock(fusemux_volume: Volume, works: list[str]) -> None:
    """With which bricks away, alone and by twos, a file that is open can be locked."""
    bricks = range(len(fusemux_volume.bricks))
    cases = [away for count in (1, 2, 3) for away in combinations(bricks, count)]
    with open(fusemux_volume.path / "file", "wb") as file:
        assert _locks(file)
        found = []
        for away in cases:
            for brick in away:
                fusemux_volume.brick(brick).kill()
            if _locks(file):
                found.append("".join(map(str, away)))
            for brick in away:
                fusemux_volume.brick(brick).start()
            assert _locks(file)
        assert found == works


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the kernel forget names")
@pytest.mark.fusemux(replica=2, options={"cluster.quorum-type": "none"})
def test_names_that_a_merge_brings_are_seen_though_they_were_missing_before(fusemux_volume: Volume) -> None:
    first, second = fusemux_volume.path / "first", fusemux_volume.path / "second"
    fusemux_volume.brick(1).kill()
    first.write_bytes(b"1")
    fusemux_volume.brick(0).kill()
    fusemux_volume.brick(1).start()
    assert (
        _libc.mount(None, bytes(fusemux_volume.path), None, _MS_REMOUNT, None) == 0
    )  # what was seen before is forgotten
    assert not first.exists()
    second.write_bytes(b"2")
    fusemux_volume.brick(0).start()
    fusemux_volume.wait_healed()
    end = time.monotonic() + 10
    while not first.exists():  # names go by a notice of their own, too
        assert time.monotonic() < end
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
