"""What distribute makes of the subvolumes' answers about a directory."""

from __future__ import annotations

import errno
import stat
import struct

import pytest

from fusemux.graph.cluster.distribute.directory import Directory, Healing, Survey, XattrNames, unchanged
from fusemux.graph.cluster.distribute.layout import LAST, TYPE_USER, Layout, encode
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import ROOT_GFID, Iatt

NAMES = XattrNames.of("trusted.glusterfs.dht")
GFID, OTHER = bytes(range(16)), bytes(range(1, 17))
HALF = 0x7FFFFFFF
LOWER, UPPER = (0, HALF), (HALF + 1, LAST)


def copy(
    share: tuple[int, int] | None = None, mds: int | None = None, *, mode: int = 0o755, uid: int = 0, time: int = 5,
    gfid: bytes = GFID, nlink: int = 2, type: int = stat.S_IFDIR, kind: int = 0,
) -> Iatt:  # fmt: skip
    xdata = {}
    if share is not None:
        xdata[NAMES.layout] = encode(0, *share, kind)
    if mds is not None:
        xdata[NAMES.mds] = struct.pack(">i", mds)
    return Iatt(gfid, type | mode, nlink, uid, 0, 0, 60, 0, 4096, time, time, time, xdata)


GONE, STALE = FopError(errno.ENOENT), FopError(errno.ESTALE)
DOWN, BROKEN = FopError(errno.ENOTCONN), FopError(errno.EIO)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([copy(LOWER, 0), copy(UPPER)], Healing()),
        ([copy(LOWER, 0), GONE], Healing(make=(1,), relayout=True)),
        ([copy((0, LAST), 0), GONE], Healing(make=(1,), shares=(1,))),
        ([copy((0, LAST), 0), STALE], Healing(make=(1,), shares=(1,))),
        ([copy((0, LAST), 0), copy()], Healing(shares=(1,))),
        ([copy(), copy()], Healing(relayout=True, mark=0)),
        ([copy(LOWER, 0), copy(LOWER)], Healing(relayout=True)),
        ([copy(LOWER, 0), copy(UPPER, mode=0o700)], Healing(attributes=(1,))),
        ([copy(LOWER, uid=3), copy(UPPER, 0)], Healing(attributes=(0,))),
        ([copy(LOWER), copy(UPPER)], Healing(mark=0)),
        ([copy(LOWER, -1), copy(UPPER)], Healing(copy_xattrs=True)),
        ([copy(LOWER, 0), DOWN], Healing()),
        ([copy(LOWER, 0), BROKEN], Healing()),
        ([copy(LOWER, 0), copy(UPPER, gfid=OTHER)], Healing()),
        ([copy(LOWER, 0), copy(type=stat.S_IFREG)], Healing()),
        ([copy(LOWER, 0, kind=TYPE_USER), copy(LOWER, kind=TYPE_USER)], Healing()),
        ([GONE, GONE], Healing()),
    ],
)
def test_healing_by_name(answers: list[Iatt | FopError], expected: Healing) -> None:
    healing = Survey(answers, NAMES).healing(0, GFID, by_name=True)
    assert healing == expected
    assert bool(healing) is (expected != Healing())


def test_without_a_name_missing_copies_cannot_be_made_and_nothing_is_divided_over_the_rest() -> None:
    assert Survey([copy(LOWER, 0), GONE], NAMES).healing(-1, GFID, by_name=False) == Healing()
    assert Survey([copy(), copy()], NAMES).healing(-1, GFID, by_name=False) == Healing(relayout=True)


def test_the_root_gets_no_metadata_server() -> None:
    answers = [copy(LOWER, gfid=ROOT_GFID), copy(UPPER, gfid=ROOT_GFID)]
    assert Survey(answers, NAMES).healing(0, ROOT_GFID, by_name=False) == Healing()


