"""Every option of the mount table has an effect that can be seen from outside."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusemux.mount.table import ROWS
from tests.fusemux.private import needs_root
from tests.mounting import Place

pytestmark = [pytest.mark.mount, needs_root]
EFFECTS: dict[str, Callable[[Place], None]] = {}


def effect(name: str) -> Callable[[Callable[[Place], None]], Callable[[Place], None]]:
    def register(check: Callable[[Place], None]) -> Callable[[Place], None]:
        EFFECTS[name] = check
        return check

    return register


@pytest.mark.parametrize("name", [row.name for row in ROWS if row.group != "fstab"])
def test_the_option_has_its_effect(volume_place: Place, name: str) -> None:
    assert name in EFFECTS, f"no test shows the effect of the mount option {name!r}"
    EFFECTS[name](volume_place)


def test_no_effect_is_shown_of_an_option_that_does_not_exist() -> None:
    assert {row.name for row in ROWS} >= set(EFFECTS)


# -- looking -------------------------------------------------------------------------------------------------------


def status(place: Place) -> dict[str, Any]:
    """What the only server says of itself."""
    (server,) = place.answer("status")["servers"]
    return dict(server)


def volume_status(place: Place) -> dict[str, Any]:
    (volume,) = status(place)["volumes"]
    return dict(volume)


def words(where: Path) -> set[str]:
    """The options in /proc/mounts."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return set(next(fields[3] for fields in reversed(lines) if fields[1] == str(where)).split(","))


def brick_of(place: Place) -> Path:
    (brick,) = place.root.glob("run/ramdisks/*/b0")
    return brick


def as_nobody(*command: str | Path) -> int:
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return subprocess.run([*user, *map(str, command)], capture_output=True, check=False).returncode


def replaced(place: Place, where: Path, *options: str) -> Path:
    """A fresh volume with other options at the same place."""
    place.umount(where)
    return place.mount("1", *options, point=where)


# -- fusemux -------------------------------------------------------------------------------------------------------


@effect("replace-stale")
def replace_stale(place: Place) -> None:
    where = place.mount("1")
    (pid,) = place.servers()
    os.kill(pid, 9)
    place.wait_ended()
    with pytest.raises(AssertionError, match="stale mount"):
        place.mount("1", point=where)
    place.mount("1", "replace-stale", point=where)
    assert os.listdir(where) == []


@effect("degraded")
def degraded(place: Place) -> None:
    bricks = [place.root / f"b{i}" for i in range(3)]
    place.fusemux("volume", "create", "web", "replica", "3", *bricks)
    bricks[1].rename(place.root / "away")
    with pytest.raises(AssertionError, match=r"b1: No such file or directory; is its file system mounted"):
        place.mount("web")
    where = place.mount("web", "degraded", "log-level=none")
    assert [brick["up"] for brick in volume_status(place)["bricks"]] == [True, False, True]
    (where / "file").write_text("x")
    assert [(brick / "file").exists() for brick in bricks] == [True, False, True]
    place.umount(where)


@effect("foreground")
def foreground(place: Place) -> None:
    where = place.root / "mnt"
    where.mkdir()
    command = [sys.executable, "-m", "fusemux.mount", "1", str(where), "-o", "foreground"]
    server = subprocess.Popen(command, env=place.env, stderr=subprocess.DEVNULL)
    while not os.path.ismount(where):
        assert server.poll() is None
    place.run("umount", where)
    assert server.wait(30) == 0


@effect("binding")
def binding(place: Place) -> None:
    where = place.mount("1", "binding=kernel")
    assert status(place)["binding"] == "kernel"
    replaced(place, where, "binding=pyfuse3")
    assert status(place)["binding"] == "pyfuse3"


@effect("log-level")
def log_level(place: Place) -> None:
    where = place.mount("1", "log-level=error")
    assert place.log(where) == ""
    assert status(place)["log-level"] == "ERROR"
    replaced(place, where, "log-level=debug")
    assert " D [fusemux." in place.log(where)
    place.run(sys.executable, "-m", "fusemux.mount", "1", where, "-o", "remount,log-level=error")
    assert status(place)["log-level"] == "ERROR"
    place.umount(where)


@effect("log-file")
def log_file(place: Place) -> None:
    path = place.root / "own.log"
    place.umount(place.mount("1", f"log-file={path}", "log-level=info"))
    assert "is mounted at" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


@effect("strict")
def strict(place: Place) -> None:
    place.environment["FUSEMUX_STRICT"] = "0"
    where = place.mount("1")
    assert status(place)["strict"] is False
    replaced(place, where, "strict")
    assert status(place)["strict"] is True


@effect("pool-threads")
def pool_threads(place: Place) -> None:
    place.mount("1", "pool-threads=3")
    assert status(place)["pool-threads"] == 3


@effect("lru-limit")
def lru_limit(place: Place) -> None:
    where = place.mount("1", "lru-limit=20")
    for n in range(200):
        (where / str(n)).touch()
    assert volume_status(place)["lru_limit"] == 20
    assert volume_status(place)["inodes"] < 100


@effect("volume-name")
def volume_name(place: Place) -> None:
    for name in ("one", "two"):
        (place.root / name).mkdir()
    volfile = place.root / "both.vol"
    volfile.write_text(
        "".join(
            f"volume {name}\n type storage/posix\n option directory {place.root / name}\nend-volume\n"
            for name in ("one", "two")
        )
    )
    where = place.mount(str(volfile), "volume-name=one")
    (where / "file").touch()
    assert (place.root / "one/file").exists()
    place.umount(where)
    with pytest.raises(AssertionError, match="there is no volume 'tow' in it, did you mean 'two'"):
        place.mount(str(volfile), "volume-name=tow")


