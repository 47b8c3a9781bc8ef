"""`fusemux volume ...` through a process of its own: words, tables, JSON, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mounting import FUSEMUX, Place, place


@pytest.fixture
def here() -> Any:
    """A place without mounts."""
    with place() as made:
        yield made


def refused(here: Place, *words: str | Path) -> str:
    """The one line of a refusal."""
    done = here.fusemux(*words, check=False)
    assert done.returncode in (1, 2), done
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_volume_is_created_shown_listed_and_deleted(here: Place) -> None:
    bricks = [here.root / f"b{i}" for i in range(4)]
    done = here.fusemux("volume", "create", "web", "replica", "2", *bricks)
    assert "volume create: web: success (Distributed-Replicate, 2 x 2 = 4 bricks)" in done.stdout
    assert all((brick / ".glusterfs").is_dir() for brick in bricks)
    text = here.fusemux("volume", "info", "web").stdout
    for line in ("Volume Name: web", "Type: Distributed-Replicate", "Status: Created", "Number of Bricks: 2 x 2 = 4",
                 f"Brick4: localhost:{bricks[3]}", "performance.client-io-threads: off"):  # fmt: skip
        assert line in text.splitlines()
    value = here.answer("volume", "info", "web")
    assert (value["type"], value["replica"], len(value["bricks"])) == ("Distributed-Replicate", 2, 4)
    assert [v["name"] for v in here.answer("volume", "info")] == ["web"]
    assert here.fusemux("volume", "list").stdout == "web\n"
    assert here.answer("volume", "list") == ["web"]
    deleted = here.fusemux("volume", "delete", "web", "--yes").stdout
    assert "volume delete: web: success" in deleted
    assert str(bricks[0]) in deleted  # its bricks stay
    assert here.answer("volume", "list") == []
    assert bricks[0].is_dir()


def test_brick_kinds_are_told_apart(here: Place) -> None:
    here.fusemux("volume", "create", "web", "replica", "2", "arbiter", "1", "ramdisk:64MB", "ramdisk", here.root / "b2")
    text = here.fusemux("volume", "info", "web").stdout.splitlines()
    assert f"Brick1: localhost:{here.root}/run/ramdisks/web/b0 (ramdisk 64MB)" in text
    assert f"Brick2: localhost:{here.root}/run/ramdisks/web/b1 (ramdisk)" in text
    assert f"Brick3: localhost:{here.root}/b2 (arbiter)" in text
    assert not (here.root / "run/ramdisks/web").exists()  # made when it is first served


def test_a_volume_that_cannot_be_created_leaves_its_bricks_as_they_were(here: Place) -> None:
    (here.root / "full").mkdir()
    (here.root / "full/file").touch()
    (here.root / "empty").mkdir()
    message = refused(here, "volume", "create", "web", here.root / "new", here.root / "empty", here.root / "full")
    assert "full is not empty" in message
    assert not (here.root / "new").exists()
    assert os.listdir(here.root / "empty") == []
    assert os.listxattr(here.root / "empty") == []
    assert here.answer("volume", "list") == []
    here.fusemux("volume", "create", "web", here.root / "new", here.root / "empty", here.root / "full", "force")


def test_a_brick_serves_one_volume(here: Place) -> None:
    here.fusemux("volume", "create", "one", here.root / "b0")
    assert "belongs to volume" in refused(here, "volume", "create", "two", here.root / "b0", "force")
    assert "lies inside" in refused(here, "volume", "create", "two", here.root / "b0/inner")
    assert "already exists" in refused(here, "volume", "create", "one", here.root / "b1")
    assert not (here.root / "b1").exists()


def test_deleting_asks_for_a_yes_where_nobody_can_answer(here: Place) -> None:
    here.fusemux("volume", "create", "web", here.root / "b0")
    assert "confirm it with --yes" in refused(here, "volume", "delete", "web")
    assert here.answer("volume", "list") == ["web"]


@pytest.mark.parametrize(("answer", "left"), [("n\n", ["web"]), ("", ["web"]), ("y\n", [])])
def test_deleting_asks_on_a_terminal(here: Place, answer: str, left: list[str]) -> None:
    here.fusemux("volume", "create", "web", here.root / "b0")
    leader, follower = os.openpty()
    os.write(leader, answer.encode() or b"\x04")
    command = [*FUSEMUX, "volume", "delete", "web"]
    done = subprocess.run(
        command, stdin=follower, stderr=follower, stdout=subprocess.DEVNULL, env=here.env, check=False
    )
    asked = os.read(leader, 4096).decode()
    os.close(leader)
    os.close(follower)
    assert "Deleting volume 'web' will erase all information about the volume. Do you want to continue? (y/n)" in asked
    assert (done.returncode == 0) is (left == [])
    assert here.answer("volume", "list") == left


def test_a_damaged_definition_does_not_hide_the_others_and_can_be_deleted(here: Place) -> None:
    for name in ("good", "bad"):
        here.fusemux("volume", "create", name, here.root / name)
    (here.root / "state/vols/bad/info").write_text("rubbish\n")
    done = here.fusemux("volume", "info", check=False)
    assert done.returncode == 1
    assert "Volume Name: good" in done.stdout
    assert "state/vols/bad/info, line 1: expected key=value, found 'rubbish'" in done.stderr
    assert "the file is damaged" in refused(here, "volume", "info", "bad")
    here.fusemux("volume", "delete", "bad", "--yes")
    assert here.answer("volume", "list") == ["good"]


def test_options_are_set_read_and_reset(here: Place) -> None:
    here.fusemux("volume", "create", "web", here.root / "b0")
    assert (
        here.fusemux("volume", "set", "web", "storage.reserve", "5%", "ctime.noatime", "off").stdout
        == "volume set: success\n"
    )
    assert here.fusemux("volume", "get", "web", "storage.reserve").stdout.splitlines()[1].split() == [
        "storage.reserve",
        "5%",
    ]
    assert here.answer("volume", "get", "web", "ctime.noatime") == {"ctime.noatime": {"value": "off", "default": False}}
    everything = here.answer("volume", "get", "web", "all")
    assert everything["features.ctime"] == {"value": "on", "default": True}
    assert here.answer("volume", "info", "web")["options"]["storage.reserve"] == "5%"
    here.fusemux("volume", "reset", "web", "storage.reserve")
    assert here.answer("volume", "get", "web", "storage.reserve") == {
        "storage.reserve": {"value": "1%", "default": True}
    }
    here.fusemux("volume", "reset", "web")
    assert here.answer("volume", "info", "web")["options"] == {}


def test_options_explain_themselves(here: Place) -> None:
    assert "Option: cluster.min-free-disk" in here.fusemux("volume", "set", "help").stdout
    text = here.fusemux("volume", "help", "storage.reserve").stdout
    assert "Default Value: 1%" in text
    assert "Description: " in text
    value = here.answer("volume", "help", "storage.io-mode")
    assert (value["choices"], value["live"]) == (["auto", "inline", "pool"], False)
    assert len(here.answer("volume", "help")) > 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["volume", "set", "web", "storage.reserv", "5%"], "option 'storage.reserv' does not exist, did you mean 'storage.reserve'?"),
        (["volume", "set", "web", "storage.reserve", "lots"], "option storage.reserve 'lots': expected a size"),
        (["volume", "set", "web", "storage.reserve"], "expected VOLUME OPTION VALUE [OPTION VALUE ...]"),
        (["volume", "set", "wbe", "storage.reserve", "5%"], "there is no volume 'wbe', did you mean 'web'?"),
        (["volume", "get", "web", "nosuch"], "option 'nosuch' does not exist"),
        (["volume", "reset", "web", "nosuch"], "option 'nosuch' does not exist"),
        (["volume", "info", "nosuch"], "there is no volume 'nosuch'; `fusemux volume list` shows"),
        (["volume", "create", "web2", "replica", "3", "/a", "/b", "/c", "/d"], "replica 3 needs 3, 6, 9 ... bricks, got 4"),
        (["volume", "create", "2x2", "/a"], "short form"),
        (["volume", "start", "web"], "volumes need no start: `fusemux mount VOLUME DIR`"),
        (["volume", "creat", "web"], "unknown word 'creat', did you mean 'create'?"),
        (["volum"], "unknown word 'volum', did you mean 'volume'?"),
        (["volume"], "COMMAND"),
        ([], "which command?"),
        (["mount", "1"], "DIR"),
        (["status", "nosuch"], "volume 'nosuch' is not served"),
        (["umount", "/"], "/ is no mount of fusemux"),
        (["try", "nosuch", "--run", "true"], "there is no volume 'nosuch'"),
        (["install-helper", "--target", "/nonexistent"], "/nonexistent is no program"),
    ],
)  # fmt: skip
def test_errors_are_one_line_with_the_way_out(here: Place, words: list[str], message: str) -> None:
    here.fusemux("volume", "create", "web", here.root / "b0")
    done = here.fusemux(*words, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_debug_shows_the_traceback(here: Place) -> None:
    done = here.fusemux("volume", "info", "nosuch", "--debug", check=False)
    assert "Traceback" in done.stderr
    assert "VolumeError: there is no volume 'nosuch'" in done.stderr


def test_a_store_that_cannot_be_written_is_named(here: Place) -> None:
    (here.root / "state").write_text("")
    assert "volumes cannot be stored in" in refused(here, "volume", "create", "web", here.root / "b0")
    assert not (here.root / "b0").exists()


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(here: Place, word: str) -> None:
    code = (
        "import sys; from fusemux.cli.main import main\n"
        f"try: main([{word!r}])\nexcept SystemExit: pass\n"
        "print(sorted({'trio', 'pyfuse3', 'msgpack', 'asyncio'} & set(sys.modules)))"
    )
    assert here.run(sys.executable, "-c", code).stdout.splitlines()[-1] == "[]"


def test_the_mount_helper_imports_neither_the_command_line_nor_an_event_loop_before_it_serves(here: Place) -> None:
    code = (
        "import sys; from fusemux.mount.main import main\n"
        f"status = main(['-f', '1', {str(here.root)!r}]); assert status == 0\n"
        "print([m for m in sys.modules if m.startswith('fusemux.cli') or m in ('pyfuse3', 'argparse', 'msgpack')])"
    )
    assert here.run(sys.executable, "-c", code).stdout.splitlines()[-1] == "[]"


def test_a_reader_that_has_seen_enough_is_no_error(here: Place) -> None:
    done = here.run("sh", "-c", f"{sys.executable} -m fusemux volume set help | head -1")
    assert done.stdout.startswith("Option: ")
    assert done.stderr == ""
