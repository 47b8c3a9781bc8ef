"""Real mounts by mount.fusemux: they serve when it returns, and leave nothing behind however they end."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fusemux.private import leftovers, needs_root
from tests.mounting import BINDINGS, Place

pytestmark = pytest.mark.mount
HELPER = (sys.executable, "-m", "fusemux.mount")


def proc_mount(path: Path) -> list[str]:
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next(fields for fields in reversed(lines) if fields[1] == str(path))


def entered(foreground: subprocess.Popen[str], path: Path) -> None:
    """Wait until the foreground server has mounted `path`."""
    while not os.path.ismount(path):
        assert foreground.poll() is None, foreground.communicate()


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("spec", ["1", "3", "2x2", "replica=3,size=64M"])
def test_a_volume_serves_when_mount_returns_and_is_gone_after_umount(
    volume_place: Place, spec: str, binding: str
) -> None:
    where = volume_place.mount(spec, f"binding={binding}")
    for n in range(20):
        (where / f"file{n}").write_text(f"content {n}")
    assert sorted(os.listdir(where)) == sorted(f"file{n}" for n in range(20))
    assert [(where / f"file{n}").read_text() for n in range(20)] == [f"content {n}" for n in range(20)]
    source, _, fstype, *_ = proc_mount(where)
    assert (source, fstype) == (spec, "fuse.fusemux")
    volume_place.umount(where)
    assert leftovers(volume_place) == []


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["1", "{root}/nowhere"], 32, "mount point {root}/nowhere does not exist; make it: mkdir -p {root}/nowhere"),
        (["1", "{root}/file"], 32, "{root}/file is not a directory"),
        (["nosuch", "{root}/dir"], 1, "there is no volume 'nosuch'; give a stored volume"),
        (["./nosuch.vol", "{root}/dir"], 1, "there is no volfile"),
        (["4+2", "{root}/dir"], 32, "there is no translator 'cluster/disperse'"),
        (["1", "{root}/dir", "-o", "nosudi"], 1, "unknown option 'nosudi', did you mean 'nosuid'?"),
        (["1", "{root}/dir", "-o", "cluster.min-free-dis=5%"], 1, "did you mean 'cluster.min-free-disk'?"),
        (["1", "{root}/dir", "-o", "cluster.min-free-disk=lots"], 1, "option cluster.min-free-disk 'lots'"),
        (["1", "{root}/dir", "-o", "log-file=/nonexistent/log"], 32, "log file /nonexistent/log"),
        (["1,size=4KB", "{root}/dir"], 1, "a brick needs at least 1MB"),
        (["1"], 1, "expected SPEC and DIR, got 1 words; usage:"),
        (["1", "{root}/dir", "extra"], 1, "got 3 words"),
        (["1", "{root}/dir", "-x"], 1, "unknown option '-x'"),
        (["1", "{root}/dir", "--frobnicate"], 1, "unknown option '--frobnicate'"),
        (["1", "{root}/dir", "-o"], 1, "-o needs a value"),
    ],
)
def test_what_cannot_be_mounted_is_one_line_and_the_status_of_mount8(
    volume_place: Place, words: list[str], status: int, message: str
) -> None:
    root = volume_place.root
    (root / "dir").mkdir()
    (root / "file").write_text("")
    done = volume_place.run(*HELPER, *(word.format(root=root) for word in words), check=False)
    assert done.returncode == status
    assert done.stderr.startswith("mount.fusemux: error: ")
    assert message.format(root=root) in done.stderr
    assert done.stderr.count("\n") == 1
    assert leftovers(volume_place) == []


@pytest.mark.parametrize("spec", ["1", "2x2"])
def test_f_checks_and_mounts_nothing(volume_place: Place, spec: str) -> None:
    done = volume_place.run(*HELPER, "-fv", spec, volume_place.root)
    assert "could be mounted" in done.stdout
    assert leftovers(volume_place) == []
    assert not os.path.ismount(volume_place.root)


def test_f_finds_what_would_fail(volume_place: Place) -> None:
    done = volume_place.run(*HELPER, "-f", "4+2", volume_place.root, check=False)
    assert done.returncode == 32
    assert "cluster/disperse" in done.stderr


@pytest.mark.parametrize("word", ["--help", "-h", "--version", "-V"])
def test_help_and_version_need_no_volume(volume_place: Place, word: str) -> None:
    assert "mount.fusemux" in volume_place.run(*HELPER, word).stdout


def test_a_place_that_is_taken_is_named(volume_place: Place) -> None:
    where = volume_place.mount("1")
    done = volume_place.run(*HELPER, "2x2", where, check=False)
    assert done.returncode == 32
    assert f"{where} is busy: '1' is already mounted there" in done.stderr
    volume_place.umount(where)


def kill_server(volume_place: Place) -> None:
    (pid,) = volume_place.servers()
    os.kill(pid, signal.SIGKILL)
    volume_place.wait_ended()


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_stale_mount_is_named_and_replaced_with_all_that_was_left(volume_place: Place, binding: str) -> None:
    where = volume_place.mount("2x2", f"binding={binding}")
    (where / "lost").write_text("x")
    kill_server(volume_place)
    done = volume_place.run(*HELPER, "1", where, check=False)
    assert done.returncode == 32
    assert f"{where} holds a stale mount of '2x2'" in done.stderr
    assert "replace-stale" in done.stderr
    volume_place.mount("1", "replace-stale", f"binding={binding}", point=where)
    assert os.listdir(where) == []
    (volume,) = (volume_place.root / "run" / "ramdisks").iterdir()
    assert len(list(volume.iterdir())) == 1  # only the new volume's
    volume_place.umount(where)
    assert leftovers(volume_place) == []


def test_what_a_dead_server_left_is_cleared_even_when_its_mount_is_gone_already(volume_place: Place) -> None:
    where = volume_place.mount("2x2")
    kill_server(volume_place)
    volume_place.run("umount", "-l", where)
    assert leftovers(volume_place) != []
    volume_place.mount("1", "replace-stale", point=where)
    volume_place.umount(where)
    assert leftovers(volume_place) == []


def test_umount_of_the_command_line_clears_a_stale_mount(volume_place: Place) -> None:
    where = volume_place.mount("2x2")
    kill_server(volume_place)
    status = volume_place.fusemux("status")
    assert f"died and left {where}" in status.stderr
    volume_place.fusemux("umount", where)
    assert leftovers(volume_place) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("binding", BINDINGS)
def test_a_foreground_server_unmounts_and_ends_when_asked(volume_place: Place, number: int, binding: str) -> None:
    where = volume_place.root / "mnt"
    where.mkdir()
    words = [*HELPER, "2x2", str(where), "--foreground", "-o", f"binding={binding}"]
    server = subprocess.Popen(words, env=volume_place.env, stderr=subprocess.PIPE, text=True)
    entered(server, where)
    (where / "file").write_text("x")
    server.send_signal(number)
    _, log = server.communicate(timeout=30)
    assert server.returncode == 0, log
    assert leftovers(volume_place) == []


def test_a_server_that_is_stopped_while_it_starts_leaves_nothing(volume_place: Place) -> None:
    where = volume_place.root / "mnt"
    where.mkdir()
    server = subprocess.Popen(
        [*HELPER, "20x4", str(where), "--foreground"], env=volume_place.env, stderr=subprocess.PIPE, text=True
    )
    while not list(volume_place.root.glob("run/ramdisks/*/b0")):  # it has begun to provision
        assert server.poll() is None
    server.send_signal(signal.SIGTERM)
    _, log = server.communicate(timeout=60)
    assert server.returncode in (0, 8), log
    assert leftovers(volume_place) == []
    assert not os.path.ismount(where)


def test_the_service_manager_hears_when_it_serves_and_when_it_stops(volume_place: Place) -> None:
    where = volume_place.root / "mnt"
    where.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(volume_place.root / "notify"))
        sock.settimeout(30)
        env = volume_place.env | {"NOTIFY_SOCKET": str(volume_place.root / "notify")}
        server = subprocess.Popen([*HELPER, "1", str(where), "--foreground"], env=env, stderr=subprocess.DEVNULL)
        assert b"READY=1" in sock.recv(4096).split(b"\n")
        assert os.path.ismount(where)
        server.terminate()
        assert b"STOPPING=1" in sock.recv(4096).split(b"\n")
        assert server.wait(30) == 0


@needs_root
@pytest.mark.parametrize("binding", BINDINGS)
def test_remount_makes_it_read_only_and_back(volume_place: Place, binding: str) -> None:
    where = volume_place.mount("1", f"binding={binding}", "nosuid")
    volume_place.run(*HELPER, "1", where, "-o", "remount,ro")
    with pytest.raises(OSError, match="Read-only file system"):
        (where / "file").write_text("x")
    assert {"ro", "nosuid"} <= set(proc_mount(where)[3].split(","))
    volume_place.run(*HELPER, "1", where, "-o", "remount,rw,noexec")
    (where / "file").write_text("x")
    assert {"rw", "nosuid", "noexec"} <= set(proc_mount(where)[3].split(","))
    volume_place.umount(where)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [("remount,binding=pyfuse3", 1, "option 'binding' cannot be changed by remount"),
     ("remount,storage.reserve=5%", 1, "option 'storage.reserve' cannot be changed by remount")],
)  # fmt: skip
def test_remount_refuses_what_needs_a_new_mount(volume_place: Place, options: str, status: int, message: str) -> None:
    where = volume_place.mount("1")
    done = volume_place.run(*HELPER, "1", where, "-o", options, check=False)
    assert done.returncode == status
    assert message in done.stderr
    volume_place.umount(where)


def test_remount_of_what_is_not_mounted_is_refused(volume_place: Place) -> None:
    done = volume_place.run(*HELPER, "1", volume_place.root, "-o", "remount,ro", check=False)
    assert done.returncode == 32
    assert "is no mount of fusemux" in done.stderr


def test_a_brick_of_another_volume_is_refused_and_untouched(volume_place: Place) -> None:
    brick = volume_place.root / "brick"
    volume_place.fusemux("volume", "create", "one", brick)
    volume_place.fusemux("volume", "create", "two", volume_place.root / "other")
    for path in (volume_place.root / "state/vols/two/bricks").iterdir():
        path.write_text(path.read_text().replace(f"{volume_place.root}/other", str(brick)))
        path.rename(path.with_name(path.name.replace("other", "brick")))
    info = volume_place.root / "state/vols/two/info"
    info.write_text(info.read_text().replace("-other", "-brick"))
    (volume_place.root / "mnt").mkdir()
    done = volume_place.run(*HELPER, "two", volume_place.root / "mnt", check=False)
    assert done.returncode == 32
    assert f"brick {brick} belongs to volume" in done.stderr
    assert leftovers(volume_place) == []
    volume_place.umount(volume_place.mount("one"))


def fill(path: Path, limit: int) -> int:
    """Write and sync until there is no space left; how many bytes were acknowledged."""
    acknowledged = 0
    with open(path, "wb", buffering=0) as file:
        while acknowledged < limit:
            try:
                written = file.write(b"x" * 65536)
                os.fsync(file.fileno())
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return acknowledged
            acknowledged += written
    return acknowledged


@needs_root
def test_a_full_brick_is_enospc_and_nothing_acknowledged_is_lost(volume_place: Place) -> None:
    where = volume_place.mount("1,size=16M", "storage.reserve=0%")
    acknowledged = fill(where / "big", 32 << 20)
    assert 8 << 20 <= acknowledged < 32 << 20
    with open(where / "big", "rb") as file:
        assert file.read(acknowledged).count(b"x") == acknowledged
    (where / "big").unlink()
    (where / "small").write_text("room again")
    volume_place.umount(where)


def test_a_malformed_volfile_is_refused_with_its_line(volume_place: Place) -> None:
    path = volume_place.root / "web.vol"
    path.write_text("volume a\n  type storage/posix\n  option directory /b\nend-volum\n")
    done = volume_place.run(*HELPER, path, volume_place.root, check=False)
    assert done.returncode == 32
    assert f"{path}, line 4: expected 'option', 'subvolumes', 'end-volume', found 'end-volum'" in done.stderr


def test_a_local_volfile_is_mounted(volume_place: Place) -> None:
    bricks = [volume_place.root / f"b{i}" for i in range(2)]
    for brick in bricks:
        brick.mkdir()
    path = volume_place.root / "web.vol"
    leaves = "".join(
        f"volume p{i}\n type storage/posix\n option directory {brick}\nend-volume\n"
        f"volume l{i}\n type features/locks\n subvolumes p{i}\nend-volume\n"
        for i, brick in enumerate(bricks)
    )
    path.write_text(leaves + "volume web\n type cluster/distribute\n subvolumes l0 l1\nend-volume\n")
    where = volume_place.mount(str(path))
    for n in range(20):
        (where / str(n)).write_text(str(n))
    assert sorted(os.listdir(where), key=int) == [str(n) for n in range(20)]
    assert all(
        (brick / str(n)).exists() for brick in bricks for n in [next(int(x) for x in os.listdir(brick) if x.isdigit())]
    )
    volume_place.umount(where)


def test_a_volfile_that_glusterfs_generated_is_mounted_on_its_bricks(volume_place: Place) -> None:
    volume_place.fusemux("volume", "create", "gvd1", volume_place.root / "b0")
    captured = (Path(__file__).parents[2] / "data/volfiles/gvd1.tcp-fuse.vol").read_text()
    path = volume_place.root / "gvd1.vol"
    path.write_text(captured.replace("/srv/bricks/gvd1/b0", str(volume_place.root / "b0")))
    where = volume_place.mount(str(path))
    (where / "file").write_text("x")
    assert (volume_place.root / "b0/file").read_text() == "x"
    volume_place.umount(where)
