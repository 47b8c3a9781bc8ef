"""Random sequences of calls, the same on a mount and on tmpfs; hypothesis shrinks what differs to a few calls.

FUSEMUX_PARITY_EXAMPLES sets how many sequences are tried (default: enough for a few seconds).
"""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.parity.compare import differences
from tests.parity.conftest import Sides
from tests.parity.libc import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE
from tests.parity.world import Line

pytestmark = [pytest.mark.mount, pytest.mark.timeout(600)]

NAMES = [b"a", b"b", b"c", b"d", b"d/a", b"d/b", b"d/e", b"d/e/a", b"f", b"f/a", b"f/e", b"f/e/b"]
PATHS = st.sampled_from(NAMES)
OFFSETS = st.sampled_from([0, 1, 100, 4095, 4096, 4097, 10_000, 131_072])
SIZES = st.sampled_from([0, 1, 10, 4096, 5000, 70_000])
FLAGS = st.sampled_from([
    os.O_RDWR, os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR | os.O_TRUNC,
    os.O_RDWR | os.O_APPEND | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
])  # fmt: skip
MODES = st.sampled_from([0o600, 0o644, 0o755, 0o777, 0o2755, 0o4711, 0])
XATTRS = st.sampled_from([b"user.a", b"user.b"])

_folders = itertools.count()


class Parity(RuleBasedStateMachine):
    def __init__(self, sides: Sides) -> None:
        super().__init__()
        self.sides = sides
        self.folder = f"random{next(_folders)}"
        self.held = 0
        self.history: list[Line] = []

    def both(self, call: str, *args: object) -> None:
        there = self.sides.there.runner.step(self.folder, call, *args)
        here = self.sides.here.step(self.folder, call, *args)
        report = differences([*self.history, *there], [*self.history, *here])
        assert not report, f"{self.sides.kind} through {self.sides.binding}:\n{report}"
        self.history += there

    # -- names ----------------------------------------------------------------------------------------------

    @rule(path=PATHS, mode=MODES)
    def mkdir(self, path: bytes, mode: int) -> None:
        self.both("mkdir", path, mode | 0o700)

    @rule(path=PATHS)
    def rmdir(self, path: bytes) -> None:
        self.both("rmdir", path)

    @rule(path=PATHS)
    def unlink(self, path: bytes) -> None:
        self.both("unlink", path)

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: bytes, new: bytes) -> None:
        self.both("rename", old, new)

    @rule(old=PATHS, new=PATHS, flags=st.sampled_from([1, 2]))
    def rename_with_flags(self, old: bytes, new: bytes, flags: int) -> None:
        self.both("renameat2", old, new, flags)

    @rule(old=PATHS, new=PATHS)
    def link(self, old: bytes, new: bytes) -> None:
        self.both("link", old, new)

    @rule(text=PATHS, path=PATHS)
    def symlink(self, text: bytes, path: bytes) -> None:
        self.both("symlink", text, path)

    @rule(path=PATHS)
    def mkfifo(self, path: bytes) -> None:
        self.both("mkfifo", path, 0o644)

    # -- content --------------------------------------------------------------------------------------------

    @rule(path=PATHS, size=SIZES)
    def write_whole(self, path: bytes, size: int) -> None:
        self.both("write_whole", path, bytes([len(self.history) % 256]) * size)

    @rule(path=PATHS, size=SIZES)
    def truncate(self, path: bytes, size: int) -> None:
        self.both("truncate", path, size)

    @rule(path=PATHS)
    def read_whole(self, path: bytes) -> None:
        self.both("read_whole", path)

    @precondition(lambda self: self.held < 8)
    @rule(path=PATHS, flags=FLAGS)
    def hold(self, path: bytes, flags: int) -> None:
        self.both("hold", path, flags | os.O_NONBLOCK)
        self.held += self.history[-1][1] == "fd"

    @precondition(lambda self: self.held)
    @rule(slot=st.integers(0, 7), offset=OFFSETS, size=SIZES)
    def write_held(self, slot: int, offset: int, size: int) -> None:
        self.both("on_held", slot, "pwrite", bytes([len(self.history) % 256]) * size, offset)

    @precondition(lambda self: self.held)
    @rule(slot=st.integers(0, 7), offset=OFFSETS, size=SIZES)
    def read_held(self, slot: int, offset: int, size: int) -> None:
        self.both("on_held", slot, "pread", size, offset)

    @precondition(lambda self: self.held)
    @rule(slot=st.integers(0, 7), size=SIZES)
    def truncate_held(self, slot: int, size: int) -> None:
        self.both("on_held", slot, "ftruncate", size)

    @precondition(lambda self: self.held)
    @rule(slot=st.integers(0, 7), offset=OFFSETS, size=st.sampled_from([1, 4096, 5000]),
          mode=st.sampled_from([0, FALLOC_KEEP_SIZE, FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE]))  # fmt: skip
    def allocate_held(self, slot: int, offset: int, size: int, mode: int) -> None:
        self.both("on_held", slot, "fallocate", mode, offset, size)

    @precondition(lambda self: self.held)
    @rule(slot=st.integers(0, 7), call=st.sampled_from(["fsync", "fstat"]))
    def look_at_held(self, slot: int, call: str) -> None:
        self.both("on_held", slot, call)

    @precondition(lambda self: self.held)
    @rule(slot=st.integers(0, 7))
    def close_held(self, slot: int) -> None:
        self.both("close_held", slot)
        self.held -= 1

    # -- metadata -------------------------------------------------------------------------------------------

    @rule(path=PATHS)
    def stat(self, path: bytes) -> None:
        self.both("stat", path)

    @rule(path=PATHS, mode=MODES)
    def chmod(self, path: bytes, mode: int) -> None:
        self.both("chmod", path, mode)

    @rule(path=PATHS, atime=st.integers(0, 2**62), mtime=st.integers(0, 2**62))
    def utime(self, path: bytes, atime: int, mtime: int) -> None:
        self.both("set_times", path, atime, mtime)

    @rule(path=PATHS, name=XATTRS, size=st.integers(0, 100))
    def setxattr(self, path: bytes, name: bytes, size: int) -> None:
        self.both("setxattr", path, name, b"v" * size)

    @rule(path=PATHS, name=XATTRS)
    def removexattr(self, path: bytes, name: bytes) -> None:
        self.both("removexattr", path, name)

    @rule(path=st.sampled_from([b".", b"d", b"d/e", b"f"]))
    def scandir(self, path: bytes) -> None:
        self.both("scandir", path)

    # -- all of it ------------------------------------------------------------------------------------------

    @invariant()
    def the_trees_are_equal(self) -> None:
        if len(self.history) % 10 == 0:
            self.both("snapshot")

    def teardown(self) -> None:
        while self.held:
            self.both("close_held", 0)
            self.held -= 1
        self.both("snapshot")


def test_random_sequences_do_what_they_do_on_tmpfs(sides: Sides) -> None:
    examples = int(os.environ.get("FUSEMUX_PARITY_EXAMPLES", "25"))
    run_state_machine_as_test(
        lambda: Parity(sides),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