@pytest.mark.parametrize(
    ("answers", "hashed", "source"),
    [
        ([copy(mode=1), copy(mode=2, mds=0), copy(mode=3)], 2, 1),  # the metadata server
        ([copy(mode=1), copy(mode=2), copy(mode=3)], 2, 2),  # the hashed one
        ([copy(mode=1, time=5), copy(mode=2, time=9), copy(mode=3)], -1, 1),  # the last changed
        ([copy(mode=1), copy(mode=2), GONE], 2, 0),
    ],
)
def test_whose_attributes_count(answers: list[Iatt | FopError], hashed: int, source: int) -> None:
    survey = Survey(answers, NAMES)
    assert survey.source(hashed) == source
    assert survey.merged(hashed).mode & 0o7777 == source + 1


def test_merged_attributes_have_the_latest_times_and_a_size_that_is_everywhere_the_same() -> None:
    merged = Survey([copy(mds=0, time=5, nlink=3), copy(time=9, nlink=4)], NAMES).merged()
    assert (merged.atime_ns, merged.mtime_ns, merged.ctime_ns, merged.nlink) == (9, 9, 9, 4)
    assert (merged.size, merged.blocks) == (4096, 8)


@pytest.mark.parametrize(
    ("answers", "word"),
    [
        ([copy(), copy()], ""),
        ([copy(), copy(gfid=OTHER)], "gfid"),
        ([copy(), copy(type=stat.S_IFREG)], "file"),
        ([copy(type=stat.S_IFREG), GONE], ""),
    ],
)
def test_conflicts(answers: list[Iatt | FopError], word: str) -> None:
    conflict = Survey(answers, NAMES).conflict
    assert word in conflict
    assert bool(conflict) is bool(word)


def test_a_subvolume_that_is_down_keeps_the_share_and_the_office_it_had() -> None:
    known = Directory(GFID, Survey([copy(LOWER), copy(UPPER, 0)], NAMES).layout(), 1, 1, None, b"")
    survey = Survey([copy(LOWER), DOWN], NAMES, known)
    assert survey.layout().find(LAST) == 1
    assert survey.mds == 1
    gone = Survey([copy(LOWER), GONE], NAMES, known)
    assert gone.layout().find(LAST) == -1
    assert gone.mds is None


def test_a_path_is_told_from_the_root_or_from_the_gfid_where_the_way_is_not_known() -> None:
    empty = Layout([])
    root = Directory(ROOT_GFID, empty, 0, None, None, b"")
    below = Directory(GFID, empty, 0, None, root, b"a")
    deep = Directory(OTHER, empty, 0, None, below, b"b")
    assert [d.path() for d in (root, below, deep)] == [b"/", b"/a", b"/a/b"]
    below.parent = None
    assert deep.path() == b"<gfid:00010203-0405-0607-0809-0a0b0c0d0e0f>/b"


AGREED = [copy(LOWER, 0, time=5), copy(UPPER, time=9)]


@pytest.mark.parametrize(
    ("answers", "same"),
    [
        (AGREED, True),
        ([AGREED[0], GONE], False),
        ([GONE, AGREED[1]], False),
        ([AGREED[0], copy()], False),
        ([AGREED[0], copy((HALF, LAST))], False),
        ([AGREED[0], copy(UPPER, mode=0o700)], False),
        ([AGREED[0], copy(UPPER, uid=1)], False),
        ([AGREED[0], copy(UPPER, gfid=OTHER)], False),
        ([AGREED[0], copy(UPPER, 0)], False),
        ([copy(LOWER, -1), AGREED[1]], False),
        ([copy(LOWER), AGREED[1]], False),
        ([copy(LOWER, 0, type=stat.S_IFREG), AGREED[1]], False),
    ],
)
def test_answers_that_agree_with_what_is_known_need_no_survey(answers: list[Iatt | FopError], same: bool) -> None:
    survey = Survey(AGREED, NAMES)
    known = Directory(GFID, survey.layout(), 1, survey.mds, None, b"")
    assert unchanged(known, answers, NAMES) == (Survey(answers, NAMES).merged() if same else None)
