"""`fusemux fault` and `fusemux brick` on a mounted volume."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from fusemux.testing.volume import Volume
from tests.fusemux.cli.conftest import Command
from tests.mounting import Place

pytestmark = [pytest.mark.mount, pytest.mark.fusemux(replica=2, mount_options=("nowriteback-cache",))]


def test_a_fault_is_added_fires_is_listed_and_cleared(fusemux_volume: Volume, fusemux: Command) -> None:
    done = fusemux(
        "fault", "add", "test", "error", "--fop", "writev", "--path", "*.wal", "--errno", "EDQUOT", "--nth", "1"
    )
    assert (done.status, done.out) == (0, "fault 1 is set at mount\n")
    with pytest.raises(OSError, match="quota") as raised:
        (fusemux_volume.path / "a.wal").write_bytes(b"data")
    assert raised.value.errno == errno.EDQUOT
    head, row = fusemux("fault", "list", "test").out.splitlines()
    assert head.split() == ["Id", "At", "Fault", "Fops", "Path", "Matched", "Fired"]
    assert row.split() == ["1", "mount", "EDQUOT", "writev", "*.wal", "1", "1"]
    (value,) = fusemux("fault", "list", "test", "--json").value
    assert (value["id"], value["action"], value["nth"], value["fired"]) == (1, "error", 1, 1)
    assert fusemux("fault", "clear", "test", "1").out == "1 cleared\n"
    assert fusemux("fault", "list", "test").out == "No faults are set.\n"
    assert fusemux_volume.path.joinpath("b.wal").write_bytes(b"data") == 4
    assert "injected EDQUOT into writev" in fusemux_volume.log


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are passed through")
def test_files_that_the_kernel_reads_and_writes_by_itself_are_pointed_out(volume_place: Place) -> None:
    where = volume_place.mount("1,name=one")
    with open(where / "file", "wb", buffering=0) as opened:
        done = volume_place.fusemux("fault", "add", "one", "error", "--fop", "writev")
        if "1 open file(s)" not in done.stdout:
            pytest.skip("this kernel does not pass files through")
        assert opened.write(b"not seen") == 8
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        (where / "file").write_bytes(b"seen")
    volume_place.umount(where)  # here, as its log has a warning that is meant to be there


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are passed through")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("fault", "add", "one", "error", "--fop", "writev", "--revoke"),
            "1 open file(s) that the kernel read and wrote",
        ),
        (("brick", "freeze", "one", "0", "--revoke"), "1 open file(s) that the kernel read and wrote"),
        (("brick", "fill", "one", "0"), "--revoke makes them fail until then"),
        (("brick", "kill", "one", "0"), "is down"),
    ],
)
def test_what_is_open_past_a_fault_is_revoked_on_demand_and_when_a_brick_dies(
    volume_place: Place, words: tuple[str, ...], said: str
) -> None:
    where = volume_place.mount("1,name=one")
    opened = os.open(where / "file", os.O_CREAT | os.O_WRONLY)
    (server,) = json.loads(volume_place.fusemux("status", "one", "--json").stdout)["servers"]
    if not server["volumes"][0]["connection"]["passed"]:
        pytest.skip("this kernel does not pass files through")
    assert said in volume_place.fusemux(*words).stdout
    if "fill" in words:
        assert os.write(opened, b"past the full brick") == 19
        os.close(opened)
    else:
        for call in (lambda fd: os.write(fd, b"data"), os.close):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                call(opened)
    volume_place.fusemux("brick", "start", "one", "0")
    volume_place.fusemux("fault", "clear", "one")
    (where / "file").write_bytes(b"as ever")
    assert (where / "file").read_bytes() == b"as ever"
    volume_place.umount(where)  # here, as its log may have a warning that is meant to be there


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are passed through")
def test_a_frozen_brick_that_is_killed_takes_its_open_files_with_it_and_no_others(volume_place: Place) -> None:
    where = volume_place.mount("2,name=two")
    opened = {n: os.open(where / f"f{n}", os.O_CREAT | os.O_WRONLY) for n in range(12)}
    (server,) = json.loads(volume_place.fusemux("status", "two", "--json").stdout)["servers"]
    (volume,) = server["volumes"]
    if not volume["connection"]["passed"]:
        pytest.skip("this kernel does not pass files through")
    on_first = {n for n in opened if Path(volume["bricks"][0]["path"], f"f{n}").exists()}
    assert 0 < len(on_first) < 12
    volume_place.fusemux("fault", "add", "two", "error", "--at", "1", "--fop", "mknod")
    volume_place.fusemux("brick", "freeze", "two", "0")
    volume_place.fusemux("brick", "kill", "two", "0")
    for n in opened.keys() - on_first:
        assert os.write(opened[n], b"goes on") == 7
    for n in on_first:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.write(opened[n], b"x")
    for fd in opened.values():
        with contextlib.suppress(OSError):
            os.close(fd)
    volume_place.fusemux("brick", "start", "two", "0")
    volume_place.umount(where)  # here, as its log has a warning that is meant to be there


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are passed through")
def test_a_fault_is_set_also_where_nothing_can_be_revoked(volume_place: Place) -> None:
    where = volume_place.mount("1,name=one")
    with open(where / "file", "wb", buffering=0) as opened:
        subprocess.run(["umount", "--lazy", where], check=True)
        done = volume_place.fusemux("fault", "add", "one", "error", "--fop", "fsync", "--revoke", check=False)
        if done.returncode == 0:
            pytest.skip("this kernel does not pass files through")
        assert (
            f"fault 1 is set, but what is open at {where} is not revoked: the volume is not there any more"
            in done.stderr
        )
        assert len(volume_place.fusemux("fault", "list", "one").stdout.splitlines()) == 2
        assert opened.write(b"goes on") == 7


def test_all_faults_are_cleared_at_once(fusemux_volume: Volume, fusemux: Command) -> None:
    fusemux("fault", "add", "test", "delay", "--delay", "0.5s", "--fop", "mkdir,rmdir", "--times", "3")
    fusemux("fault", "add", "test", "full", "--at", "1")
    fusemux("fault", "add", "test", "torn", "--rate", "0.5", "--seed", "7")
    assert fusemux("fault", "clear", "test", "--json").value == {"cleared": 3}


def test_a_fault_stands_between_two_translators_or_at_a_brick(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "file").write_bytes(b"data")
    for place in ("test-replicate-0:test-client-1", "1", str(fusemux_volume.brick(1).path)):
        added = fusemux(
            "fault", "add", "test", "error", "--fop", "setxattr", "--times", "1", "--at", place, "--json"
        ).value
        os.setxattr(fusemux_volume.path / "file", "user.x", place.encode())
        fired = {row["id"]: row["fired"] for row in fusemux("fault", "list", "test", "--json").value}
        assert fired[added["id"]] == 1
        fusemux_volume.wait_healed()
    assert fusemux_volume.bricks_identical()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eror"], "no fault 'eror', did you mean 'error'?"),
        (["error", "--fop", "wrte"], "there is no fop 'wrte'"),
        (["error", "--errno", "ENOSUCH"], "errno 'ENOSUCH': expected the name of an error"),
        (["error", "--rate", "2"], "fault rate 2"),
        (["short", "--fop", "mkdir"], "fault 'short' is for readv, writev only"),
        (["error", "--at", "7"], "has no brick '7': give its number (0 to 1) or its path"),
        (["error", "--at", "test-dht:test-client-0"], "not right below 'test-dht'; below it are test-replicate-0"),
    ],
)
def test_a_fault_that_could_never_fire_is_refused(
    fusemux_volume: Volume, fusemux: Command, words: list[str], message: str
) -> None:
    done = fusemux("fault", "add", "test", *words)
    assert (done.status, message in done.err) == (1, True), done
    assert fusemux("fault", "list", "test", "--json").value == []


def test_clearing_what_is_not_there_says_so(fusemux_volume: Volume, fusemux: Command) -> None:
    done = fusemux("fault", "clear", "test", "9")
    assert (done.status, "has no fault 9; `fusemux fault list` shows them" in done.err) == (1, True)
    assert fusemux("fault", "list", "other").status == 1


@pytest.mark.fusemux(replica=3)
def test_a_brick_is_killed_and_started(fusemux_volume: Volume, fusemux: Command) -> None:
    assert fusemux("brick", "kill", "test", "0").out == "brick 0 of test is down\n"
    assert not fusemux_volume.brick(0).up
    (fusemux_volume.path / "file").write_bytes(b"data")
    assert not (fusemux_volume.brick(0).path / "file").exists()
    assert fusemux("brick", "kill", "test", "0").status == 0, "killing a dead one changes nothing"
    assert fusemux("brick", "start", "test", str(fusemux_volume.brick(0).path)).out.endswith(" of test serves\n")
    fusemux_volume.wait_healed()
    assert fusemux_volume.bricks_identical()


def test_a_brick_is_frozen_and_thawed(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "file").write_bytes(b"data")
    fault = fusemux("brick", "freeze", "test", "1", "--json").value
    changer = threading.Thread(target=os.chmod, args=(fusemux_volume.path / "file", 0o600))
    changer.start()
    fusemux_volume.order("fault-wait", number=fault["id"], within_s=10)
    assert changer.is_alive()
    fusemux("brick", "start", "test", "1")
    changer.join()
    assert fusemux("fault", "list", "test", "--json").value == []
    assert (fusemux_volume.brick(1).path / "file").stat().st_mode & 0o777 == 0o600


@pytest.mark.fusemux("1", mount_options=("nowriteback-cache",))
def test_a_full_brick_refuses_until_it_is_started(fusemux_volume: Volume, fusemux: Command) -> None:
    assert fusemux("brick", "fill", "test", "0").out == "brick 0 of test is full\n"
    with pytest.raises(OSError, match="No space"):
        (fusemux_volume.path / "file").write_bytes(b"data")
    fusemux("brick", "start", "test", "0")
    (fusemux_volume.path / "file").write_bytes(b"data")


def test_a_bit_is_flipped_on_one_brick(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "file").write_bytes(b"0000")
    assert fusemux("brick", "corrupt", "test", "1", "/file", "--json").value == 2
    assert [brick.read_bytes("file") for brick in fusemux_volume.bricks] == [b"0000", b"0010"]


def test_a_brick_loses_power(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "file").write_bytes(b"not synced")
    done = fusemux("brick", "power-cut", "test", "1")
    assert done.out == "brick 1 of test is down and has lost what was not synced\n"
    assert [brick.read_bytes("file") for brick in fusemux_volume.bricks] == [b"not synced", b""]


def test_a_brick_loses_names_too_where_that_is_asked_for(fusemux_volume: Volume, fusemux: Command) -> None:
    assert fusemux("volume", "set", "test", "debug.volatile-names", "on").status == 0
    (fusemux_volume.path / "file").write_bytes(b"not synced")
    (fusemux_volume.path / "dir").mkdir()
    assert fusemux("brick", "power-cut", "test", "1").status == 0
    names = [sorted(name for name in os.listdir(brick.path) if name != ".glusterfs") for brick in fusemux_volume.bricks]
    assert names == [["dir", "file"], []]
    assert fusemux("brick", "start", "test", "1").status == 0
    fusemux_volume.wait_healed()
    assert fusemux_volume.bricks_identical()
    assert fusemux_volume.brick(1).read_bytes("file") == b"not synced"


@pytest.mark.fusemux("1", volatile=False)
def test_a_brick_that_keeps_everything_cannot_lose_power(fusemux_volume: Volume, fusemux: Command) -> None:
    done = fusemux("brick", "power-cut", "test", "0")
    assert (done.status, "debug.volatile is not 'posix'" in done.err) == (1, True)
    assert fusemux_volume.brick(0).up


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["corrupt", "test", "0", "/missing"], "/missing on "),
        (["corrupt", "test", "0", "/empty"], "is empty on "),
        (["corrupt", "test", "0", "/../outside"], "is no file of the volume"),
        (["corrupt", "test", "0", "/.glusterfs/health_check"], "is no file of the volume"),
        (["kill", "test", "9"], "has no brick '9'"),
        (["kill", "tset", "0"], "volume 'tset' is not served"),
    ],
)
def test_what_a_brick_command_refuses(fusemux_volume: Volume, fusemux: Command, words: list[str], message: str) -> None:
    (fusemux_volume.path / "empty").touch()
    done = fusemux("brick", *words)
    assert (done.status, message in done.err) == (1, True), done
