"""What mode bits mean for a caller."""

from __future__ import annotations

import os
import stat

import pytest

from fusemux.fuse.permissions import groups_of, without_privileges
from fusemux.graph.framework.types import Iatt


def file(mode: int, gid: int = 100) -> Iatt:
    return Iatt(bytes(16), stat.S_IFREG | mode, 1, 1000, gid, 0, 0, 0, 4096, 0, 0, 0)


@pytest.mark.parametrize(
    ("mode", "gid", "groups", "kept"),
    [
        (0o4755, 100, (), 0o755),
        (0o6755, 100, (), 0o755),
        (0o6745, 100, (), 0o2745),  # of the group, and a mark for mandatory locks
        (0o6745, 5, (7, 100), 0o2745),
        (0o6745, 5, (7,), 0o745),
        (0o1644, 5, (), 0o1644),
    ],
)
def test_what_an_ordinary_user_leaves_of_privileges(mode: int, gid: int, groups: tuple[int, ...], kept: int) -> None:
    assert without_privileges(file(mode), gid, lambda: groups) == kept


def test_the_groups_of_a_process_are_found_and_those_of_none_are_none() -> None:
    assert sorted(groups_of(os.getpid())) == sorted(os.getgroups())
    assert list(groups_of(2**22 + 1)) == []
