"""The SPEC of a mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusemux.volume.definition import VolumeError
from fusemux.volume.spec import ShortForm, StoredName, VolfilePath, read_short, read_spec

RAMDISKS = Path("/run/ramdisks")


def read(text: str, *stored: str) -> object:
    return read_spec(text, RAMDISKS, lambda name: name in stored)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("1", "1"),
        ("3", "3"),
        ("2x2", "2 x 2 = 4"),
        ("1x3", "1 x 3 = 3"),
        ("4+2", "1 x (4 + 2) = 6"),
        ("2x(4+2)", "2 x (4 + 2) = 12"),
        ("3x2+1", "3 x (2 + 1) = 9"),
        ("replica=3,size=256M", "1 x 3 = 3"),
        ("distribute=2,replica=2", "2 x 2 = 4"),
        ("distribute=3", "3"),
        ("replica=2,arbiter=1", "1 x (2 + 1) = 3"),
        ("replica=3,arbiter=1,distribute=2", "2 x (2 + 1) = 6"),
        ("2x3,arbiter=1", "2 x (2 + 1) = 6"),
        ("disperse=4+2", "1 x (4 + 2) = 6"),
        ("disperse=6,redundancy=2", "1 x (4 + 2) = 6"),
        ("disperse=3,distribute=2", "2 x (2 + 1) = 6"),
    ],
)
def test_short_forms_count_bricks_as_glusterfs_writes_them(text: str, counts: str) -> None:
    found = read(text)
    assert isinstance(found, ShortForm)
    assert found.volume.count_text == counts
    assert found.volume.throwaway


def test_a_short_form_puts_every_brick_on_a_ramdisk_of_its_own() -> None:
    volume = read_short("2x2,size=64M,name=web,cluster.min-free-disk=5%", RAMDISKS)
    assert [(b.path, b.ramdisk_bytes) for b in volume.bricks] == [
        (f"/run/ramdisks/web/b{i}", 64 << 20) for i in range(4)
    ]
    assert volume.name == "web"
    assert volume.options["cluster.min-free-disk"] == "5%"


def test_two_volumes_of_the_same_short_form_are_two_volumes() -> None:
    one, other = read_short("2x2", RAMDISKS), read_short("2x2", RAMDISKS)
    assert one.name != other.name
    assert one.id != other.id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("replcia=3", "unknown word 'replcia', did you mean 'replica'"),
        ("replica=3,replica=2", "'replica' is given twice"),
        ("2x2,replica=3", "say the same thing"),
        ("2x2,3x3", "'shape' is given twice"),
        ("replica=three", "needs a number"),
        ("disperse=4+", "write disperse=4\\+2"),
        ("2+2", "less than half"),
        ("0", "0 bricks"),
        ("2000x2", "4000 bricks; a volume has 1 to 1024"),
        ("1,size=lots", "expected a size"),
        ("nosuch", "there is no volume 'nosuch'"),
        ("localhost:/nosuch", "there is no volume 'nosuch'"),
        ("", "SPEC is empty"),
        ("2x2,name=a b", "should not contain ' '"),
        ("2x2,foo", "is given twice"),
    ],
)
def test_what_is_no_spec_is_refused_with_what_would_be(text: str, message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        read(text)


@pytest.mark.parametrize("text", ["web", "localhost:/web", "localhost:web", "127.0.0.1:/web"])
def test_a_stored_volume_is_found_by_name_and_as_glusterfs_writes_it(text: str) -> None:
    assert read(text, "web") == StoredName("web")


@pytest.mark.parametrize("text", ["/etc/web.vol", "./web", "web.vol"])
def test_a_path_is_a_volfile(text: str) -> None:
    assert read(text) == VolfilePath(Path(text).absolute())
