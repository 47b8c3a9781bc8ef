"""`fusemux volume replace-brick|reset-brick|add-brick|remove-brick` on a volume that is not mounted."""

from __future__ import annotations

import shutil

import pytest

from tests.fusemux.cli.bricks import Stored, fill
from tests.mounting import Place

pytestmark = pytest.mark.mount


def test_bricks_change_while_the_volume_is_not_mounted(volume_place: Place) -> None:
    """The marks are the same: at the next mount everything is healed onto the new bricks."""
    web = Stored(volume_place, "replica", "2", "/b0", "/b1")
    with web.mounted() as where:
        fill(where)
    web("replace-brick", "/b1", "/n1")
    web("add-brick", "replica", "3", "/n2")
    refused = web("replace-brick", "/b0", "/n0", status=1)
    assert "/b0 has changes that the other copies have not got yet" in refused or "is not healed itself" in refused
    with web.mounted():
        web.wait_healed()
    shutil.rmtree(web.at("b0"))  # its disk is lost
    web("reset-brick", "/b0", "commit")
    assert "it is not served, nothing to do" in web("reset-brick", "/b0", "start")
    assert "Number of Bricks: 1 x 3 = 3" in web("info")
    with web.mounted() as where:
        assert (where / "dir/sub/file").read_bytes() == b"dir/sub/file" * 1000
        web.wait_healed()
    assert web.identical("b0", "n1", "n2")
    web("remove-brick", "replica", "2", "/n1", "force")
    with web.mounted() as where:
        (where / "later").write_bytes(b"by two")
    assert web.identical("b0", "n2")
    assert not (web.at("n1") / "later").exists()


def test_the_only_good_copy_is_not_given_up_for_new_ones_that_are_not_healed_yet(volume_place: Place) -> None:
    web = Stored(volume_place, "replica", "2", "/b0", "/b1")
    with web.mounted() as where:
        fill(where)
    web("replace-brick", "/b1", "/n1")
    kept = web.at("b0").rename(web.at("moved"))
    web.at("b0").mkdir()
    refused = web("reset-brick", "/b0", "commit", status=1)
    assert "/n1 is not healed itself; heal first: fusemux volume heal web" in refused
    web.at("b0").rmdir()
    kept.rename(web.at("b0"))
    with web.mounted():
        web.wait_healed()
    assert web.identical("b0", "n1")


def test_a_volume_without_copies_gets_them_while_it_is_not_mounted(volume_place: Place) -> None:
    web = Stored(volume_place, "/b0")
    with web.mounted() as where:
        fill(where)
    web("add-brick", "replica", "2", "/b1")
    with web.mounted() as where:
        web.wait_healed()
        assert (where / "file").read_bytes() == b"file" * 1000
    assert web.identical("b0", "b1")


def test_a_ramdisk_is_made_for_a_new_brick_and_removed_with_it(volume_place: Place) -> None:
    web = Stored(volume_place, "replica", "2", "/b0", "ramdisk:64M")
    ramdisks = volume_place.root / "run/ramdisks/web"
    with web.mounted() as where:
        fill(where)
        web("replace-brick", "1", "ramdisk:32M")
        web.wait_healed()
        (ramdisk,) = ramdisks.iterdir()
        assert (ramdisk / "file").read_bytes() == b"file" * 1000
        web("add-brick", "replica", "3", "ramdisk:32M")
        assert len(list(ramdisks.iterdir())) == 2
        web("remove-brick", "replica", "2", "1", "force")
        assert ramdisk not in ramdisks.iterdir()
    web("delete", "--yes")
    assert not ramdisks.exists()
