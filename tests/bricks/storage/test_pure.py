"""The formats of handles, records and times, and the arithmetic of counters: tables, no disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemux.bricks.storage.posix import handle, mdata, xattrop
from fusemux.graph.framework.errors import FopError

GFID = bytes.fromhex("207d0cd0afae445881ab087fe0d8202b")
TEXT = "207d0cd0-afae-4458-81ab-087fe0d8202b"
gfids = st.binary(min_size=16, max_size=16)
names = st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name)


def test_a_handle_lies_in_the_folders_of_its_first_two_bytes() -> None:
    assert handle.path_of(GFID) == f"20/7d/{TEXT}"
    assert handle.folder_of(GFID) == "20/7d"
    assert handle.unlink_path(GFID) == f"unlink/{TEXT}"


def test_the_record_of_a_name_is_glusterfs_s() -> None:
    name, value = handle.path_record(b"trusted.gfid2path.", TEXT.encode() + b"/", b"positions.yaml")
    assert (name, value) == (b"trusted.gfid2path.a5609dda478ff951", f"{TEXT}/positions.yaml".encode())


@given(gfids, names)
def test_the_text_of_a_directory_handle_reads_back(parent: bytes, name: bytes) -> None:
    assert handle.parse_link(handle.link_text(parent, name)) == (parent, name)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"../../..",
        b"../../20/7d/" + TEXT.encode(),
        b"../../20/7d/" + TEXT.encode() + b"/",
        b"../../21/7d/" + TEXT.encode() + b"/name",
        b"/./../20/7d/" + TEXT.encode() + b"/name",
        b"../../20/7d/" + TEXT.replace("-", "_").encode() + b"/name",
        b"../../20/7d/" + TEXT.replace("8", "x").encode() + b"/name",
        b"../../20/7d/" + TEXT.encode() + b"/a/b",
        b"../../20/7d/" + TEXT.encode() + b"/" + b"x" * 500,
    ],
)
def test_any_other_text_is_no_directory_handle(text: bytes) -> None:
    assert handle.parse_link(text) is None


times = st.integers(-(1 << 33) * 10**9, (1 << 33) * 10**9)


@given(times, times, times)
def test_times_read_back_from_their_57_bytes(ctime: int, mtime: int, atime: int) -> None:
    packed = mdata.pack(ctime, mtime, atime)
    assert len(packed) == mdata.SIZE
    assert mdata.unpack(packed) == (ctime, mtime, atime)


def test_times_of_another_version_or_size_are_not_taken() -> None:
    packed = mdata.pack(1, 2, 3)
    assert mdata.unpack(b"\x02" + packed[1:]) is None
    assert mdata.unpack(packed[:-1]) is None
    assert mdata.unpack(b"") is None


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        (100, 200, 200),
        (200, 100, 200),
        (mdata.WINDOW_NS + 100, 100, mdata.WINDOW_NS + 100),
        (mdata.WINDOW_NS + 101, 100, 100),
        (5, 5, 5),
    ],
)
def test_a_time_moves_forward_or_comes_back_from_the_future(old: int, new: int, kept: int) -> None:
    assert mdata.newer(old, new) == kept


@pytest.mark.parametrize(
    ("op", "stored", "argument", "answer", "written"),
    [
        (0, None, "00000000", "00000000", None),
        (0, None, "00000001", "00000001", "00000001"),
        (0, "00000001", "00000000", "00000001", None),
        (0, "00000001ffffffff", "00000001", "00000002ffffffff", "00000002ffffffff"),
        (0, "ffffffff", "00000001", "00000000", "00000000"),
        (0, "0001", "0000000100000002", "0001000100000002", "0001000100000002"),
        (0, "0001", "0000000000000000", "0001000000000000", None),
        (1, None, "0000000000000001", "0000000000000001", "0000000000000001"),
        (1, "ffffffffffffffff", "0000000000000002", "0000000000000001", "0000000000000001"),
        (4, None, "aa", "", "aa"),
        (4, "bb", "aa", "bb", "aa"),
        (5, None, "0000000100000007", "00000008", "00000008"),
        (5, "00000002", "0000000100000007", "00000003", "00000003"),
        (6, None, "00000000000000010000000000000007", "0000000000000008", "0000000000000008"),
    ],
)
def test_counters(op: int, stored: str | None, argument: str, answer: str, written: str | None) -> None:
    found = xattrop.combine(op, None if stored is None else bytes.fromhex(stored), bytes.fromhex(argument))
    assert found == (bytes.fromhex(answer), None if written is None else bytes.fromhex(written))


@pytest.mark.parametrize(
    ("op", "argument"),
    [(2, bytes(4)), (3, bytes(4)), (7, bytes(4)), (0, b"abc"), (1, bytes(4)), (5, bytes(4)), (6, bytes(8))],
)
def test_what_is_no_array_or_no_operation_is_refused(op: int, argument: bytes) -> None:
    with pytest.raises(FopError):
        xattrop.combine(op, None, argument)