# -- fuse ----------------------------------------------------------------------------------------------------------


@effect("allow_other")
def allow_other(place: Place) -> None:
    place.root.chmod(0o755)
    where = place.mount("1")
    assert as_nobody("stat", where) == 0
    where = replaced(place, where, "noallow_other")
    assert as_nobody("stat", where) != 0


@effect("attribute-timeout")
def attribute_timeout(place: Place) -> None:
    where = place.mount("1")
    for options, seen in ((), 0o644), (("attribute-timeout=0",), 0o600):
        where = replaced(place, where, *options)
        (where / "file").touch(0o644)
        (where / "file").stat()
        (brick_of(place) / "file").chmod(0o600)  # behind our back
        assert (where / "file").stat().st_mode & 0o777 == seen


@effect("entry-timeout")
def entry_timeout(place: Place) -> None:
    where = place.mount("1")
    for options, seen in ((), True), (("entry-timeout=0", "attribute-timeout=0"), False):
        where = replaced(place, where, *options)
        (where / "file").touch()
        (brick_of(place) / "file").rename(brick_of(place) / "other")
        assert (where / "file").exists() is seen


@effect("negative-timeout")
def negative_timeout(place: Place) -> None:
    where = place.mount("1")
    for options, seen in ((), False), (("negative-timeout=0",), True):
        where = replaced(place, where, *options)
        (where / "file").touch()
        assert not (where / "other").exists()
        os.link(brick_of(place) / "file", brick_of(place) / "other")
        assert (where / "other").exists() is seen


@effect("writeback-cache")
def writeback_cache(place: Place) -> None:
    where = place.mount("1")
    for options, seen in ((), 10), (("writeback-cache",), 0):
        where = replaced(place, where, *options)
        with open(where / "file", "wb", buffering=0) as file:
            file.write(b"0123456789")
            assert (brick_of(place) / "file").stat().st_size == seen
        assert (brick_of(place) / "file").stat().st_size == 10


@effect("passthrough")
def passthrough(place: Place) -> None:
    where = place.mount("1", "binding=kernel")
    release = tuple(int(number) for number in os.uname().release.split(".")[:2])
    for options, passed in ((), release >= (6, 9)), (("nopassthrough",), False), (("writeback-cache",), False):
        where = replaced(place, where, "binding=kernel", *options)
        with open(where / "file", "wb"):
            assert volume_status(place)["connection"]["passed"] == passed


@effect("locks")
def locks(place: Place) -> None:
    where = place.mount("1", "binding=kernel")
    for options, kept_by_bricks in ((), False), (("locks=kernel",), False), (("locks=bricks",), True):
        where = replaced(place, where, "binding=kernel", *options)
        assert ("POSIX_LOCKS" in volume_status(place)["connection"]["flags"]) == kept_by_bricks
        with open(where / "file", "wb") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            dump = place.fusemux("status", "--dump").stdout
            assert ("record-locks=1" in dump) == kept_by_bricks
    place.umount(where)
    with pytest.raises(AssertionError, match="pyfuse3 cannot carry locks; use binding=kernel, or locks=kernel"):
        place.mount("1", "binding=pyfuse3", "locks=bricks", point=where)


@effect("max_read")
def max_read(place: Place) -> None:
    assert "max_read=131072" in words(place.mount("1", "max_read=128KB"))


@effect("max_write")
def max_write(place: Place) -> None:
    place.mount("1", "max_write=128KB", "binding=kernel")
    assert volume_status(place)["connection"]["max_write"] == 131072


@effect("fsname")
def fsname(place: Place) -> None:
    where = place.mount("1", "fsname=my volume")
    assert f"my\\040volume {where} fuse.fusemux" in Path("/proc/self/mounts").read_text()


# -- kernel --------------------------------------------------------------------------------------------------------


@effect("ro")
def ro(place: Place) -> None:
    where = place.mount("1", "ro")
    with pytest.raises(OSError, match="Read-only file system"):
        (where / "file").touch()


@effect("suid")
def suid(place: Place) -> None:
    where = place.mount("1")
    assert "nosuid" not in words(where)
    assert "nosuid" in words(replaced(place, where, "nosuid"))


@effect("dev")
def dev(place: Place) -> None:
    where = place.mount("1")
    for options in ((), ("nodev",)):
        where = replaced(place, where, *options)
        os.mknod(where / "null", 0o20666, os.makedev(1, 3))
        if not options:
            (where / "null").write_text("gone")
            continue
        with pytest.raises(PermissionError):
            (where / "null").write_text("gone")


@effect("exec")
def exec_(place: Place) -> None:
    where = place.mount("1")
    for options in ((), ("noexec",)):
        where = replaced(place, where, *options)
        (where / "program").write_text("#!/bin/sh\n")
        (where / "program").chmod(0o755)
        if not options:
            subprocess.run([where / "program"], check=True)
            continue
        with pytest.raises(PermissionError):
            subprocess.run([where / "program"], check=True)


@effect("symfollow")
def symfollow(place: Place) -> None:
    where = place.mount("1")
    for options in ((), ("nosymfollow",)):
        where = replaced(place, where, *options)
        (where / "file").touch()
        (where / "link").symlink_to("file")
        if not options:
            (where / "link").stat()
            continue
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            (where / "link").read_text()


def word_effect(option: str, word: str, *, present: bool = True) -> None:
    @effect(option.removeprefix("no"))
    def check(place: Place) -> None:
        where = place.mount("1")
        assert (word in words(where)) is not present
        assert (word in words(replaced(place, where, option))) is present


word_effect("sync", "sync")
word_effect("dirsync", "dirsync")
word_effect("noatime", "noatime")
word_effect("nodiratime", "nodiratime")
word_effect("strictatime", "relatime", present=False)
