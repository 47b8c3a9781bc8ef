"""`fusemux volume heal` on a mounted volume: what is pending, why, and every way to settle a split-brain."""

from __future__ import annotations

import os
import re
from uuid import UUID

import pytest

from fusemux.testing.volume import Volume
from tests.fusemux.cli.conftest import Command

pytestmark = pytest.mark.mount

# Two copies that may each go on alone, no healing but by command, and a kernel that asks again each time.
alone = pytest.mark.fusemux(
    replica=2,
    options={"cluster.quorum-type": "none", "cluster.self-heal-daemon": "off", "cluster.favorite-child-policy": "none"},
    mount_options=("entry-timeout=0", "attribute-timeout=0", "negative-timeout=0", "nowriteback-cache"),
)
by_command = pytest.mark.fusemux(replica=3, options={"cluster.self-heal-daemon": "off"})


def apart(volume: Volume, *, name: str = "file", made_before: bool = True, last: bytes = b"much bigger") -> None:
    """Brick 1 gets a small file, then brick 0 another (bigger) one, and neither hears of the other."""
    path = volume.path / name
    if made_before:
        path.write_bytes(b"")
    volume.brick(0).kill()
    path.write_bytes(b"small")
    volume.brick(1).kill()
    volume.brick(0).start()
    path.write_bytes(last)
    volume.brick(1).start()


def gfid_of(volume: Volume, name: str, brick: int = 0) -> str:
    return str(UUID(bytes=os.getxattr(volume.brick(brick).path / name, "trusted.gfid")))


needs_trusted = pytest.mark.skipif(os.geteuid() != 0, reason="trusted.* xattrs need root")


@by_command
def test_what_a_brick_missed_is_listed_by_path_and_healed(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "dir").mkdir()
    with fusemux_volume.brick(0).down():
        (fusemux_volume.path / "dir/file").write_bytes(b"data")
        shown = fusemux("volume", "heal", "test", "info")
        assert shown.status == 0
        assert f"Brick {fusemux_volume.brick(0).path}\nStatus: Down\nNumber of entries: -" in shown.out
        assert f"Brick {fusemux_volume.brick(1).path}\n/dir\n/dir/file\nStatus: Connected\n" in shown.out
    summary = fusemux("volume", "heal", "test", "info", "summary", "--json").value
    assert [(row["up"], row["split_brain"]) for row in summary] == [(True, 0)] * 3
    assert [row["total"] for row in summary][1:] == [2, 2]
    done = fusemux("volume", "heal", "test")
    assert (done.status, done.err) == (0, "")
    assert re.fullmatch(r"test-replicate-0: \d+ healed, 0 left, 0 in split-brain\n", done.out)
    assert fusemux_volume.bricks_identical()
    assert "Number of entries: 0" in fusemux("volume", "heal", "test", "info").out


@by_command
def test_a_full_heal_finds_what_no_index_lists(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "file").write_bytes(b"data")
    fusemux_volume.remount()
    lost = fusemux_volume.brick(0).path / "file"
    handle = gfid_of(fusemux_volume, "file") if os.geteuid() == 0 else ""
    lost.unlink()
    if handle:
        (fusemux_volume.brick(0).path / ".glusterfs" / handle[:2] / handle[2:4] / handle).unlink()
    assert fusemux("volume", "heal", "test", "full").status == 0
    assert fusemux_volume.brick(0).read_bytes("file") == b"data"


@by_command
def test_explain_shows_the_matrix_and_the_decision(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "file").write_bytes(b"old")
    with fusemux_volume.brick(0).down():
        (fusemux_volume.path / "file").write_bytes(b"new data")
    shown = fusemux("volume", "heal", "test", "--explain", "/file").out
    assert shown.startswith("/file (gfid ")
    assert re.search(r"test-client-1 +100644 +\S+ +8 +\S+ +test-client-0 \d+/\d+/\d+", shown)
    assert "data: heal test-client-0 from test-client-1" in shown
    (value,) = fusemux("volume", "heal", "test", "--explain", "/file", "--json").value
    by_gfid = fusemux("volume", "heal", "test", "--explain", f"gfid:{value['gfid']}", "--json").value
    assert by_gfid == [value]
    fusemux("volume", "heal", "test")
    assert "data: nothing to heal" in fusemux("volume", "heal", "test", "--explain", "/file").out


