"""Locks of one volume at two places of one process: what is held at one keeps the other out."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.fusemux.private import needs_root
from tests.mounting import Place

pytestmark = [pytest.mark.mount, needs_root]
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


@pytest.fixture
def file(places: tuple[Path, Path]) -> Iterator[BinaryIO]:
    """The file, open at the first place."""
    with open(places[0] / "file", "r+b") as opened:
        yield opened


@pytest.fixture
def other(places: tuple[Path, Path]) -> Iterator[Other]:
    """A process that has the file open at the second place."""
    made = Other(places[1] / "file")
    yield made
    made.end()


def locks_held(place: Place) -> set[int]:
    dump = place.fusemux("status", "--dump").stdout
    return {int(line.partition("=")[2]) for line in dump.splitlines() if "record-" in line}


def test_a_record_lock_keeps_the_other_place_out(file: BinaryIO, other: Other) -> None:
    fcntl.lockf(file, fcntl.LOCK_EX, 10, 20)
    assert other.do("fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 29)") == f"errno {errno.EAGAIN}"
    assert other.do("fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)") == f"errno {errno.EAGAIN}"
    assert other.do("fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 20, 0)") is None
    with pytest.raises(BlockingIOError):
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 0)


def test_who_holds_a_lock_is_named(file: BinaryIO, other: Other) -> None:
    asked = "struct.unpack('hhqqi4x', fcntl.fcntl(f, fcntl.F_GETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0)))"
    fcntl.lockf(file, fcntl.LOCK_SH, 10, 20)
    assert other.do(asked) == (fcntl.F_RDLCK, os.SEEK_SET, 20, 10, os.getpid())
    fcntl.lockf(file, fcntl.LOCK_EX)
    assert other.do(asked) == (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, os.getpid())
    fcntl.lockf(file, fcntl.LOCK_UN)
    free = other.do(asked)
    assert isinstance(free, tuple)
    assert free[0] == fcntl.F_UNLCK


def test_who_waits_gets_the_lock_when_it_is_free_and_holds_up_nobody(
    places: tuple[Path, Path], file: BinaryIO, other: Other
) -> None:
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
def test_who_waits_can_be_interrupted(file: BinaryIO, other: Other, volume_place: Place, lock: str) -> None:
    getattr(fcntl, lock)(file, fcntl.LOCK_EX)
    other.begin(f"fcntl.{lock}(f, fcntl.LOCK_EX)")
    other.wait_blocked()
    other.process.send_signal(signal.SIGALRM)
    assert other.outcome() == "interrupted"
    getattr(fcntl, lock)(file, fcntl.LOCK_UN)
    assert other.do(f"fcntl.{lock}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)") is None
    assert other.do(f"fcntl.{lock}(f, fcntl.LOCK_UN)") is None
    file.close()
    assert locks_held(volume_place) == {0}


def test_flock_keeps_the_other_place_out_and_knows_nothing_of_record_locks(file: BinaryIO, other: Other) -> None:
    fcntl.lockf(file, fcntl.LOCK_EX)
    assert other.do("fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)") is None
    fcntl.flock(file, fcntl.LOCK_SH)
    with pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # which has cost it the lock that it had, as flock(2) says
    assert other.do("fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)") is None
    with pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_two_who_share_a_flock_and_both_want_it_alone_get_it_one_after_the_other(file: BinaryIO, other: Other) -> None:
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


def test_record_locks_end_with_the_first_close_of_any_descriptor(
    places: tuple[Path, Path], file: BinaryIO, other: Other
) -> None:
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


def test_a_process_that_is_killed_holds_no_lock(file: BinaryIO, other: Other) -> None:
    assert other.do("(fcntl.lockf(f, fcntl.LOCK_EX), fcntl.flock(f, fcntl.LOCK_EX))") == (None, None)
    other.end()
    fcntl.lockf(file, fcntl.LOCK_EX)
    fcntl.flock(file, fcntl.LOCK_EX)


def test_an_unmount_ends_the_locks_that_were_held_there(
    places: tuple[Path, Path], file: BinaryIO, other: Other, volume_place: Place
) -> None:
    assert other.do("fcntl.lockf(f, fcntl.LOCK_EX)") is None
    waiting = threading.Thread(target=fcntl.lockf, args=(file, fcntl.LOCK_EX))
    waiting.start()
    volume_place.fusemux("umount", "--lazy", places[1])
    other.end()  # its descriptor kept the connection alive
    waiting.join(30)
    assert not waiting.is_alive()
    file.close()
    assert locks_held(volume_place) == {0}


@pytest.mark.parametrize("places", ["replica=3"], indirect=True)
def test_a_lock_outlives_a_brick_that_dies(file: BinaryIO, other: Other, volume_place: Place) -> None:
    fcntl.lockf(file, fcntl.LOCK_EX)
    other.begin("fcntl.lockf(f, fcntl.LOCK_EX)")
    other.wait_blocked()
    volume_place.fusemux("brick", "kill", "web", "0")
    fcntl.lockf(file, fcntl.LOCK_UN)
    assert other.outcome() is None
    with pytest.raises(BlockingIOError):
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    volume_place.fusemux("brick", "start", "web", "0")
