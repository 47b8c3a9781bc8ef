"""flock(2) and fcntl(2) locks between processes."""

from __future__ import annotations

import errno
import fcntl
import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN
from os import O_CREAT, O_RDONLY, O_RDWR, O_WRONLY

from tests.parity.scripts.table import file, script
from tests.parity.world import World


def flock(w: World, fd: int, how: int) -> None:
    names = [name for name in ("LOCK_SH", "LOCK_EX", "LOCK_UN", "LOCK_NB") if how & getattr(fcntl, name)]
    w.step(f"flock {'|'.join(names)}", lambda: fcntl.flock(fd, how))


def lockf(w: World, fd: int, how: int, length: int = 0, start: int = 0) -> None:
    names = [name for name in ("LOCK_SH", "LOCK_EX", "LOCK_UN", "LOCK_NB") if how & getattr(fcntl, name)]
    w.step(f"lockf {'|'.join(names)} {start}+{length}", lambda: _lockf(fd, how, length, start))


def _lockf(fd: int, how: int, length: int, start: int) -> None:
    try:
        fcntl.lockf(fd, how, length, start)
    except OSError as error:
        raise OSError(errno.EAGAIN if error.errno == errno.EACCES else error.errno, "lockf") from None


@script
def an_exclusive_flock_excludes_others_until_it_is_released(w: World) -> None:
    file(w, b"f")
    fd = w.open(b"f", O_RDWR)
    flock(w, fd, LOCK_EX)

    def other(w: World) -> None:
        mine = w.open(b"f", O_RDWR)
        flock(w, mine, LOCK_EX | LOCK_NB)
        flock(w, mine, LOCK_SH | LOCK_NB)
        w.close(mine)

    w.child(other)
    flock(w, fd, LOCK_SH)
    w.child(other)
    flock(w, fd, LOCK_UN)
    w.child(other)
    flock(w, fd, LOCK_EX)
    w.close(fd)
    w.child(other)


@script
def two_descriptors_of_one_process_have_flocks_of_their_own(w: World) -> None:
    one, two = w.open(b"f", O_RDWR | O_CREAT), w.open(b"f", O_RDONLY)
    flock(w, one, LOCK_EX)
    flock(w, two, LOCK_EX | LOCK_NB)
    copy = w.step("dup", lambda: os.dup(one) and True)
    w.say("copied", copy)
    flock(w, one, LOCK_UN)
    flock(w, two, LOCK_SH | LOCK_NB)
    flock(w, one, LOCK_SH | LOCK_NB)
    flock(w, one, LOCK_EX | LOCK_NB)
    w.close(one)
    w.close(two)


@script
def record_locks_exclude_by_range(w: World) -> None:
    file(w, b"f", b"0123456789")
    fd = w.open(b"f", O_RDWR)
    lockf(w, fd, LOCK_EX, 5, 0)
    lockf(w, fd, LOCK_SH, 5, 10)

    def other(w: World) -> None:
        mine = w.open(b"f", O_RDWR)
        for start in (0, 4, 5, 9, 10, 14, 15, 100):
            lockf(w, mine, LOCK_EX | LOCK_NB, 1, start)
            lockf(w, mine, LOCK_SH | LOCK_NB, 1, start)
        lockf(w, mine, LOCK_EX | LOCK_NB, 0, 15)
        w.close(mine)

    w.child(other)
    lockf(w, fd, LOCK_UN, 2, 1)
    w.child(other)
    w.close(fd)
    w.child(other)


@script
def record_locks_of_one_process_merge_and_split(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    lockf(w, fd, LOCK_EX, 10, 0)
    lockf(w, fd, LOCK_SH, 2, 4)
    lockf(w, fd, LOCK_UN, 1, 8)

    def other(w: World) -> None:
        mine = w.open(b"f", O_RDWR)
        for start in range(11):
            lockf(w, mine, LOCK_SH | LOCK_NB, 1, start)
            lockf(w, mine, LOCK_UN, 1, start)
        w.close(mine)

    w.child(other)
    w.close(fd)


@script
def closing_any_descriptor_drops_the_record_locks_of_the_process(w: World) -> None:
    one, two = w.open(b"f", O_RDWR | O_CREAT), w.open(b"f", O_RDWR)
    lockf(w, one, LOCK_EX)
    w.close(two)

    def other(w: World) -> None:
        mine = w.open(b"f", O_RDWR)
        lockf(w, mine, LOCK_EX | LOCK_NB)
        w.close(mine)

    w.child(other)
    w.close(one)


@script
def record_locks_need_the_matching_access(w: World) -> None:
    file(w, b"f")
    read_only, write_only = w.open(b"f", O_RDONLY), w.open(b"f", O_WRONLY)
    lockf(w, read_only, LOCK_EX | LOCK_NB)
    lockf(w, read_only, LOCK_SH | LOCK_NB)
    lockf(w, write_only, LOCK_SH | LOCK_NB)
    lockf(w, write_only, LOCK_EX | LOCK_NB)
    w.close(read_only)
    w.close(write_only)


@script
def a_waiting_lock_is_granted_when_it_is_free(w: World) -> None:
    """A child waits; the parent writes while it holds the lock, then lets go: the child reads what was written."""
    fd = w.open(b"f", O_RDWR | O_CREAT)
    ready_out, ready_in = os.pipe()
    lockf(w, fd, LOCK_EX)
    pid = os.fork()
    if pid == 0:
        mine = os.open(b"f", O_RDWR)
        os.write(ready_in, b"r")
        fcntl.lockf(mine, LOCK_EX)
        os._exit(0 if os.read(mine, 10) == b"written" else 1)
    os.read(ready_out, 1)
    w.write(fd, b"written")
    lockf(w, fd, LOCK_UN)
    w.say("the child saw it", os.waitpid(pid, 0)[1])
    w.close(fd)
    os.close(ready_in)
    os.close(ready_out)


@script
def a_lock_dies_with_its_process(w: World) -> None:
    file(w, b"f")

    def hold(w: World) -> None:
        mine = w.open(b"f", O_RDWR)
        flock(w, mine, LOCK_EX)
        lockf(w, mine, LOCK_EX)

    w.child(hold)
    fd = w.open(b"f", O_RDWR)
    flock(w, fd, LOCK_EX | LOCK_NB)
    lockf(w, fd, LOCK_EX | LOCK_NB)
    w.close(fd)


@script
def locks_follow_a_file_through_rename_and_unlink(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    flock(w, fd, LOCK_EX)
    w.rename(b"f", b"g")

    def other(w: World) -> None:
        mine = w.open(b"g", O_RDWR)
        flock(w, mine, LOCK_EX | LOCK_NB)
        w.close(mine)

    w.child(other)
    w.unlink(b"g")
    file(w, b"g")
    w.child(other)
    w.close(fd)