@by_command
def test_explain_refuses_what_is_not_there(fusemux_volume: Volume, fusemux: Command) -> None:
    done = fusemux("volume", "heal", "test", "--explain", "/missing")
    assert done.status == 1
    assert "/missing: " in done.err
    assert "a gfid has the form" in fusemux("volume", "heal", "test", "--explain", "gfid:12").err
    unknown = f"gfid:{UUID(int=1 << 100)}"
    assert "no brick that is up has it" in fusemux("volume", "heal", "test", "--explain", unknown).err


@alone
def test_a_split_brain_is_listed_and_cannot_be_read(fusemux_volume: Volume, fusemux: Command) -> None:
    apart(fusemux_volume)
    with pytest.raises(OSError, match="Input/output"):
        (fusemux_volume.path / "file").read_bytes()
    assert "/file - Is in split-brain\n" in fusemux("volume", "heal", "test", "info", "split-brain").out
    assert "Number of entries in split-brain: 1" in fusemux("volume", "heal", "test", "info", "split-brain").out
    assert "data: split-brain: choose a copy" in fusemux("volume", "heal", "test", "--explain", "/file").out
    assert [row["split_brain"] for row in fusemux("volume", "heal", "test", "info", "summary", "--json").value] == [
        1,
        1,
    ]
    assert "1 in split-brain" in fusemux("volume", "heal", "test").out


@alone
@pytest.mark.parametrize(
    ("words", "wins"),
    [
        (["bigger-file"], b"much bigger"),
        (["latest-mtime"], b"much bigger"),
        (["source-brick", "0"], b"much bigger"),
        (["source-brick", "1"], b"small"),
    ],
)
def test_a_split_brain_is_settled(fusemux_volume: Volume, fusemux: Command, words: list[str], wins: bytes) -> None:
    apart(fusemux_volume)
    done = fusemux("volume", "heal", "test", "split-brain", *words, "/file")
    assert (done.status, done.out, done.err) == (0, "Healed /file.\n", "")
    assert (fusemux_volume.path / "file").read_bytes() == wins
    assert fusemux_volume.bricks_identical()
    again = fusemux("volume", "heal", "test", "split-brain", *words, "/file")
    assert (again.status, again.err) == (1, "error: /file is not in split-brain\n")


@alone
@needs_trusted
def test_a_split_brain_is_settled_by_gfid(fusemux_volume: Volume, fusemux: Command) -> None:
    apart(fusemux_volume)
    gfid = f"gfid:{gfid_of(fusemux_volume, 'file')}"
    assert fusemux("volume", "heal", "test", "split-brain", "bigger-file", gfid).status == 0
    assert (fusemux_volume.path / "file").read_bytes() == b"much bigger"


@alone
def test_one_brick_settles_everything(fusemux_volume: Volume, fusemux: Command) -> None:
    names = ["a", "b"]
    for name in names:
        apart(fusemux_volume, name=name)
    brick = str(fusemux_volume.brick(1).path)
    done = fusemux("volume", "heal", "test", "split-brain", "source-brick", brick, "--json")
    assert sorted(done.value) == ["/a", "/b"]
    assert [(fusemux_volume.path / name).read_bytes() for name in names] == [b"small"] * 2
    assert fusemux_volume.bricks_identical()
    assert fusemux("volume", "heal", "test", "split-brain", "source-brick", brick).out == "Nothing is in split-brain.\n"


