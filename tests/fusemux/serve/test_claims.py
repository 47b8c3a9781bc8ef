"""Who serves a brick keeps others off; who lets go of it is waited for."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from fusemux.graph.framework.errors import FusemuxError
from fusemux.serve import claims


@pytest.fixture
def other(tmp_path: Path) -> Iterator[int]:
    """A descriptor by which somebody else holds the brick at `tmp_path`."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield fd
    os.close(fd)


def _claim(path: Path) -> None:
    async def main() -> None:
        async with AsyncExitStack() as undo:
            await claims.claim(str(path), "web", undo)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_brick_that_another_serves_is_refused_at_once(
    tmp_path: Path, other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_is_being_let_go", lambda volume: False)
    with pytest.raises(FusemuxError, match="already served by another process"):
        _claim(tmp_path)


def test_one_that_is_being_let_go_is_waited_for(tmp_path: Path, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([True, True, True])

    def is_being_let_go(volume: str) -> bool:
        going = next(looks, None)
        if going is None:
            fcntl.flock(other, fcntl.LOCK_UN)
        return True

    monkeypatch.setattr(claims, "_is_being_let_go", is_being_let_go)
    _claim(tmp_path)


def test_but_not_for_ever(tmp_path: Path, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_is_being_let_go", lambda volume: True)
    with pytest.raises(FusemuxError, match="already served by another process"):
        _claim(tmp_path)


def test_one_whose_server_ended_between_two_looks_is_taken(
    tmp_path: Path, other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(volume: str) -> bool:
        fcntl.flock(other, fcntl.LOCK_UN)  # and its record is gone
        return False

    monkeypatch.setattr(claims, "_is_being_let_go", ends)
    _claim(tmp_path)
