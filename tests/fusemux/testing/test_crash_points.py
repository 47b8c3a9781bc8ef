"""The serving process dies at each named point of a transaction, on bricks on a disk; another one makes the copies equal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fusemux.graph.debug.fault import CRASH_POINTS
from fusemux.serve.control import Refused
from fusemux.testing.volume import Volume

pytestmark = [
    pytest.mark.mount,
    pytest.mark.fusemux(replica=3, disk=True, volatile=False, mount_options=("nowriteback-cache",)),
]
Operation = Callable[[Path], object]
Result = Callable[[Path], object]

BEFORE = b"acknowledged"


def _write(path: Path) -> None:
    fd = os.open(path / "file", os.O_WRONLY)
    try:
        os.pwrite(fd, b"ACK", 0)
    finally:
        os.close(fd)


def _content(path: Path) -> bytes:
    return (path / "file").read_bytes()


def _mode(path: Path) -> int:
    return (path / "file").stat().st_mode & 0o777


def _names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


# fop, the operation, what to look at, and what it may be afterwards: as before, or as done
OPERATIONS: dict[str, tuple[str, Operation, Result, tuple[object, ...]]] = {
    "write": ("writev", _write, _content, (BEFORE, b"ACKnowledged")),
    "truncate": ("truncate", lambda p: os.truncate(p / "file", 3), _content, (BEFORE, b"ack")),
    "chmod": ("setattr", lambda p: os.chmod(p / "file", 0o600), _mode, (0o644, 0o600)),
    "mkdir": ("mkdir", lambda p: os.mkdir(p / "new"), _names, (["file", "other"], ["file", "new", "other"])),
    "unlink": ("unlink", lambda p: os.unlink(p / "other"), _names, (["file", "other"], ["file"])),
    "rename": ("rename", lambda p: os.rename(p / "other", p / "file"), _content, (BEFORE, b"other")),
}
CASES = [(point, name) for point in CRASH_POINTS for name in OPERATIONS]


def die_over(volume: Volume, point: str, name: str) -> None:
    """Have the process die over an operation, and start another."""
    fop, operation, _, _ = OPERATIONS[name]
    volume.faults.kill(point, fop=fop)
    with contextlib.suppress(OSError):
        operation(volume.path)
    volume.wait_killed(within_s=30)
    volume.crash()


def check(volume: Volume, name: str) -> None:
    _, _, result, allowed = OPERATIONS[name]
    volume.wait_healed(within_s=60)
    assert result(volume.path) in allowed
    assert volume.bricks_identical()


@pytest.fixture
def filled(fusemux_volume: Volume) -> Volume:
    (fusemux_volume.path / "file").write_bytes(BEFORE)
    (fusemux_volume.path / "file").chmod(0o644)
    (fusemux_volume.path / "other").write_bytes(b"other")
    return fusemux_volume


@pytest.mark.parametrize(("point", "name"), CASES)
def test_copies_are_equal_after_a_death_at_a_crash_point(filled: Volume, point: str, name: str) -> None:
    die_over(filled, point, name)

    check(filled, name)


@pytest.mark.parametrize(("point", "name"), [case for case in CASES if case[1] in ("write", "chmod", "unlink")])
def test_copies_are_equal_after_a_death_while_one_was_away(filled: Volume, point: str, name: str) -> None:
    filled.brick(2).kill()
    (filled.path / "file").write_bytes(BEFORE)  # it misses that

    die_over(filled, point, name)

    check(filled, name)
    assert len(filled.bricks[2].read_bytes("file")) in (3, len(BEFORE))


@pytest.mark.parametrize("name", ["write", "chmod", "mkdir", "unlink"])
def test_copies_are_equal_after_a_death_between_two_of_them(filled: Volume, name: str) -> None:
    fop, operation, _, _ = OPERATIONS[name]
    filled.faults.kill(fop=fop, at="1")
    with contextlib.suppress(OSError):
        operation(filled.path)
    filled.wait_killed(within_s=30)
    filled.crash()

    check(filled, name)


def test_a_crash_point_is_refused_where_there_is_none(filled: Volume) -> None:
    with pytest.raises(Refused, match="'op-don', did you mean 'op-done'"):
        filled.faults.kill("op-don")
    with pytest.raises(Refused, match="for action kill"):
        filled.order("fault-add", action="error", crash_point="op-done")
    with pytest.raises(Refused, match="no crash points at '1'"):
        filled.faults.at("1").kill("op-done")


def test_a_crash_point_that_is_cleared_kills_nobody(filled: Volume) -> None:
    fault = filled.faults.kill("op-done", fop="writev")
    fault.clear()
    _write(filled.path)
    assert _content(filled.path) == b"ACKnowledged"
