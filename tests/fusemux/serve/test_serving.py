"""Serving processes from outside: many volumes, live options, signals, busy mounts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fusemux.serve.unmounting import unmount
from tests.fusemux.private import leftovers
from tests.mounting import BINDINGS, FUSEMUX, Place

pytestmark = pytest.mark.mount


def status(place: Place) -> list[dict[str, Any]]:
    return list(place.answer("status")["servers"])


def create(place: Place, name: str, *words: str) -> None:
    place.fusemux("volume", "create", name, *words)


def foreground(place: Place, *words: str | Path, **env: str) -> subprocess.Popen[str]:
    """A server in the foreground, after its first line that says it serves."""
    command = [*FUSEMUX, *map(str, words)]
    server = subprocess.Popen(command, env=place.env | env, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if "is mounted at" in line:
            return server
    raise AssertionError(f"status {server.wait()}")


@pytest.mark.parametrize("binding", BINDINGS)
def test_twenty_volumes_are_served_by_one_process_and_unmounted_one_by_one(volume_place: Place, binding: str) -> None:
    root = volume_place.root / "volumes"
    volume_place.fusemux("serve", "--daemon", "--mount-root", root, "-o", f"binding={binding}", *["2x2,size=16M"] * 20)
    (server,) = status(volume_place)
    assert len(server["volumes"]) == 20
    assert sum(len(volume["bricks"]) for volume in server["volumes"]) == 80
    assert server["rss-bytes"] < 120 << 20
    places = [root / str(n) for n in range(20)]
    for n, where in enumerate(places):
        (where / "file").write_text(f"volume {n}")
    for n, where in enumerate(places):
        volume_place.run(*(() if n % 2 else FUSEMUX), "umount", where)
        assert not os.path.ismount(where)
        for m, other in enumerate(places[n + 1 :], n + 1):
            assert (other / "file").read_text() == f"volume {m}"
    volume_place.wait_ended()
    assert leftovers(volume_place) == []
    assert not root.exists()


def test_stored_volumes_are_served_by_name_each_at_its_place(volume_place: Place) -> None:
    create(volume_place, "one", str(volume_place.root / "b0"))
    create(volume_place, "two", "ramdisk:64M")
    other = volume_place.root / "elsewhere"
    server = foreground(volume_place, "serve", "one", f"two:{other}", "--mount-root", volume_place.root / "mnt")
    (volume_place.root / "mnt/one/file").write_text("1")
    (other / "file").write_text("2")
    assert (volume_place.root / "b0/file").read_text() == "1"
    info = volume_place.answer("volume", "info", "one")
    assert (info["status"], info["mounts"], info["pid"]) == ("Started", [f"{volume_place.root}/mnt/one"], server.pid)
    refused = volume_place.fusemux("volume", "delete", "one", "--yes", check=False)
    assert f"volume 'one' is served by process {server.pid}; unmount it first" in refused.stderr
    server.terminate()
    server.communicate(timeout=30)
    assert server.returncode == 0
    again = volume_place.mount("two")
    assert (again / "file").read_text() == "2"  # a stored volume keeps its ramdisks
    volume_place.umount(again)
    volume_place.fusemux("volume", "delete", "two", "--yes")
    assert leftovers(volume_place) == []


def test_when_one_volume_cannot_be_served_none_is(volume_place: Place) -> None:
    words = ("serve", "--daemon", "--mount-root", volume_place.root / "mnt")
    done = volume_place.fusemux(*words, "1", "4+2", check=False)
    assert done.returncode == 32
    assert "cluster/disperse" in done.stderr
    assert leftovers(volume_place) == []
    assert not (volume_place.root / "mnt").exists()


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_server_of_many_that_was_killed_is_replaced(volume_place: Place, binding: str) -> None:
    serve = ("serve", "--daemon", "--mount-root", volume_place.root / "mnt", "-o", f"binding={binding}", "1", "1")
    volume_place.fusemux(*serve)
    (pid,) = volume_place.servers()
    os.kill(pid, signal.SIGKILL)
    volume_place.wait_ended()
    done = volume_place.fusemux(*serve, check=False)
    assert done.returncode == 32
    assert f"{volume_place.root}/mnt/0 holds a stale mount" in done.stderr
    volume_place.fusemux(*serve, "--replace-stale")
    volume_place.fusemux("umount", volume_place.root / "mnt/0", volume_place.root / "mnt/1")
    volume_place.wait_ended()
    assert leftovers(volume_place) == []
    assert not (volume_place.root / "mnt").exists()


def test_a_volume_is_served_once(volume_place: Place) -> None:
    create(volume_place, "web", str(volume_place.root / "b0"))
    where = volume_place.mount("web")
    (volume_place.root / "second").mkdir()
    done = volume_place.fusemux("mount", "web", volume_place.root / "second", check=False)
    assert done.returncode == 32
    assert "is already served by another process" in done.stderr
    (where / "file").write_text("still serves")
    volume_place.umount(where)


def test_a_volume_can_be_mounted_again_while_its_server_lets_go(volume_place: Place) -> None:
    """umount(2) does not wait for the server; here that is stopped until the next one wants the brick."""
    brick = volume_place.root / "b0"
    create(volume_place, "web", str(brick))
    where = volume_place.mount("web")
    (where / "file").write_text("kept")
    (server,) = volume_place.servers()
    os.kill(server, signal.SIGSTOP)
    try:
        unmount(str(where), lazy=True)
        command = [*FUSEMUX, "mount", "web", where]
        again = subprocess.Popen(command, env=volume_place.env)
        while again.poll() is None and not any(has_open(pid, brick) for pid in volume_place.servers() if pid != server):
            pass
    finally:
        os.kill(server, signal.SIGCONT)
    assert again.wait(timeout=60) == 0
    assert (where / "file").read_text() == "kept"
    volume_place.umount(where)


def has_open(pid: int, path: Path) -> bool:
    try:
        return any(os.readlink(fd) == str(path) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False


def option_of(place: Place, option: str) -> str:
    """The value in the running volume, as its statedump shows it."""
    dump = place.fusemux("status", "--dump").stdout
    return next(line.partition("=")[2] for line in dump.splitlines() if line.startswith(f"option.{option}="))


def test_options_reach_a_running_volume(volume_place: Place) -> None:
    create(volume_place, "web", str(volume_place.root / "b0"))
    where = volume_place.mount("web")
    assert option_of(volume_place, "noatime") == "True"
    done = volume_place.fusemux("volume", "set", "web", "ctime.noatime", "off")
    assert "in effect)" in done.stdout
    assert option_of(volume_place, "noatime") == "False"
    done = volume_place.fusemux("volume", "set", "web", "performance.write-behind", "off")
    assert "in effect from the next mount on" in done.stdout
    volume_place.fusemux("volume", "reset", "web")
    volume_place.umount(where)


def test_sighup_reads_the_definition_again(volume_place: Place) -> None:
    create(volume_place, "web", str(volume_place.root / "b0"))
    server = foreground(volume_place, "serve", "web", "--mount-root", volume_place.root / "mnt")
    info = volume_place.root / "state/vols/web/info"
    info.write_text(info.read_text() + "ctime.noatime=off\n")
    server.send_signal(signal.SIGHUP)
    assert server.stderr is not None
    assert any("volume web has taken its options" in line for line in server.stderr)
    assert option_of(volume_place, "noatime") == "False"
    info.write_text("rubbish")
    server.send_signal(signal.SIGHUP)
    assert any("volume web keeps its options" in line for line in server.stderr)
    server.terminate()
    server.communicate(timeout=30)


def test_sigusr1_writes_stacks_and_state(volume_place: Place) -> None:
    server = foreground(volume_place, "serve", "2x2", "--mount-root", volume_place.root / "mnt")
    server.send_signal(signal.SIGUSR1)
    assert server.stderr is not None
    assert any("state written to" in line for line in server.stderr)
    (dump,) = (volume_place.root / "run/dumps").iterdir()
    text = dump.read_text()
    for part in (
        "[task ",
        "server.py",
        "Thread 0x",
        "[process]",
        f"pid={server.pid}",
        "[cluster/distribute.",
        "[brick.",
    ):
        assert part in text
    server.terminate()
    server.communicate(timeout=30)


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_mount_in_use_is_not_unmounted_unless_lazily(volume_place: Place, binding: str) -> None:
    where = volume_place.mount("1", f"binding={binding}")
    with open(where / "file", "w") as file:
        done = volume_place.fusemux("umount", where, check=False)
        assert done.returncode == 32
        assert "--lazy" in done.stderr
        file.write("still works")
    volume_place.fusemux("umount", where)
    volume_place.wait_ended()
    assert leftovers(volume_place) == []


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_server_that_is_asked_to_end_unmounts_what_is_in_use(volume_place: Place, binding: str) -> None:
    create(volume_place, "web", str(volume_place.root / "b0"))
    where = volume_place.mount("web", f"binding={binding}")
    (pid,) = volume_place.servers()
    fd = os.open(where / "file", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"acknowledged")
    os.kill(pid, signal.SIGTERM)
    volume_place.wait_ended()
    with contextlib.suppress(OSError):  # ENOTCONN: its server is gone
        os.close(fd)
    assert (volume_place.root / "b0/file").read_text() == "acknowledged"
    assert not os.path.ismount(where)
    assert leftovers(volume_place) == []


def test_the_log_of_a_server_in_the_background_holds_no_warning(volume_place: Place) -> None:
    where = volume_place.mount("2x2")
    for n in range(50):
        (where / f"dir{n}").mkdir()
        (where / f"dir{n}" / "file").write_text("x")
    volume_place.umount(where)
    assert volume_place.log(where) == ""
