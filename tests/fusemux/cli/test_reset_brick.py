"""`fusemux volume reset-brick` on a mounted volume."""

from __future__ import annotations

import shutil

import pytest

from fusemux.testing.volume import Volume
from tests.fusemux.cli.bricks import done_well, fill, identical, open_file
from tests.fusemux.cli.conftest import Command

pytestmark = pytest.mark.mount


@pytest.mark.fusemux(replica=3)
@pytest.mark.parametrize("twice", [False, True])
def test_a_brick_is_reset_with_an_empty_directory(fusemux_volume: Volume, fusemux: Command, twice: bool) -> None:
    fill(fusemux_volume.path)
    path = fusemux_volume.brick(1).path
    again = [f"localhost:{path}"] if twice else []
    with open_file(fusemux_volume):
        done = fusemux("volume", "reset-brick", "test", str(path), "start")
        assert f"then: fusemux volume reset-brick test {path} commit" in done.out
        (fusemux_volume.path / "meanwhile").write_bytes(b"missed")
        shutil.rmtree(path)
        done_well(fusemux("volume", "reset-brick", "test", str(path), *again, "commit", *(["force"] if twice else [])))
    fusemux_volume.wait_healed()
    assert (path / "meanwhile").read_bytes() == b"missed"
    assert identical(fusemux_volume)


@pytest.mark.fusemux(replica=3)
def test_a_brick_that_keeps_its_files_goes_on_with_them_by_force(fusemux_volume: Volume, fusemux: Command) -> None:
    """What was deleted while it was down does not come back."""
    fill(fusemux_volume.path)
    path = fusemux_volume.brick(1).path
    done_well(fusemux("volume", "reset-brick", "test", "1", "start"))
    (fusemux_volume.path / "dir/file").unlink()
    done = fusemux("volume", "reset-brick", "test", "1", "commit")
    assert done.err == (
        f"error: brick {path} still has its files; empty the directory to have everything healed onto it, or say 'commit force' "
        "to go on with what is there\n"
    )
    done_well(fusemux("volume", "reset-brick", "test", "1", "commit", "force"))
    fusemux_volume.wait_healed()
    assert not (path / "dir/file").exists()
    assert identical(fusemux_volume)


@pytest.mark.fusemux(replica=3)
def test_a_reset_in_the_wrong_order_says_the_right_one(fusemux_volume: Volume, fusemux: Command) -> None:
    path = fusemux_volume.brick(1).path
    done = fusemux("volume", "reset-brick", "test", "1", "commit")
    assert f"brick {path} is up; take it down first: fusemux volume reset-brick test {path} start" in done.err
    assert "after the brick stands 'start', 'commit' or 'commit force'" in fusemux(
        "volume", "reset-brick", "test", "1", "begin"
    ).err  # fmt: skip
    done_well(fusemux("volume", "reset-brick", "test", "1", "start"))
    done_well(fusemux("volume", "reset-brick", "test", "1", "start"))
    assert f"reset-brick test {path} commit" in fusemux("brick", "start", "test", "1").err
    assert "would be left" not in fusemux("volume", "reset-brick", "test", "2", "start").err
    done = fusemux("volume", "reset-brick", "test", "0", "start")
    assert "bring the others back first" in done.err or "is down; bring it back first" in done.err
    assert fusemux("volume", "reset-brick", "test", "2", "commit", "force").status == 0
    assert fusemux("volume", "reset-brick", "test", "1", "commit", "force").status == 0
    fusemux_volume.wait_healed()
