"""One volume at two places of one process: what is done at one is seen at the other, locks above all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fusemux.private import needs_root
from tests.mounting import Place

pytestmark = [pytest.mark.mount, needs_root]
FUSEMUX = (sys.executable, "-m", "fusemux")
_LOCK = struct.Struct("hhqqi4x")  # struct flock
_OFD_SETLK = 37

# Another process at the other place.  It does what its input says, one expression a line, and writes what came of it.
_OTHER = """
import contextlib, fcntl, os, signal, struct, sys

class Alarm(Exception): pass
def alarm(*_): raise Alarm
signal.signal(signal.SIGALRM, alarm)

def tried(call, *args):
    try:
        return call(*args)
    except OSError as error:
        return f"errno {error.errno}"
    except Alarm:
        return "interrupted"

path = sys.argv[1]
f = open(path, "r+")
for line in sys.stdin:
    print("begun", flush=True)
    print(repr(tried(eval, line)), flush=True)
"""


class Other:
    """A process that has a file open."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OTHER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        assert self._line() == "begun"

    def outcome(self) -> object:
        return eval(self._line())

    def do(self, expression: str) -> object:
        self.begin(expression)
        return self.outcome()

    def wait_blocked(self) -> None:
        """Until it waits for an answer of the file system."""
        waiting = Path(f"/proc/{self.process.pid}/wchan")
        while "fuse" not in waiting.read_text() and "request_wait" not in waiting.read_text():
            pass

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(params=["1", "2", "2x2"])
def places(request: pytest.FixtureRequest, volume_place: Place) -> tuple[Path, Path]:
    one, other = volume_place.mount_at_places(f"{request.param},name=web")
    (one / "file").write_bytes(bytes(100))
    return one, other


@pytest.fixture
def other(places: tuple[Path, Path]) -> Iterator[Other]:
    """At the second place."""
    made = Other(places[1] / "file")
    yield made
    made.end()


def locks_held(place: Place) -> set[int]:
    dump = place.run(*FUSEMUX, "status", "--dump").stdout
    return {int(line.partition("=")[2]) for line in dump.splitlines() if "record-" in line}


# -- locks -------------------------------------------------------------------------------------------------------


def test_a_record_lock_keeps_the_other_place_out(places: tuple[Path, Path], other: Other) -> None:
    with open(places[0] / "file", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 20)
        assert other.do("fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 29)") == f"errno {errno.EAGAIN}"
        assert other.do("fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)") == f"errno {errno.EAGAIN}"
        assert other.do("fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 20, 0)") is None
        with pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 0)


def test_who_holds_a_lock_is_named(places: tuple[Path, Path], other: Other) -> None:
    asked = "struct.unpack('hhqqi4x', fcntl.fcntl(f, fcntl.F_GETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0)))"
    with open(places[0] / "file", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_SH, 10, 20)
        assert other.do(asked) == (fcntl.F_RDLCK, os.SEEK_SET, 20, 10, os.getpid())
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert other.do(asked) == (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, os.getpid())
        fcntl.lockf(file, fcntl.LOCK_UN)
        free = other.do(asked)
        assert isinstance(free, tuple)
        assert free[0] == fcntl.F_UNLCK


