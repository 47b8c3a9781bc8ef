"""One volume at two places of one process: what is done at one is seen at the other."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fusemux.private import needs_root
from tests.mounting import Place

pytestmark = [pytest.mark.mount, needs_root]


def two_places(place: Place, bricks: int, *options: str) -> list[Path]:
    """Where a stored volume of two copies is mounted."""
    place.fusemux("volume", "create", "web", "replica", "2", *[place.root / f"b{n}" for n in range(bricks)])
    return place.mount_at_places("web", *options)


def test_what_is_written_at_one_place_is_read_at_the_other(places: tuple[Path, Path]) -> None:
    one, two = places
    with open(two / "file", "rb", buffering=0) as reader, open(one / "file", "r+b", buffering=0) as writer:
        for number in range(200):
            size = 5 + number % 3
            writer.truncate(size)
            os.pwrite(writer.fileno(), b"%05d" % number, 0)
            assert os.pread(reader.fileno(), 5, 0) == b"%05d" % number
            assert os.fstat(reader.fileno()).st_size == size


def test_names_made_moved_and_removed_at_one_place_are_so_at_the_other(places: tuple[Path, Path]) -> None:
    one, two = places
    assert not (two / "folder").exists()
    (one / "folder").mkdir()
    (two / "folder/link").symlink_to("target")
    assert (one / "folder/link").readlink() == Path("target")
    assert sorted(os.listdir(two)) == ["file", "folder"]
    (one / "folder").rename(one / "moved")
    assert sorted(os.listdir(two)) == ["file", "moved"]
    assert not (two / "folder").exists()
    os.link(two / "file", two / "moved/other")
    assert (one / "file").stat().st_nlink == 2
    (one / "file").unlink()
    assert (two / "moved/other").stat().st_nlink == 1
    (one / "moved/other").replace(one / "file")
    (two / "file").unlink()  # by a name that has changed hands meanwhile
    (two / "moved/link").unlink()
    (two / "moved").rmdir()
    assert os.listdir(one) == os.listdir(two) == []


def test_modes_and_xattrs_set_at_one_place_hold_at_the_other(places: tuple[Path, Path]) -> None:
    one, two = places
    assert (two / "file").stat().st_mode & 0o7777 == 0o644
    (one / "file").chmod(0o4755)
    assert (two / "file").stat().st_mode & 0o7777 == 0o4755
    os.setxattr(two / "file", "user.note", b"1")
    assert os.getxattr(one / "file", "user.note") == b"1"


def test_privileges_given_at_one_place_are_dropped_by_a_write_at_the_other(places: tuple[Path, Path]) -> None:
    one, two = places
    (one / "file").chmod(0o666)
    write = "import os, sys; f = open(sys.argv[1], 'r+b', buffering=0); os.setuid(65534); print(flush=True); input(); f.write(b'x')"
    command = [sys.executable, "-c", write, str(two / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        (one / "file").chmod(0o4777)
        writer.communicate(b"\n")
    assert writer.returncode == 0
    assert (one / "file").stat().st_mode & 0o7777 == (two / "file").stat().st_mode & 0o7777 == 0o777


def test_what_both_places_append_is_all_there(places: tuple[Path, Path]) -> None:
    code = "import sys\nfor n in range(200):\n with open(sys.argv[1], 'a') as f: f.write(f'{sys.argv[2]} {n:04}\\n')"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(p / "log"), str(i)]) for i, p in enumerate(places)]
    assert [writer.wait() for writer in writers] == [0, 0]
    lines = (places[0] / "log").read_text().splitlines()
    assert (places[1] / "log").read_text().splitlines() == lines
    assert sorted(lines) == [f"{i} {n:04}" for i in range(2) for n in range(200)]


def test_who_begins_to_append_after_opening_does_not_overwrite_the_other(places: tuple[Path, Path]) -> None:
    """F_SETFL says nothing to a file system; the flags come with each write."""
    (places[0] / "log").write_bytes(b"")
    fds = [os.open(place / "log", os.O_WRONLY) for place in places]
    for fd in fds:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    for number in range(3):
        for fd, letter in zip(fds, "ab", strict=True):
            os.write(fd, f"{letter}{number}".encode())
    fcntl.fcntl(fds[0], fcntl.F_SETFL, 0)
    os.pwrite(fds[0], b"A", 0)
    for fd in fds:
        os.close(fd)
    assert (places[1] / "log").read_bytes() == b"A0b0a1b1a2b2"


def test_a_file_that_is_open_at_one_place_lives_on_when_the_other_removes_it(
    places: tuple[Path, Path], volume_place: Place
) -> None:
    one, two = places
    with open(two / "file", "r+b") as file:
        (one / "file").unlink()
        assert not (two / "file").exists()
        file.write(b"still there")
        file.seek(0)
        assert file.read(11) == b"still there"
        assert os.fstat(file.fileno()).st_nlink == 0
    (one / "folder").mkdir()
    folder = os.open(two / "folder", os.O_RDONLY)
    (one / "folder").rmdir()
    assert os.fstat(folder).st_nlink == 0
    os.close(folder)


def test_one_place_is_unmounted_and_the_other_goes_on(places: tuple[Path, Path], volume_place: Place) -> None:
    one, two = places
    volume_place.fusemux("umount", one)
    assert (two / "file").read_bytes() == bytes(100)
    (two / "more").write_text("more")
    (server,) = volume_place.answer("status")["servers"]
    assert {volume["mount"]: volume["mounted"] for volume in server["volumes"]} == {str(one): False, str(two): True}
    volume_place.umount(two)


def test_a_stored_volume_is_mounted_twice_and_its_locks_can_be_left_to_the_kernels(volume_place: Place) -> None:
    one, two = two_places(volume_place, 2, "locks=kernel")
    info = volume_place.answer("volume", "info", "web")
    assert info["mounts"] == [str(one), str(two)]
    (one / "file").write_text("")
    with open(one / "file", "r+b") as first, open(two / "file", "r+b") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        fcntl.flock(second, fcntl.LOCK_EX)


@pytest.mark.parametrize(
    ("option", "why"),
    [("writeback-cache", "mounted at 2 places, and writeback-cache"), ("binding=pyfuse3", "one place only; use binding=kernel")],
)  # fmt: skip
def test_what_would_keep_the_places_apart_is_refused(volume_place: Place, option: str, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        volume_place.mount_at_places("1,name=web", option)
    assert volume_place.mounts() == []


# Makes, moves and removes things at random; two of them get in each other's way.  Says which errors were no answer to that.
_MEDDLER = """
import errno, os, random, sys
usual = {"ENOENT", "EEXIST", "ENOTEMPTY", "ENOTDIR", "EISDIR", "EINVAL", "EPERM", "ESTALE"}
draw = random.Random(int(sys.argv[2]))
def path():
    return os.path.join(sys.argv[1], *(draw.choice("abcd") for _ in range(draw.choice((1, 1, 2, 3)))))
calls = [lambda: open(path(), "a").write("x"), lambda: os.mkdir(path()), lambda: os.rename(path(), path()),
         lambda: os.unlink(path()), lambda: os.rmdir(path()), lambda: os.link(path(), path()), lambda: os.listdir(path())]
for _ in range(150):
    try:
        draw.choice(calls)()
    except OSError as error:
        if errno.errorcode[error.errno] not in usual:
            print(error)
"""


def test_bricks_on_disks_stay_alike_when_both_places_change_the_same_names(volume_place: Place) -> None:
    places = two_places(volume_place, 4)
    meddlers = [
        subprocess.Popen([sys.executable, "-c", _MEDDLER, str(where), str(seed)], stdout=subprocess.PIPE, text=True)
        for seed, where in enumerate(places)
    ]
    assert [meddler.communicate()[0] for meddler in meddlers] == ["", ""]
    one, two = [
        sorted((path.relative_to(where), path.stat().st_ino, path.stat().st_nlink) for path in where.rglob("*"))
        for where in places
    ]
    assert one == two
    info = volume_place.answer("volume", "heal", "web", "info")
    assert [row["entries"] for row in info] == [[]] * 4