@alone
@needs_trusted
@pytest.mark.parametrize(("words", "wins"), [(["bigger-file"], b"much bigger"), (["source-brick", "1"], b"small")])
def test_a_name_that_is_two_files_is_settled(
    fusemux_volume: Volume, fusemux: Command, words: list[str], wins: bytes
) -> None:
    apart(fusemux_volume, name="twice", made_before=False)
    assert gfid_of(fusemux_volume, "twice", 0) != gfid_of(fusemux_volume, "twice", 1)
    done = fusemux("volume", "heal", "test", "split-brain", *words, "/twice")
    assert (done.status, done.err) == (0, "")
    fusemux("volume", "heal", "test")
    assert (fusemux_volume.path / "twice").read_bytes() == wins
    assert fusemux_volume.bricks_identical()


@alone
def test_copies_of_one_size_are_not_settled_by_size(fusemux_volume: Volume, fusemux: Command) -> None:
    apart(fusemux_volume, last=b"SMALL")
    done = fusemux("volume", "heal", "test", "split-brain", "bigger-file", "/file")
    assert (done.status, "choose another way" in done.err) == (1, True)


@alone
def test_what_makes_no_sense_is_refused_with_the_way_out(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "file").write_bytes(b"data")
    for words, message, status in (
        (["info", "sumary"], "cannot read 'info sumary'; known are: full, info", 2),
        (["split-brain", "bigger-file"], "split-brain bigger-file PATH", 2),
        (["split-brain", "bigger-file", "/file"], "/file is not in split-brain", 1),
        (["split-brain", "bigger-file", "/missing"], "/missing", 1),
        (["split-brain", "source-brick", "7", "/file"], "has no brick 7", 1),
    ):
        done = fusemux("volume", "heal", "test", *words)
        assert (done.status, message in done.err) == (status, True), done
    done = fusemux("volume", "heal", "other", "info")
    assert (done.status, done.err) == (1, "error: volume 'other' is not served; mount it: fusemux mount other DIR\n")


@pytest.mark.fusemux("1")
def test_a_volume_without_copies_has_nothing_to_heal(fusemux_volume: Volume, fusemux: Command) -> None:
    done = fusemux("volume", "heal", "test", "info")
    assert (done.status, "it is not replicated" in done.err) == (1, True)


@by_command
def test_granular_esh_cli(fusemux_volume: Volume, fusemux: Command) -> None:
    """granular-esh/cli.t: turned on by the heal command alone, and only when no copy misses anything."""
    key, heal = "cluster.granular-entry-heal", ("volume", "heal", "test", "granular-entry-heal")
    refused = fusemux("volume", "set", "test", key, "on")
    assert (refused.status, "`fusemux volume heal test granular-entry-heal enable`" in refused.err) == (1, True)
    assert fusemux(*heal, "disable").out == "volume heal granular-entry-heal: success (in effect)\n"
    assert fusemux(*heal, "enable").out == "volume heal granular-entry-heal: success (in effect)\n"
    assert fusemux("volume", "get", "test", key).out.split()[-1] == "on"
    with fusemux_volume.brick(0).down():
        (fusemux_volume.path / "listed").write_bytes(b"data")
        assert fusemux(*heal, "disable").status == 0
        (fusemux_volume.path / "not-listed").write_bytes(b"data")
        refused = fusemux(*heal, "enable")
        assert (refused.status, f"brick {fusemux_volume.brick(0).path} is down" in refused.err) == (1, True)
    refused = fusemux(*heal, "enable")
    assert (refused.status, "entries that are to be healed" in refused.err) == (1, True)
    assert fusemux("volume", "heal", "test").status == 0
    assert fusemux_volume.bricks_identical()
    assert fusemux(*heal, "enable").status == 0
    assert fusemux("volume", "reset", "test", key).status == 0
    assert fusemux("volume", "get", "test", key).out.split()[-2:] == ["off", "(DEFAULT)"]
    assert fusemux(*heal, "on").status == 2


@pytest.mark.fusemux("2")
def test_granular_esh_cli_refuses_a_volume_without_copies(fusemux_volume: Volume, fusemux: Command) -> None:
    for word in ("enable", "disable"):
        done = fusemux("volume", "heal", "test", "granular-entry-heal", word)
        assert (done.status, "it is not replicated" in done.err) == (1, True)
