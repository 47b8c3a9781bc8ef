"""What is done about one name on which the copies differ, and which parts of a block are written."""

from __future__ import annotations

import pytest

from fusemux.graph.cluster.replicate.heal.contents import worth_writing
from fusemux.graph.cluster.replicate.heal.direction import FAVOURITES
from fusemux.graph.cluster.replicate.heal.names import Decision, decide
from fusemux.graph.framework.types import Iatt


def there(gfid: int, mode: int = 0o100644, size: int = 0) -> Iatt:
    return Iatt(bytes([gfid]) * 16, mode, 1, 0, 0, 0, size, 0, 4096, 0, gfid, gfid)


ONE, TWO, THREE = there(1, size=1), there(2, size=9), there(3, size=5)
FOLDER = there(4, 0o040755)
NOBODY, CONFLICT = Decision(-1, (), ()), Decision(-1, (), (), conflict=True)


@pytest.mark.parametrize(
    ("answers", "sources", "policy", "decision"),
    [
        ([ONE, None], {0}, "none", Decision(0, (1,), ())),
        ([None, ONE], {0}, "none", Decision(-1, (), (1,))),
        ([ONE, TWO], {0}, "none", Decision(0, (1,), (1,))),
        ([ONE, FOLDER], {1}, "none", Decision(1, (0,), (0,))),
        # what any good copy has exists
        ([None, ONE, None], {0, 1}, "none", Decision(1, (0, 2), ())),
        ([ONE, TWO, None], {0, 1}, "none", CONFLICT),
        # nobody is surely right: nothing is removed
        ([ONE, None], set(), "none", Decision(0, (1,), ())),
        ([None, None], set(), "none", NOBODY),
        ([ONE, TWO], set(), "none", CONFLICT),
        ([ONE, TWO], set(), "size", Decision(1, (0,), (0,))),
        ([ONE, TWO, THREE], set(), "mtime", Decision(2, (0, 1), (0, 1))),
        ([ONE, TWO, ONE], set(), "majority", Decision(0, (1,), (1,))),
        ([ONE, TWO], set(), "majority", CONFLICT),
        ([FOLDER, ONE], set(), "size", CONFLICT),
        ([FOLDER, there(5, 0o040755)], set(), "mtime", CONFLICT),
    ],
)
def test_decisions(answers: list[Iatt | None], sources: set[int], policy: str, decision: Decision) -> None:
    assert decide(answers, frozenset(sources), FAVOURITES[policy]) == decision


KIB = 1 << 10


@pytest.mark.parametrize(
    ("data", "blank", "ranges"),
    [
        (bytes(256 * KIB), 256 * KIB, [(0, 256 * KIB)]),  # the sink has something everywhere
        (bytes(256 * KIB), 0, []),
        (b"x" + bytes(256 * KIB - 1), 0, [(0, 128 * KIB)]),
        (bytes(128 * KIB) + b"x" * 10, 0, [(128 * KIB, 128 * KIB + 10)]),
        (b"x" * (256 * KIB), 0, [(0, 256 * KIB)]),
        (bytes(256 * KIB), 1000, [(0, 1000)]),
        (b"x" * 10, 4, [(0, 10)]),
    ],
)
def test_ranges_worth_writing(data: bytes, blank: int, ranges: list[tuple[int, int]]) -> None:
    assert worth_writing(data, blank) == ranges
