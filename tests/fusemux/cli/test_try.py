"""`fusemux try`: a throw-away volume around one command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fusemux.cli import trial
from tests.fusemux.private import leftovers
from tests.mounting import BINDINGS, FUSEMUX, Place

pytestmark = pytest.mark.mount
TRY = (*FUSEMUX, "try")


@pytest.fixture(autouse=True)
def clean(volume_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mount points of `try` lie in the place, too."""
    monkeypatch.setenv("TMPDIR", str(volume_place.root))
    tempfile.tempdir = None


def nothing_left(place: Place) -> None:
    place.wait_ended()
    assert leftovers(place) == []
    assert not list(place.root.glob("fusemux-try-*"))


@pytest.mark.parametrize("binding", BINDINGS)
def test_the_command_finds_the_volume_and_its_status_is_ours(volume_place: Place, binding: str) -> None:
    command = 'echo hello > "$FUSEMUX_MNT/file"; cat "$FUSEMUX_MNT/file"; exit 7'
    done = volume_place.run(*TRY, "2x2", "-o", f"binding={binding}", "--run", command, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello\n", "")
    nothing_left(volume_place)


def test_a_command_that_a_signal_kills_is_told_as_a_shell_tells_it(volume_place: Place) -> None:
    assert volume_place.run(*TRY, "1", "--run", "kill -9 $$", check=False).returncode == 137
    nothing_left(volume_place)


def test_signals_reach_the_command(volume_place: Place) -> None:
    ready = volume_place.root / "ready"
    command = f"trap 'echo got it; exit 3' TERM; touch {ready}; while [ -e {ready} ]; do read x; done"
    child = subprocess.Popen(
        [*TRY, "1", "--run", command], env=volume_place.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not ready.exists():
        assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    out, _ = child.communicate(timeout=30)
    assert (child.returncode, out) == (3, "got it\n")
    nothing_left(volume_place)


def test_signals_that_come_when_the_command_has_just_begun_reach_it_too(volume_place: Place) -> None:
    command = "trap 'exit 3' TERM; kill -TERM $PPID; while read x; do :; done"
    for _ in range(3):
        with subprocess.Popen([*TRY, "1", "--run", command], env=volume_place.env, stdin=subprocess.PIPE) as child:
            assert child.wait(timeout=30) == 3
    nothing_left(volume_place)


def test_an_interrupt_from_the_terminal_before_the_command_is_there_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with trial._forwarding() as forward_to:
        os.kill(os.getpid(), signal.SIGINT)
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
            forward_to(child)
            assert child.wait(timeout=30) == -signal.SIGINT


def test_files_that_the_command_leaves_open_do_not_keep_the_volume(volume_place: Place) -> None:
    done = volume_place.run(*TRY, "1", "--run", 'cd "$FUSEMUX_MNT"; sleep 60 > file 2>&1 < /dev/null & echo $!')
    gone = volume_place.mounts()
    os.kill(int(done.stdout), signal.SIGKILL)
    assert gone == []
    nothing_left(volume_place)


def test_when_we_are_killed_the_server_still_cleans_up(volume_place: Place) -> None:
    ready = volume_place.root / "ready"
    child = subprocess.Popen([*TRY, "1", "--run", f"touch {ready}; exec sleep 60"], env=volume_place.env)
    while not ready.exists():
        assert child.poll() is None
    (sleeper,) = [
        int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        if Path(f"/proc/{pid}/comm").read_text() in ("sh\n", "sleep\n")
    ]  # fmt: skip
    child.kill()
    child.wait()
    os.kill(sleeper, signal.SIGKILL)
    volume_place.wait_ended()
    assert leftovers(volume_place) == []


def test_a_volume_that_is_not_thrown_away_is_refused(volume_place: Place) -> None:
    volume_place.fusemux("volume", "create", "web", volume_place.root / "b0")
    done = volume_place.run(*TRY, "web", "--run", "true", check=False)
    assert done.returncode == 1
    assert "'web' is no throw-away volume" in done.stderr
    nothing_left(volume_place)


def test_a_volume_that_cannot_be_mounted_is_said_and_nothing_runs(volume_place: Place) -> None:
    done = volume_place.run(*TRY, "4+2", "--run", "echo ran", check=False)
    assert done.returncode == 32
    assert "there is no translator 'cluster/disperse'" in done.stderr
    assert done.stdout == ""
    nothing_left(volume_place)


def test_without_a_command_there_is_a_shell_in_the_volume(volume_place: Place) -> None:
    env = volume_place.env | {"SHELL": "/bin/sh"}
    done = subprocess.run(
        [*TRY, "1"],
        input="echo hi > file; ls; exit 5\n",
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (5, "file\n")
    nothing_left(volume_place)
