"""Arbiters by command: at creation, added to two copies, removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusemux.cli.main import main
from tests.fusemux.cli.bricks import Stored, fill
from tests.mounting import Place

pytestmark = pytest.mark.mount


def test_arbiter_add_brick(volume_place: Place) -> None:
    """Two copies with heals pending get an arbiter, and then a second set with one."""
    web = Stored(volume_place, "replica", "2", "/b0", "/b1")
    web("set", "cluster.self-heal-daemon", "off")
    with web.mounted() as where:
        fill(where)
        volume_place.fusemux("brick", "kill", "web", "0")
        (where / "file").write_bytes(b"changed")
        (where / "dir/new").write_bytes(b"new")
        volume_place.fusemux("brick", "start", "web", "0")
        assert "1 bricks, got 2" in web("add-brick", "replica", "3", "arbiter", "1", "/a", "/b", status=1)
        assert "not 2 to 2" in web("add-brick", "replica", "3", "arbiter", "2", "/a", status=1)
        web("add-brick", "replica", "3", "arbiter", "1", "/a0")
        assert "1 x (2 + 1) = 3" in web("info")
        web("set", "cluster.self-heal-daemon", "on")
        web.wait_healed()
        assert [len((where / name).read_bytes()) for name in ("file", "dir/new", "dir/file")] == [7, 3, 8000]
        sizes = {(web.at("a0") / name).stat().st_size for name in ("file", "dir/new", "dir/file", "dir/sub/file")}
        assert sizes == {0}
        assert "the count of such a volume cannot be raised" in web("add-brick", "replica", "4", "/x", status=1)
        assert "3, 6, ... bricks can be added, got 1" in web("add-brick", "/x", status=1)
        web("add-brick", "replica", "3", "arbiter", "1", "/b2", "/b3", "/a1")
        assert "2 x (2 + 1) = 6" in web("info")
        (where / "fresh").mkdir()
        for i in range(16):
            (where / f"fresh/{i}").write_bytes(b"content")
        assert {file.stat().st_size for file in (web.at("a1") / "fresh").iterdir()} == {0}
        assert {file.stat().st_size for file in (web.at("b2") / "fresh").iterdir()} == {7}
    assert web.identical("b0", "b1", "a0", arbiter=True)
    assert web.identical("b2", "b3", "a1", arbiter=True)


def test_arbiter_remove_brick(volume_place: Place) -> None:
    web = Stored(volume_place, "replica", "3", "arbiter", "1", "/b0", "/b1", "/a0")
    with web.mounted() as where:
        fill(where)
        assert "holds data; write 'replica 2" in web("remove-brick", "replica", "2", "/b0", "force", status=1)
        assert "only the arbiter can be removed" in web("remove-brick", "replica", "1", "/a0", "/b0", "force", status=1)
        web("remove-brick", "replica", "2", "/a0", "force")
        assert "1 x 2 = 2" in web("info")
        (where / "after").write_bytes(b"full")
    for brick in ("b0", "b1"):
        assert (web.at(brick) / "after").read_bytes() == b"full"
    assert not (web.at("a0") / "after").exists()
    assert web.identical("b0", "b1")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("arbiter 1 /b0 /b1 /b2", "'arbiter' needs 'replica' before it"),
        ("arbiter 1 replica 3 /b0 /b1 /b2", "for an arbiter configuration there must be|'arbiter' needs|success"),
        ("replica 3 arbiter 2 /b0 /b1 /b2", "there must be 2 data copies and 1 arbiter"),
        ("replica 4 arbiter 1 /b0 /b1 /b2 /b3", "there must be 2 data copies and 1 arbiter"),
        ("replica 3 arbiter 1 /b0 /b1", "replica 3 needs 3, 6, 9"),
        ("replica 2 arbiter 1 /b0 /b1 /b2", "success (Replicate, 1 x (2 + 1) = 3 bricks)"),
        ("replica 3 arbiter 1 /b0 /b1 /b2", "success (Replicate, 1 x (2 + 1) = 3 bricks)"),
    ],
)
def test_arbiter_cli(
    words: str, answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Which ways to ask for an arbiter are understood."""
    monkeypatch.setenv("FUSEMUX_STATE_DIR", str(tmp_path / "state"))
    status = main(["volume", "create", "web", *(word.replace("/", f"{tmp_path}/") for word in words.split())])
    shown = "".join(capsys.readouterr())
    assert any(text in shown for text in answer.split("|"))
    assert (status == 0) == ("success" in shown)
