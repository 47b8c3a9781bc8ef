"""`fusemux volume replace-brick|add-brick|remove-brick` on a mounted volume."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fusemux.testing.volume import Volume
from fusemux.volume.store import VolumeStore
from tests.fusemux.cli.bricks import done_well, fill, identical, new, open_file, pair, paths_of
from tests.fusemux.cli.conftest import Command

pytestmark = pytest.mark.mount

granular_or_not = pytest.mark.parametrize("granular", ["on", "off"])


@pair
@granular_or_not
def test_replace_brick_self_heal_on_a_mounted_volume(fusemux_volume: Volume, fusemux: Command, granular: str) -> None:
    """Files stay open and go on; the new brick heals by itself and is the volume's from now on."""
    set_granular(fusemux, granular)
    fill(fusemux_volume.path)
    with open_file(fusemux_volume):
        done_well(fusemux("volume", "replace-brick", "test", "1", new(fusemux_volume), "commit", "force"))
        (fusemux_volume.path / "made").write_bytes(b"after it")
    fusemux_volume.wait_healed()
    assert paths_of(fusemux_volume)[1] == Path(new(fusemux_volume))
    assert (Path(new(fusemux_volume)) / "dir/sub/file").read_bytes() == b"dir/sub/file" * 1000
    assert identical(fusemux_volume)
    assert f"Brick2: localhost:{new(fusemux_volume)}\n" in fusemux("volume", "info", "test").out


def set_granular(fusemux: Command, granular: str) -> None:
    done = fusemux("volume", "set", "test", "cluster.granular-entry-heal", granular)
    if done.status:  # where only the heal command may change it
        done = fusemux("volume", "heal", "test", "granular-entry-heal", "enable" if granular == "on" else "disable")
    assert done.status == 0, done


@pair
@granular_or_not
def test_add_brick_self_heal_on_a_mounted_volume(fusemux_volume: Volume, fusemux: Command, granular: str) -> None:
    set_granular(fusemux, granular)
    fill(fusemux_volume.path)
    with open_file(fusemux_volume) as fd:
        os.unlink(fusemux_volume.path / "open")  # it has no name by which a new copy could get it
        done = fusemux("volume", "add-brick", "test", "replica", "3", new(fusemux_volume))
        assert done.out.startswith("volume add-brick: test: success (Replicate, 1 x 3 = 3 bricks)\n")
        assert os.fstat(fd).st_nlink == 0
    fusemux_volume.wait_healed()
    (fusemux_volume.path / "made").write_bytes(b"by three")
    assert (Path(new(fusemux_volume)) / "made").read_bytes() == b"by three"
    assert identical(fusemux_volume)
    assert fusemux("volume", "info", "test", "--json").value["replica"] == 3


@pair
def test_a_directory_that_is_being_listed_goes_on_across_a_new_copy(fusemux_volume: Volume, fusemux: Command) -> None:
    names = {f"name{i:04}" for i in range(1000)}
    for name in names:
        (fusemux_volume.path / name).touch()
    with os.scandir(fusemux_volume.path) as listing:
        found = [next(listing).name for _ in range(10)]
        done_well(fusemux("volume", "add-brick", "test", "replica", "3", new(fusemux_volume)))
        found += [entry.name for entry in listing]
    assert len(found) == len(names)
    assert set(found) == names


@pytest.mark.fusemux(replica=3)
def test_copies_are_removed_and_files_stay_open(fusemux_volume: Volume, fusemux: Command) -> None:
    fill(fusemux_volume.path)
    left = str(fusemux_volume.brick(0).path)
    with open_file(fusemux_volume):
        done = fusemux("volume", "remove-brick", "test", "replica", "2", left, "force")
        assert f"what was removed stays as it is: {left}" in done.out
    (fusemux_volume.path / "made").write_bytes(b"by two")
    assert not (Path(left) / "made").exists()
    assert identical(fusemux_volume)
    # The numbers of those that stay are theirs for good, and a new one gets another.
    done_well(fusemux("volume", "add-brick", "test", "replica", "3", new(fusemux_volume)))
    fusemux_volume.wait_healed()
    stored = VolumeStore(Path(fusemux_volume.env["FUSEMUX_STATE_DIR"])).load("test")
    assert [stored.client(i) for i in range(3)] == ["test-client-1", "test-client-2", "test-client-3"]
    assert identical(fusemux_volume)


@pair
def test_whole_sets_are_added_to_a_mounted_volume(fusemux_volume: Volume, fusemux: Command) -> None:
    """What is there stays where it is; directories made from now on use the new set, too."""
    fill(fusemux_volume.path)
    with open_file(fusemux_volume):
        done = fusemux("volume", "add-brick", "test", new(fusemux_volume, "n0"), new(fusemux_volume, "n1"))
        assert "directories that are made from now on" in done.out
    (fusemux_volume.path / "dir/late").write_bytes(b"in an old directory")
    assert (fusemux_volume.brick(0).path / "dir/late").exists()
    (fusemux_volume.path / "fresh").mkdir()
    for i in range(32):
        (fusemux_volume.path / f"fresh/{i}").write_bytes(b"%d" % i)
    assert 0 < len(os.listdir(Path(new(fusemux_volume, "n0")) / "fresh")) < 32
    fusemux_volume.remount()
    assert (fusemux_volume.path / "dir/sub/file").read_bytes() == b"dir/sub/file" * 1000
    assert {(fusemux_volume.path / f"fresh/{i}").read_bytes() for i in range(32)} == {b"%d" % i for i in range(32)}
    assert len(os.listdir(fusemux_volume.path)) == 5
    shutil.rmtree(fusemux_volume.path / "fresh")


@pytest.mark.fusemux("2", mount_options=("entry-timeout=0", "attribute-timeout=0"))
def test_a_brick_is_added_to_a_distributed_volume(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "dir").mkdir()
    with open_file(fusemux_volume):
        done_well(fusemux("volume", "add-brick", "test", new(fusemux_volume)))
        (fusemux_volume.path / "dir/file").write_bytes(b"old directory")
    (fusemux_volume.path / "fresh").mkdir()
    for i in range(32):
        (fusemux_volume.path / f"fresh/{i}").touch()
    assert os.listdir(Path(new(fusemux_volume)) / "fresh") != []
    assert len(os.listdir(fusemux_volume.path / "fresh")) == 32


@pytest.mark.fusemux(replica=2, options={"cluster.quorum-type": "none"}, disk=True)
def test_copies_come_and_go_under_load_on_disks(fusemux_volume: Volume, fusemux: Command) -> None:
    """Where bricks wait for disks, calls are under way whenever the graph changes."""
    script = "i=0; while [ ! -e stop ]; do i=$((i+1)); echo $i > f$((i % 50)) || exit 1; mkdir d$i && rmdir d$i || exit 2; done"
    load = subprocess.Popen(["sh", "-c", script], cwd=fusemux_volume.path)
    try:
        done_well(fusemux("volume", "add-brick", "test", "replica", "3", new(fusemux_volume)))
        fusemux_volume.wait_healed(within_s=30)
        done_well(fusemux("volume", "replace-brick", "test", "1", new(fusemux_volume, "other")))
        fusemux_volume.wait_healed(within_s=30)
        done_well(fusemux("volume", "remove-brick", "test", "replica", "2", "0", "force"))
        assert load.poll() is None
    finally:
        (fusemux_volume.path / "stop").touch()
        assert load.wait(30) == 0
    fusemux_volume.wait_healed(within_s=30)
    assert identical(fusemux_volume)
