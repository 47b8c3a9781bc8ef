"""The words of `volume create`, and GlusterFS's rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusemux.volume.definition import VolumeError, VolumeType, check_name
from fusemux.volume.words import best_redundancy, create

RAMDISKS = Path("/run/ramdisks")


def bricks(count: int) -> list[str]:
    return [f"/b/{i}" for i in range(count)]


@pytest.mark.parametrize(
    ("words", "count", "type_text", "count_text"),
    [
        ("", 1, "Distribute", "1"),
        ("", 4, "Distribute", "4"),
        ("replica 3", 3, "Replicate", "1 x 3 = 3"),
        ("replica 2", 4, "Distributed-Replicate", "2 x 2 = 4"),
        ("replica 2 transport tcp", 2, "Replicate", "1 x 2 = 2"),
        ("replica 3 arbiter 1", 3, "Replicate", "1 x (2 + 1) = 3"),
        ("replica 2 arbiter 1", 6, "Distributed-Replicate", "2 x (2 + 1) = 6"),
        ("disperse 6 redundancy 2", 6, "Disperse", "1 x (4 + 2) = 6"),
        ("redundancy 2 disperse 6", 12, "Distributed-Disperse", "2 x (4 + 2) = 12"),
        ("disperse", 3, "Disperse", "1 x (2 + 1) = 3"),
        ("disperse 6", 6, "Disperse", "1 x (4 + 2) = 6"),
        ("disperse-data 4 redundancy 2", 6, "Disperse", "1 x (4 + 2) = 6"),
        ("disperse-data 4", 6, "Disperse", "1 x (4 + 2) = 6"),
        ("disperse 3 disperse-data 2", 6, "Distributed-Disperse", "2 x (2 + 1) = 6"),
        ("redundancy 1", 3, "Disperse", "1 x (2 + 1) = 3"),
    ],
)
def test_words_of_gluster_make_the_volume_they_make_there(
    words: str, count: int, type_text: str, count_text: str
) -> None:
    volume = create("web", [*words.split(), *bricks(count)], RAMDISKS).volume
    assert (volume.type_text, volume.count_text) == (type_text, count_text)


@pytest.mark.parametrize(
    ("words", "count", "message"),
    [
        ("replica 3", 4, "volume 'web': replica 3 needs 3, 6, 9 ... bricks, got 4"),
        ("disperse 6 redundancy 2", 7, "disperse 6 needs 6, 12, 18 ... bricks, got 7"),
        ("replica 1", 1, "replica count should be 2 or more, got 1"),
        ("replica 2 replica 2", 2, "'replica' is given twice"),
        ("replica x", 2, "'replica' needs a number"),
        ("replica 2 disperse 3", 6, "replica and disperse cannot be used together"),
        ("replica 2 redundancy 1", 6, "replica and redundancy cannot be used together"),
        ("disperse 2 redundancy 1", 2, "disperse count must be 3 or more, got 2"),
        ("disperse 4 redundancy 2", 4, "redundancy must be less than half"),
        ("disperse 4 redundancy 0", 4, "'redundancy' needs a number"),
        ("disperse 6 disperse-data 3 redundancy 2", 6, "disperse 6 is not disperse-data 3 \\+ redundancy 2"),
        ("replica 4 arbiter 1", 4, "there must be 2 data copies and 1 arbiter"),
        ("replica 3 arbiter 2", 3, "there must be 2 data copies and 1 arbiter"),
        ("arbiter 1", 3, "'arbiter' needs 'replica' before it"),
        ("replica 2 thin-arbiter 1", 3, "thin arbiters are not there"),
        ("stripe 2", 2, "stripe volumes do not exist any more"),
        ("transport rdma", 1, "transport 'rdma' is not there"),
        ("", 0, "no bricks given"),
    ],
)
def test_what_cannot_be_is_refused_and_says_what_would_be_right(words: str, count: int, message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        create("web", [*words.split(), *bricks(count)], RAMDISKS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "needs a name"),
        ("all", "cannot be the name"),
        ("end-volume", "cannot be the name"),
        ("a/b", "should not contain '/'"),
        ("a b", "should not contain ' '"),
        ("naïve", "should not contain 'ï'"),
        ("-web", "must not begin with '-'"),
        ("x" * 256, "at most 255"),
    ],
)
def test_names_that_glusterfs_refuses_are_refused(name: str, message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        check_name(name)


def test_a_name_that_reads_as_a_short_form_is_refused() -> None:
    with pytest.raises(VolumeError, match="short form"):
        create("2x2", bricks(1), RAMDISKS)


def test_bricks_are_paths_hosts_and_ramdisks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    made = create("web", ["localhost:/srv/b0/", "here", "./new", "ramdisk:64MB", "ramdisk", "force"], RAMDISKS)
    assert made.force
    assert [b.path for b in made.volume.bricks] == [
        "/srv/b0", f"{tmp_path}/here", f"{tmp_path}/new", "/run/ramdisks/web/b3", "/run/ramdisks/web/b4",
    ]  # fmt: skip
    assert [b.ramdisk_bytes for b in made.volume.bricks] == [None, None, None, 64 << 20, 0]


@pytest.mark.parametrize(
    ("brick", "message"),
    [
        ("elsewhere.example.org:/b", "only bricks of this machine"),
        ("localhost:b", "wrong brick"),
        ("ramdisk:lots", "expected a size"),
        ("ramdisk:4KB", "at least 1MB"),
        ("replca", "did you mean 'replica'"),
        ("/b\n", "control character"),
        ("/" + "x" * 260, "too long"),
    ],
)
def test_bricks_that_cannot_be_are_refused(brick: str, message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        create("web", [brick], RAMDISKS)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["/b/0", "/b/0"], "found duplicate brick"),
        (["/b/0", "/b/0/inner"], "lies inside brick"),
        (["/b-0", "/b/0"], "stored under one name"),
    ],
)
def test_bricks_that_overlap_are_refused(paths: list[str], message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        create("web", paths, RAMDISKS)


@pytest.mark.parametrize(
    ("count", "redundancy"), [(3, 1), (4, 1), (5, 1), (6, 2), (7, 3), (8, 1), (9, 1), (10, 2), (12, 4)]
)
def test_redundancy_leaves_a_power_of_two_of_data_bricks_where_that_is_near(count: int, redundancy: int) -> None:
    assert best_redundancy(count) == redundancy


def test_types_are_the_numbers_of_glusterfs() -> None:
    assert [int(t) for t in VolumeType] == [0, 2, 4]
