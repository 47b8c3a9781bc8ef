"""The parity suite judged: tmpfs equals tmpfs, and a directory that behaves differently is seen to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parity.compare import differences
from tests.parity.runner import Hung, Runner
from tests.parity.scripts import ROOT_ONLY, SCRIPTS
from tests.parity.world import World, open_flags


@pytest.fixture(scope="module")
def two_of_the_same(tmpfs: Path) -> Iterator[tuple[Runner, Runner]]:
    runners = []
    for name in ("one", "two"):
        (tmpfs / name).mkdir()
        runners.append(Runner(tmpfs / name))
    yield runners[0], runners[1]
    for runner in runners:
        runner.close()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_gives_the_same_transcript_twice_on_tmpfs(two_of_the_same: tuple[Runner, Runner], name: str) -> None:
    if name in ROOT_ONLY and os.geteuid() != 0:
        pytest.skip("only root can change owners and make devices")
    one, two = two_of_the_same
    expected = one.run(name)
    assert expected, "a script that records nothing compares nothing"
    assert not (report := differences(expected, two.run(name))), report


def test_a_script_sees_more_than_errors() -> None:
    """Most calls of the suite succeed somewhere: a suite in which everything fails would compare nothing."""
    assert len(SCRIPTS) > 100
    assert all(script.__doc__ is None or script.__doc__.endswith(".") for script in SCRIPTS.values())


def test_every_difference_of_a_transcript_is_shown_with_what_led_to_it() -> None:
    left = [("mkdir(b'd')", "None"), ("stat(b'd')", "{'mode': '0o755'}"), ("rmdir(b'd')", "None")]
    right = [left[0], ("stat(b'd')", "{'mode': '0o700'}"), left[2]]
    report = differences(left, right)
    assert "mkdir(b'd') -> None" in report
    assert "tmpfs: {'mode': '0o755'}" in report
    assert "here:  {'mode': '0o700'}" in report
    assert differences(left, left) == ""
    assert "3 lines on tmpfs, 2 here" in differences(left, left[:2])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_a_change_of_any_property_shows_in_the_snapshot() -> None:
    def snapshot() -> list[tuple[str, str]]:
        world = World()
        world.snapshot()
        return world.lines

    Path("f").write_bytes(b"content")
    Path("g").symlink_to("f")
    seen = [snapshot()]
    for change in (
        lambda: os.chmod("f", 0o600),
        lambda: Path("f").write_bytes(b"CONTENT"),
        lambda: Path("f").write_bytes(b"longer content"),
        lambda: os.link("f", "h"),
        lambda: os.replace("h", "i"),
        lambda: (os.unlink("g"), os.symlink("h", "g")),
        lambda: os.mkfifo("p"),
        lambda: os.unlink("i"),
    ):
        change()
        seen.append(snapshot())
        assert seen[-1] != seen[-2]


@pytest.mark.usefixtures("here")
def test_what_the_binding_lacks_is_not_done_on_the_reference_side(tmpfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmpfs)
    Path("a").write_bytes(b"abc")
    world = World(lacks={"fallocate": "no fallocate", "open:TMPFILE": "no O_TMPFILE"})
    fd = os.open("a", os.O_RDWR)
    world.fallocate(fd, 0, 0, 10)
    world.fallocate(fd, 0, 0, 0)
    world.open(b".", os.O_TMPFILE | os.O_RDWR)
    world.open(b"a", os.O_TMPFILE | os.O_RDWR)
    os.close(fd)
    assert [result for _, result in world.lines] == ["EOPNOTSUPP", "EINVAL", "EOPNOTSUPP", "ENOTDIR"]
    assert os.path.getsize("a") == 3


@pytest.mark.usefixtures("here")
def test_a_file_system_without_holes_is_imitated() -> None:
    world = World(lacks={"lseek:DATA": "no holes", "lseek:HOLE": "no holes"})
    fd = world.open(b"f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x", 99_999)
    assert world.lseek(fd, 10, os.SEEK_DATA) == 10
    assert world.lseek(fd, 10, os.SEEK_HOLE) == 100_000
    assert world.lseek(fd, 100_000, os.SEEK_DATA) is None
    assert world.lseek(fd, 10, os.SEEK_SET) == 10
    os.close(fd)


def test_open_flags_are_shown_by_name() -> None:
    assert open_flags(os.O_RDONLY) == "O_RDONLY"
    assert open_flags(os.O_RDWR | os.O_CREAT | os.O_SYNC) == "O_RDWR|O_CREAT|O_SYNC"
    assert open_flags(os.O_TMPFILE | os.O_WRONLY) == "O_TMPFILE|O_WRONLY"
    assert open_flags(os.O_WRONLY | os.O_DSYNC | os.O_DIRECTORY) == "O_WRONLY|O_DIRECTORY|O_DSYNC"


def test_a_call_that_never_returns_is_reported_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    runner = Runner(tmp_path, limit_s=1)
    with pytest.raises(Hung, match="did not end within 1 s"):
        runner.step(".", "open", b"pipe", os.O_RDONLY)
