"""Which directories may become or be bricks, and what is said when one may not."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
import trio

from fusemux.bricks.brick import Brick
from fusemux.bricks.prepare import prepare
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.process import Process
from tests.bricks.serving import VOLUME_ID, Place

OTHER = str(uuid.UUID(int=77))
VOLUME = str(VOLUME_ID)


def attach(place: Place) -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            brick = await Brick.attach(process, place.sections())
            await brick.detach()

    trio.run(main)


def test_an_empty_or_missing_directory_becomes_a_brick_and_may_be_prepared_again(ram: Path) -> None:
    for name in ("missing", "empty"):
        path = ram / name
        if name == "empty":
            path.mkdir()
        prepare(str(path), VOLUME)
        (path / "file").write_text("a user's")
        prepare(str(path), VOLUME)
        attach(Place(path))
        assert (path / "file").read_text() == "a user's"


def test_a_brick_of_another_volume_is_refused_by_its_name(ram: Path) -> None:
    path = ram / "brick"
    prepare(str(path), OTHER)
    for force in (False, True):
        with pytest.raises(FusemuxError, match=f"{path} belongs to volume {OTHER}.*another directory"):
            prepare(str(path), VOLUME, force=force)
    with pytest.raises(FusemuxError, match=f"belongs to volume {OTHER}, not to {VOLUME}"):
        attach(Place(path))


def test_foreign_data_is_only_taken_by_force(ram: Path) -> None:
    path = ram / "brick"
    path.mkdir()
    (path / "data").write_text("x")
    with pytest.raises(FusemuxError, match=r"is not empty .*'data'.*force"):
        prepare(str(path), VOLUME)
    assert os.listdir(path) == ["data"]
    prepare(str(path), VOLUME, force=True)
    attach(Place(path))


def test_a_directory_inside_a_brick_is_refused(ram: Path) -> None:
    prepare(str(ram / "brick"), VOLUME)
    with pytest.raises(FusemuxError, match=f"lies inside {ram / 'brick'}"):
        prepare(str(ram / "brick" / "inner"), OTHER)


@pytest.mark.parametrize("name", ["a-file", "no/such/parent"])
def test_what_cannot_be_a_directory_is_named(ram: Path, name: str) -> None:
    (ram / "a-file").write_text("")
    with pytest.raises(FusemuxError, match=name):
        prepare(str(ram / name), VOLUME)


def test_a_directory_without_volume_id_is_not_served(ram: Path) -> None:
    (ram / "brick").mkdir()
    with pytest.raises(FusemuxError, match=r"carries no volume-id.*mount the right one"):
        attach(Place(ram / "brick"))
    assert os.listdir(ram / "brick") == [], "nothing is laid out in a wrong place"


def test_a_missing_directory_is_not_served(ram: Path) -> None:
    with pytest.raises(FusemuxError, match=r"No such file or directory.*mounted"):
        attach(Place(ram / "missing"))


def test_a_volume_id_that_is_no_uuid_is_named(ram: Path) -> None:
    place = Place(ram / "brick").prepare()
    place.options["volume-id"] = "web"
    with pytest.raises(FusemuxError, match="'web' is no uuid"):
        attach(place)


def test_a_file_system_without_xattrs_is_refused_with_the_way_out() -> None:
    with pytest.raises(FusemuxError, match=r"keeps no extended attributes.*use ext4|cannot be made"):
        prepare("/proc/sys", VOLUME)
