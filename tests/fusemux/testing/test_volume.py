"""The fixture `fusemux_volume` on a real mount: bricks, faults, crashes, power cuts, healing."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest

from fusemux.serve.control import Refused
from fusemux.testing.faults import NotFired
from fusemux.testing.report import NotHealed
from fusemux.testing.volume import Volume
from tests.mounting import mounts_below

pytestmark = pytest.mark.mount


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def test_it_is_three_copies_unless_told_otherwise(fusemux_volume: Volume) -> None:
    (fusemux_volume.path / "file").write_bytes(b"data")
    assert [brick.read_bytes("file") for brick in fusemux_volume.bricks] == [b"data"] * 3
    assert fusemux_volume.bricks_identical()


@pytest.mark.fusemux("2x2")
def test_a_spec_says_what_it_is(fusemux_volume: Volume) -> None:
    assert len(fusemux_volume.bricks) == 4
    (fusemux_volume.path / "file").write_bytes(b"data")
    assert sum((brick.path / "file").exists() for brick in fusemux_volume.bricks) == 2
    assert fusemux_volume.bricks_identical()


@pytest.mark.fusemux(replica=3, arbiter=1)
def test_an_arbiter_counts_as_equal_without_contents(fusemux_volume: Volume) -> None:
    (fusemux_volume.path / "file").write_bytes(b"data")
    assert fusemux_volume.bricks_identical()
    assert fusemux_volume.brick(2).read_bytes("file") == b""


@pytest.mark.fusemux(replica=2, options={"cluster.read-subvolume-index": 1, "cluster.quorum-type": "none"})
def test_options_of_the_volume_are_taken(fusemux_volume: Volume) -> None:
    assert "option quorum-type none" in fusemux_volume.graph


def test_a_write_survives_a_brick_that_is_down_and_is_healed(fusemux_volume: Volume) -> None:
    with fusemux_volume.brick(0).down():
        assert not fusemux_volume.brick(0).up
        (fusemux_volume.path / "file").write_bytes(b"data")
        assert not (fusemux_volume.brick(0).path / "file").exists()
        assert not fusemux_volume.bricks_identical()
    fusemux_volume.wait_healed()
    assert fusemux_volume.bricks_identical()
    assert fusemux_volume.brick(0).read_bytes("file") == b"data"
    assert all(row["entries"] == [] for row in fusemux_volume.heal_info())


def test_what_cannot_be_healed_is_said(fusemux_volume: Volume) -> None:
    with fusemux_volume.brick(0).down():
        (fusemux_volume.path / "file").write_bytes(b"data")
        with pytest.raises(NotHealed, match=r"b0: down\n.*b1: .*/file"):
            fusemux_volume.wait_healed(within_s=0)


def test_a_copy_that_was_tampered_with_is_found(fusemux_volume: Volume) -> None:
    (fusemux_volume.path / "file").write_bytes(b"data")
    sync(fusemux_volume.path / "file")
    assert fusemux_volume.brick(1).tamper("file") == 2
    found = fusemux_volume.bricks_identical()
    assert not found
    assert "/file: content: b0 " in repr(found)


def test_an_error_is_for_the_fop_and_path_it_was_set_for(fusemux_volume: Volume) -> None:
    fault = fusemux_volume.faults.error(fop="writev", path="*.wal", nth=2, errno="ENOSPC")
    fd = os.open(fusemux_volume.path / "a.wal", os.O_WRONLY | os.O_CREAT | os.O_DSYNC)
    os.write(fd, b"1")
    assert fault.fired == 0
    with pytest.raises(OSError, match="No space"):
        os.write(fd, b"2")
    os.write(fd, b"3")
    os.close(fd)
    (fusemux_volume.path / "a.db").write_bytes(b"other")
    assert (fault.wait_fired(), fault.matched) == (1, 2)
    fault.clear()
    fault.clear()
    assert fault.fired == 1, "what it counted is still known"


def test_a_fault_that_does_not_fire_says_so(fusemux_volume: Volume) -> None:
    fault = fusemux_volume.faults.error(fop="link")
    with pytest.raises(NotFired, match="EIO on link at mount: matched 0, fired 0"):
        fault.wait_fired(within_s=0)


def test_a_fault_of_one_brick_is_healed_from_the_others(fusemux_volume: Volume) -> None:
    with fusemux_volume.brick(2).faults.error(fop="writev", errno="EIO") as fault:
        (fusemux_volume.path / "file").write_bytes(b"data")
        sync(fusemux_volume.path / "file")
        assert fault.fired >= 1
    fusemux_volume.wait_healed()
    assert fusemux_volume.bricks_identical()


def test_a_frozen_brick_lets_the_call_wait_until_it_is_started(fusemux_volume: Volume) -> None:
    fault = fusemux_volume.brick(1).freeze()
    writer = threading.Thread(target=(fusemux_volume.path / "file").write_bytes, args=(b"data",))
    writer.start()
    fault.wait_fired()
    assert writer.is_alive()
    fusemux_volume.brick(1).start()
    writer.join()
    assert fusemux_volume.brick(1).read_bytes("file") == b"data"


def test_an_unknown_fault_is_refused_with_the_next_step(fusemux_volume: Volume) -> None:
    with pytest.raises(Refused, match="there is no fop 'wrte'"):
        fusemux_volume.faults.error(fop="wrte")


def test_after_a_crash_is_what_had_reached_the_bricks(fusemux_volume: Volume) -> None:
    path = fusemux_volume.path / "file"
    path.write_bytes(b"data")
    sync(path)
    held = os.open(path, os.O_RDONLY)
    before = fusemux_volume.pid
    fusemux_volume.crash()
    with pytest.raises(OSError, match="not connected"):
        os.read(held, 1)
    with contextlib.suppress(OSError):
        os.close(held)
    assert fusemux_volume.pid != before
    assert path.read_bytes() == b"data"
    fusemux_volume.wait_healed()
    assert fusemux_volume.bricks_identical()


@pytest.mark.fusemux(replica=3, options={"cluster.ensure-durability": "off"})
def test_a_power_cut_takes_what_was_not_synced(fusemux_volume: Volume) -> None:
    kept, lost, changed = (fusemux_volume.path / name for name in ("kept", "lost", "changed"))
    kept.write_bytes(b"synced")
    sync(kept)
    changed.write_bytes(b"old" * 4000)
    sync(changed)
    lost.write_bytes(b"never synced")
    with open(changed, "r+b") as file:
        file.seek(5000)
        file.write(b"new")
        file.truncate(9000)
    fusemux_volume.power_cut()
    assert kept.read_bytes() == b"synced"
    assert changed.read_bytes() == b"old" * 4000
    assert not lost.exists() or lost.read_bytes() == b""
    fusemux_volume.wait_healed()
    assert fusemux_volume.bricks_identical()


def test_one_brick_that_lost_power_is_healed(fusemux_volume: Volume) -> None:
    path = fusemux_volume.path / "file"
    path.write_bytes(b"0" * 8192)
    sync(path)
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"1" * 100, 4000)
    fusemux_volume.brick(0).power_cut()
    os.pwrite(fd, b"2", 0)
    os.fsync(fd)
    os.close(fd)
    fusemux_volume.brick(0).start()
    fusemux_volume.wait_healed()
    assert fusemux_volume.bricks_identical()
    assert path.read_bytes()[:1] == b"2"


@pytest.mark.fusemux(replica=3, volatile="names", options={"cluster.ensure-durability": "off"})
def test_a_power_cut_takes_names_that_were_not_synced(fusemux_volume: Volume) -> None:
    old, new, kept = (fusemux_volume.path / name for name in ("old", "new", "kept"))
    old.write_bytes(b"old")
    os.chmod(old, 0o644)
    sync(old)
    kept.write_bytes(b"kept")
    sync(kept)
    folder = os.open(fusemux_volume.path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    os.chmod(old, 0o600)
    old.rename(new)
    kept.with_name("lost").write_bytes(b"lost")
    fusemux_volume.power_cut()
    assert sorted(os.listdir(fusemux_volume.path)) == ["kept", "old"]
    assert (old.stat().st_mode & 0o777, kept.read_bytes()) == (0o644, b"kept")
    fusemux_volume.wait_healed()
    assert fusemux_volume.bricks_identical()


@pytest.mark.fusemux(replica=2, volatile=False)
def test_without_the_layer_a_power_cut_is_refused(fusemux_volume: Volume) -> None:
    with pytest.raises(Refused, match=r"debug\.volatile"):
        fusemux_volume.power_cut()
    assert all(brick.up for brick in fusemux_volume.bricks)


def test_remounting_in_good_order_keeps_everything(fusemux_volume: Volume) -> None:
    (fusemux_volume.path / "file").write_bytes(b"data")
    fusemux_volume.remount()
    assert (fusemux_volume.path / "file").read_bytes() == b"data"


def test_the_last_calls_are_known(fusemux_volume: Volume) -> None:
    (fusemux_volume.path / "dir").mkdir()
    assert any("mkdir(" in call and "b'dir'" in call for call in fusemux_volume.calls())


@pytest.mark.fusemux(replica=2, size="8M")
def test_a_brick_with_a_size_can_really_be_full(fusemux_volume: Volume) -> None:
    if os.geteuid():
        pytest.skip("only root can give a brick a size of its own")
    with pytest.raises(OSError, match="No space") as raised:
        (fusemux_volume.path / "file").write_bytes(bytes(16 << 20))
    assert raised.value.errno == errno.ENOSPC


def test_commands_find_the_volume_by_its_environment(fusemux_volume: Volume) -> None:
    assert fusemux_volume.env["FUSEMUX_RUN_DIR"].startswith(str(fusemux_volume.path.parent))


def test_closing_leaves_nothing_even_when_it_is_frozen_or_crashed(request: pytest.FixtureRequest) -> None:
    volume: Volume = request.getfixturevalue("fusemux_volume")
    volume.brick(0).freeze()
    brick, root = volume.brick(0).path, volume.path.parent
    volume.close()
    assert not root.exists()
    assert not brick.exists()
    assert mounts_below(str(root)) == []


@pytest.mark.parametrize("size", [None, "32M"])
def test_a_brick_is_replaced_by_an_empty_one_and_healed(request: pytest.FixtureRequest, size: str | None) -> None:
    if size is not None:
        request.node.add_marker(pytest.mark.fusemux(replica=3, size=size))
    volume: Volume = request.getfixturevalue("fusemux_volume")
    (volume.path / "file").write_bytes(b"data")
    old = volume.brick(1).path
    volume.brick(1).replace()
    assert volume.brick(1).path not in (old, volume.brick(0).path)
    (volume.path / "later").write_bytes(b"more")
    volume.wait_healed()
    assert [volume.brick(1).read_bytes(name) for name in ("file", "later")] == [b"data", b"more"]
    volume.brick(1).replace()
    volume.remount()
    volume.wait_healed()
    assert volume.bricks_identical()
    assert str(volume.brick(1).path) in volume.graph
