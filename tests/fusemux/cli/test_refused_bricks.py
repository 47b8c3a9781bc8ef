"""Which changes of bricks are refused, and the way out that the user reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusemux.testing.volume import Volume
from tests.fusemux.cli.bricks import done_well, fill, new, pair
from tests.fusemux.cli.conftest import Command

pytestmark = pytest.mark.mount


@pair
def test_a_new_copy_needs_a_good_one_and_the_only_good_one_stays(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "file").write_bytes(b"old")
    bricks = [str(brick.path) for brick in fusemux_volume.bricks]
    where = new(fusemux_volume)
    before = fusemux("volume", "info", "test").out
    with fusemux_volume.brick(0).down():
        (fusemux_volume.path / "file").write_bytes(b"newer")
        done = fusemux("volume", "replace-brick", "test", bricks[1], where)
        assert f"{where} would have no good copy to be healed from: {bricks[0]} is down" in done.err
        assert "bring it back first" in done.err
    fusemux("volume", "set", "test", "cluster.self-heal-daemon", "off")
    fusemux_volume.brick(1).kill()
    (fusemux_volume.path / "only").write_bytes(b"here")
    fusemux_volume.brick(1).start()
    for words in (
        ["replace-brick", "test", bricks[0], where],
        ["reset-brick", "test", bricks[0], "start"],
    ):
        done = fusemux("volume", *words)
        assert f"{bricks[0]} has changes that the other copies have not got yet" in done.err, words
        assert "heal first: fusemux volume heal test" in done.err
    assert not os.path.exists(where)
    fusemux("volume", "heal", "test")
    done_well(fusemux("volume", "replace-brick", "test", bricks[0], where))
    fusemux("volume", "heal", "test")
    assert (Path(where) / "only").read_bytes() == b"here"
    assert before != fusemux("volume", "info", "test").out


@pair
def test_directories_that_cannot_be_new_copies(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "file").write_bytes(b"data")
    full = Path(new(fusemux_volume, "full"))
    full.mkdir()
    (full / "something").touch()
    bricks = [str(brick.path) for brick in fusemux_volume.bricks]
    for where, problem in (
        (str(full), "is not empty; a copy begins with an empty directory"),
        (bricks[1], f"has the brick {bricks[1]} already"),
        (bricks[1] + "/inside", "lies inside brick"),
        ("elsewhere", "'elsewhere' is neither a directory nor a word of volume replace-brick"),
        ("otherhost:/b", "only bricks of this machine can be used"),
    ):
        done = fusemux("volume", "replace-brick", "test", "0", where, "commit", "force")
        assert (done.status, problem in done.err) == (1, True), done
    done_well(fusemux("volume", "replace-brick", "test", "0", new(fusemux_volume)))
    done = fusemux("volume", "replace-brick", "test", "0", bricks[0])
    assert "was a brick of this volume before" in done.err or "is not empty" in done.err
    assert fusemux("volume", "replace-brick", "test", "7", "/x").err.startswith("error: volume 'test' has no brick 7")
    assert "there is no volume 'tset', did you mean 'test'" in fusemux("volume", "add-brick", "tset", "/x").err


@pytest.mark.fusemux("1")
def test_a_volume_without_copies_gets_none_while_it_is_mounted(fusemux_volume: Volume, fusemux: Command) -> None:
    fill(fusemux_volume.path)
    done = fusemux("volume", "add-brick", "test", "replica", "2", new(fusemux_volume))
    assert "has no copies yet" in done.err
    assert "unmount it to make copies" in done.err
    assert (
        "is not replicated: nobody has a copy"
        in fusemux("volume", "replace-brick", "test", "0", new(fusemux_volume)).err
    )
    assert "is not replicated: nobody has a copy" in fusemux("volume", "reset-brick", "test", "0", "start").err