def test_who_waits_gets_the_lock_when_it_is_free_and_holds_up_nobody(places: tuple[Path, Path], other: Other) -> None:
    with open(places[0] / "file", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        other.begin("fcntl.lockf(f, fcntl.LOCK_EX)")
        other.wait_blocked()
        (places[1] / "elsewhere").write_text("served")
        assert (places[0] / "elsewhere").read_text() == "served"
        fcntl.lockf(file, fcntl.LOCK_UN)
        assert other.outcome() is None
        with pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("lock", ["lockf", "flock"])
def test_who_waits_can_be_interrupted(places: tuple[Path, Path], other: Other, volume_place: Place, lock: str) -> None:
    with open(places[0] / "file", "r+b") as file:
        getattr(fcntl, lock)(file, fcntl.LOCK_EX)
        other.begin(f"fcntl.{lock}(f, fcntl.LOCK_EX)")
        other.wait_blocked()
        other.process.send_signal(signal.SIGALRM)
        assert other.outcome() == "interrupted"
        getattr(fcntl, lock)(file, fcntl.LOCK_UN)
        assert other.do(f"fcntl.{lock}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)") is None
        assert other.do(f"fcntl.{lock}(f, fcntl.LOCK_UN)") is None
    assert locks_held(volume_place) == {0}


def test_flock_keeps_the_other_place_out_and_knows_nothing_of_record_locks(
    places: tuple[Path, Path], other: Other
) -> None:
    with open(places[0] / "file", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert other.do("fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)") is None
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # which has cost it the lock that it had, as flock(2) says
        assert other.do("fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)") is None
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_two_who_share_a_flock_and_both_want_it_alone_get_it_one_after_the_other(
    places: tuple[Path, Path], other: Other
) -> None:
    with open(places[0] / "file", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert other.do("fcntl.flock(f, fcntl.LOCK_SH)") is None
        other.begin("fcntl.flock(f, fcntl.LOCK_EX)")
        other.wait_blocked()
        fcntl.flock(file, fcntl.LOCK_EX)  # who waits has let go of the lock that it shared
        fcntl.flock(file, fcntl.LOCK_UN)
        assert other.outcome() is None


def test_flock_is_held_until_the_last_descriptor_is_closed(places: tuple[Path, Path], other: Other) -> None:
    first = os.open(places[0] / "file", os.O_RDWR)
    second = os.dup(first)
    fcntl.flock(first, fcntl.LOCK_EX)
    os.close(first)
    assert other.do("fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)") == f"errno {errno.EAGAIN}"
    os.close(second)
    assert other.do("fcntl.flock(f, fcntl.LOCK_EX)") is None


def test_record_locks_end_with_the_first_close_of_any_descriptor(places: tuple[Path, Path], other: Other) -> None:
    with open(places[0] / "file", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        open(places[0] / "file", "rb").close()
        assert other.do("fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)") is None


def test_locks_of_an_open_file_description_end_with_it(places: tuple[Path, Path], other: Other) -> None:
    held = os.open(places[0] / "file", os.O_RDWR)
    fcntl.fcntl(held, _OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
    open(places[0] / "file", "rb").close()
    assert other.do("fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)") == f"errno {errno.EAGAIN}"
    os.close(held)
    assert other.do("fcntl.lockf(f, fcntl.LOCK_EX)") is None


def test_a_process_that_is_killed_holds_no_lock(places: tuple[Path, Path], other: Other) -> None:
    with open(places[0] / "file", "r+b") as file:
        assert other.do("(fcntl.lockf(f, fcntl.LOCK_EX), fcntl.flock(f, fcntl.LOCK_EX))") == (None, None)
        other.end()
        fcntl.lockf(file, fcntl.LOCK_EX)
        fcntl.flock(file, fcntl.LOCK_EX)


def test_an_unmount_ends_the_locks_that_were_held_there(
    places: tuple[Path, Path], other: Other, volume_place: Place
) -> None:
    with open(places[0] / "file", "r+b") as file:
        assert other.do("fcntl.lockf(f, fcntl.LOCK_EX)") is None
        waiting = threading.Thread(target=fcntl.lockf, args=(file, fcntl.LOCK_EX))
        waiting.start()
        volume_place.run(*FUSEMUX, "umount", "--lazy", places[1])
        other.end()  # its descriptor kept the connection alive
        waiting.join(30)
        assert not waiting.is_alive()
    assert locks_held(volume_place) == {0}


def test_a_lock_outlives_a_brick_that_dies(volume_place: Place) -> None:
    one, two = volume_place.mount_at_places("replica=3,name=web")
    (one / "file").write_bytes(bytes(100))
    other = Other(two / "file")
    try:
        with open(one / "file", "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            other.begin("fcntl.lockf(f, fcntl.LOCK_EX)")
            other.wait_blocked()
            volume_place.run(*FUSEMUX, "brick", "kill", "web", "0")
            fcntl.lockf(file, fcntl.LOCK_UN)
            assert other.outcome() is None
            with pytest.raises(BlockingIOError):
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        other.end()
        volume_place.run(*FUSEMUX, "brick", "start", "web", "0")


# -- everything else ---------------------------------------------------------------------------------------------


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
    volume_place.run(*FUSEMUX, "umount", one)
    assert (two / "file").read_bytes() == bytes(100)
    (two / "more").write_text("more")
    (server,) = json.loads(volume_place.run(*FUSEMUX, "status", "--json").stdout)["servers"]
    assert {volume["mount"]: volume["mounted"] for volume in server["volumes"]} == {str(one): False, str(two): True}
    volume_place.umount(two)


def test_a_stored_volume_is_mounted_twice_and_its_locks_can_be_left_to_the_kernels(volume_place: Place) -> None:
    volume_place.run(
        *FUSEMUX, "volume", "create", "web", "replica", "2", *[volume_place.root / f"b{n}" for n in (0, 1)]
    )
    one, two = volume_place.mount_at_places("web", "locks=kernel")
    info = json.loads(volume_place.run(*FUSEMUX, "volume", "info", "web", "--json").stdout)
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
    bricks = [volume_place.root / f"b{number}" for number in range(4)]
    volume_place.run(*FUSEMUX, "volume", "create", "web", "replica", "2", *bricks)
    places = volume_place.mount_at_places("web")
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
    info = json.loads(volume_place.run(*FUSEMUX, "volume", "heal", "web", "info", "--json").stdout)
    assert [row["entries"] for row in info] == [[]] * 4
