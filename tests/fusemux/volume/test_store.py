"""The store of definitions: round trips, GlusterFS's files, damage."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fusemux.volume import info
from fusemux.volume.definition import BrickSpec, Volume, VolumeError, stored_name
from fusemux.volume.store import VolumeStore

CAPTURED = Path(__file__).parents[2] / "data" / "volfiles"


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    return VolumeStore(tmp_path / "state")


def volume(name: str = "web", **changes: object) -> Volume:
    bricks = (BrickSpec("/srv/b 0"), BrickSpec("/run/ü", 64 << 20), BrickSpec("/run/b2", 0))
    return replace(Volume(name, bricks, replica=3, arbiter=1, options={"cluster.min-free-disk": "5%"}), **changes)  # type: ignore[arg-type]


def test_a_volume_comes_back_as_it_was_stored(store: VolumeStore) -> None:
    stored = volume()
    store.create(stored)
    assert store.load("web") == replace(stored, extra=store.load("web").extra)
    assert store.names() == ["web"]


@pytest.mark.parametrize("name", ["gvd1", "gvd2r2", "gvarb", "gvec42"])
def test_an_info_file_of_glusterfs_is_read_and_written_back_the_same(name: str) -> None:
    text = (CAPTURED / f"{name}.info").read_text()
    specs = [BrickSpec(f"/srv/bricks/{name}/b{i}") for i in range(6)]
    bricks = {stored_name(spec): info.StoredBrick(spec, None) for spec in specs}
    assert info.info_text(info.read_info(name, text, "info", bricks)) == text


def test_a_second_volume_of_the_same_name_is_refused_and_the_first_stays(store: VolumeStore) -> None:
    first = volume()
    store.create(first)
    with pytest.raises(VolumeError, match="'web' already exists"):
        store.create(volume())
    assert store.load("web").id == first.id
    assert os.listdir(store.vols) == ["web"]


def test_a_change_that_is_refused_changes_nothing(store: VolumeStore) -> None:
    store.create(volume())
    before = (store.vols / "web" / "info").read_text()
    with pytest.raises(VolumeError, match="replica 2 needs"):
        store.change("web", lambda v: replace(v, replica=2, arbiter=0))
    assert (store.vols / "web" / "info").read_text() == before


def test_changes_of_many_writers_are_all_kept(store: VolumeStore) -> None:
    store.create(volume(options={}))

    def add(n: int) -> None:
        store.change("web", lambda v: replace(v, options={**v.options, f"user.key{n}": "x"}))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(store.load("web").options) == [f"user.key{n}" for n in range(8)]
    assert store.load("web").version == 9


def test_deleting_forgets_the_definition_whole(store: VolumeStore) -> None:
    store.create(volume())
    store.delete("web")
    assert store.names() == []
    assert os.listdir(store.vols) == []
    with pytest.raises(VolumeError, match="there is no volume 'web'"):
        store.delete("web")


def test_an_unknown_volume_is_named_with_the_nearest_one(store: VolumeStore) -> None:
    store.create(volume("webserver"))
    with pytest.raises(VolumeError, match="there is no volume 'webserve', did you mean 'webserver'"):
        store.load("webserve")


@pytest.mark.parametrize("name", ["..", "../vols/web", ".", "a/b"])
def test_a_name_never_leads_out_of_the_store(store: VolumeStore, name: str) -> None:
    store.create(volume())
    assert not store.has(name)
    for action in (store.load, store.delete):
        with pytest.raises(VolumeError, match="there is no volume"):
            action(name)


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ("count=3", "count=three", "count=three should be a number"),
        ("count=3", "count=2", "replica 3 needs"),
        ("count=3", "count=4", "'brick-3' is missing"),
        ("type=2", "type=4", "does not go with the counts"),
        ("volume-id=", "volume-id=x", "is no UUID"),
        ("status=0", "status=9", "status=9 is unknown"),
        ("status=0", "nonsense", "line 3: expected key=value, found 'nonsense'"),
        ("replica_count=3\n", "", "'replica_count' is missing"),
        ("brick-0=", "brick-0=x", "there is no file bricks/x"),
        ("status=0", "count=3", "'count' stands there twice"),
    ],
)
def test_a_damaged_info_file_is_refused_by_file_and_reason(
    store: VolumeStore, pattern: str, replacement: str, message: str
) -> None:
    store.create(volume())
    path = store.vols / "web" / "info"
    text = path.read_text()
    assert pattern in text
    path.write_text(text.replace(pattern, replacement, 1))
    with pytest.raises(VolumeError, match=message) as caught:
        store.load("web")
    assert str(path) in str(caught.value)


def test_binary_rubbish_is_refused(store: VolumeStore) -> None:
    store.create(volume())
    (store.vols / "web" / "info").write_bytes(bytes(range(256)))
    with pytest.raises(VolumeError, match="damaged"):
        store.load("web")


@pytest.mark.parametrize("missing", ["info", "bricks"])
def test_missing_files_are_named(store: VolumeStore, missing: str) -> None:
    store.create(volume())
    path = store.vols / "web" / missing
    path.rename(store.root / "away")
    with pytest.raises(VolumeError, match=f"{missing}.* is missing"):
        store.load("web")


def test_a_brick_file_without_a_path_is_refused(store: VolumeStore) -> None:
    store.create(volume())
    for path in (store.vols / "web" / "bricks").iterdir():
        path.write_text("hostname=localhost\n")
    with pytest.raises(VolumeError, match="'path' is missing"):
        store.load("web")


def test_other_bricks_are_stored_with_their_files_and_numbers(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    store.create(Volume("web", (BrickSpec("/b/0"), BrickSpec("/b/1")), replica=2))
    bricks = (BrickSpec("/b/1"), BrickSpec("/n", 64 << 20))
    store.change("web", lambda before: replace(before, bricks=bricks, numbers=(1, 2)))
    after = store.load("web")
    assert (after.bricks, after.numbers, after.version) == (bricks, (1, 2), 2)
    assert [after.client(i) for i in range(2)] == ["web-client-1", "web-client-2"]
    assert sorted(os.listdir(tmp_path / "vols/web/bricks")) == ["localhost:-b-1", "localhost:-n"]
    assert "brick-id=web-client-2\n" in (tmp_path / "vols/web/bricks/localhost:-n").read_text()
    assert sorted(os.listdir(tmp_path / "vols/web")) == ["bricks", "info"]
