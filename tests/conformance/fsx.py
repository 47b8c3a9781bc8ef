"""Random reads, writes, truncates, mappings and allocations of a file, compared with a model in memory.

    python tests/conformance/fsx.py DIR [--ops N | --seconds S] [--seed N] [--files N] [--max-size BYTES] [--without OP,...]

The idea is that of Apple's and NeXT's fsx: whatever the order of operations, a file's bytes and size are what POSIX says, and
a bytearray knows what that is.  A run is replayed by its seed: the operations depend on the seed and the model only, never on
what the file system answers (but for operations that it does not support at all, which are dropped and listed).

It ends with status 0 after all operations, with 1 at the first difference, which is shown together with the operations that
touched the place, and the command that replays it.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import mmap
import os
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
PAGE = mmap.PAGESIZE
HISTORY = 2000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

# How often each operation is drawn, relative to the others.
WEIGHTS = {
    "read": 20, "mapread": 10, "write": 20, "append": 5, "mapwrite": 10, "truncate": 6, "extend": 4, "fallocate": 3,
    "reserve": 2, "punch": 5, "zero": 4, "copy": 4, "holes": 2, "fsync": 1, "reopen": 2, "check": 1,
}  # fmt: skip


class Difference(Exception):
    """The file is not what the model says."""


class Operation(NamedTuple):
    name: str
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.name} {self.offset:#x}..{self.offset + self.length:#x} ({self.length} bytes)"


class Exercised:
    """One file with its model.  Each method named like an operation performs it on both and compares."""

    def __init__(self, path: Path, draw: random.Random, max_size: int, weights: dict[str, int]) -> None:
        self.path = path
        self.draw = draw
        self.max_size = max_size
        self.weights = dict(weights)
        self.model = bytearray()
        self.fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o644)
        self.history: deque[tuple[int, Operation]] = deque(maxlen=HISTORY)
        self.done: Counter[str] = Counter()
        self.unsupported: set[str] = set()

    def step(self, number: int) -> None:
        """Draw the next operation and perform it.  Raises Difference; OSError for what should have worked."""
        operation = self._choose()
        if operation.name in self.unsupported:
            return
        self.history.append((number, operation))
        method: Callable[[int, int], None] = getattr(self, operation.name)
        try:
            method(operation.offset, operation.length)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            self.unsupported.add(operation.name)
            return
        self.done[operation.name] += 1
        self._compare_size()

    def _choose(self) -> Operation:
        name = self.draw.choices(list(self.weights), list(self.weights.values()))[0]
        within = name in ("read", "mapread", "mapwrite", "punch")
        offset = self.draw.randrange(max(len(self.model) if within else self.max_size, 1))
        if self.draw.random() < 0.3:
            offset -= offset % PAGE
        longest = self.max_size - offset
        length = min(self.draw.choice((1, 100, PAGE, self.draw.randrange(1, longest + 1))), longest)
        return Operation(name, offset, length)

    # -- the operations

    def read(self, offset: int, length: int) -> None:
        self._same(os.pread(self.fd, length, offset), offset, length)

    def mapread(self, offset: int, length: int) -> None:
        if length := min(length, len(self.model) - offset):
            start = offset - offset % PAGE
            with mmap.mmap(self.fd, offset + length - start, mmap.MAP_SHARED, mmap.PROT_READ, offset=start) as view:
                self._same(view[offset - start :], offset, length)

    def write(self, offset: int, length: int) -> None:
        data = self.draw.randbytes(length)
        done = os.pwrite(self.fd, data, offset)
        if done != length:
            raise Difference(f"wrote {done} of {length} bytes")
        self._grow(offset + length)
        self.model[offset : offset + length] = data

    def append(self, _: int, length: int) -> None:
        length = min(length, self.max_size - len(self.model))
        data = self.draw.randbytes(length)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        self.model += data

    def mapwrite(self, offset: int, length: int) -> None:
        if length := min(length, len(self.model) - offset):
            data, synced = self.draw.randbytes(length), self.draw.random() < 0.5
            start = offset - offset % PAGE
            with mmap.mmap(self.fd, offset + length - start, mmap.MAP_SHARED, offset=start) as view:
                view[offset - start :] = data
                if synced:
                    view.flush()
            self.model[offset : offset + length] = data

    def truncate(self, offset: int, _: int) -> None:
        size = min(offset, len(self.model))
        if self.draw.random() < 0.5:
            os.ftruncate(self.fd, size)
        else:
            os.truncate(self.path, size)
        del self.model[size:]

    def extend(self, offset: int, _: int) -> None:
        os.ftruncate(self.fd, max(offset, len(self.model)))
        self._grow(offset)

    def fallocate(self, offset: int, length: int) -> None:
        self._fallocate(0, offset, length)
        self._grow(offset + length)

    def reserve(self, offset: int, length: int) -> None:
        self._fallocate(KEEP_SIZE, offset, length)

    def punch(self, offset: int, length: int) -> None:
        self._fallocate(PUNCH_HOLE | KEEP_SIZE, offset, length)
        self._zero(offset, length)

    def zero(self, offset: int, length: int) -> None:
        keep = self.draw.random() < 0.5
        self._fallocate(ZERO_RANGE | (KEEP_SIZE if keep else 0), offset, length)
        if not keep:
            self._grow(offset + length)
        self._zero(offset, length)

    def copy(self, offset: int, length: int) -> None:
        """copy_file_range(2) within the file; source and destination must not overlap."""
        source = self.draw.randrange(self.max_size)
        length = min(length, abs(source - offset), max(len(self.model) - source, 0), self.max_size - offset)
        at = 0
        while at < length:
            done = os.copy_file_range(self.fd, self.fd, length - at, source + at, offset + at)
            if done == 0:
                raise Difference(f"copied {at} of {length} bytes")
            at += done
        if length:
            self._grow(offset + length)
            self.model[offset : offset + length] = self.model[source : source + length]

    def holes(self, _: int, __: int) -> None:
        """What SEEK_HOLE calls a hole must be zeros; half of the time while nobody has the file open for writing."""
        if self.draw.random() < 0.5:
            self._look_for_holes(self.fd)
            return
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDONLY)
        self._look_for_holes(self.fd)
        self.reopen(0, 0)

    def _look_for_holes(self, fd: int) -> None:
        at = 0
        while at < len(self.model):
            hole = os.lseek(fd, at, os.SEEK_HOLE)
            try:
                at = os.lseek(fd, hole, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                at = len(self.model)
            if any(self.model[hole:at]):
                raise Difference(f"SEEK_HOLE calls {hole:#x}..{at:#x} a hole, but there is data in it")

    def fsync(self, _: int, __: int) -> None:
        (os.fsync if self.draw.random() < 0.5 else os.fdatasync)(self.fd)

    def reopen(self, _: int, __: int) -> None:
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)

    def check(self, _: int = 0, __: int = 0) -> None:
        """The whole file, through a descriptor of its own."""
        self._same(self.path.read_bytes(), 0, self.max_size)

    # -- what they share

    def _fallocate(self, mode: int, offset: int, length: int) -> None:
        if _libc.fallocate(self.fd, mode, offset, length) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(self.path))

    def _grow(self, size: int) -> None:
        self.model.extend(bytes(max(size - len(self.model), 0)))

    def _zero(self, offset: int, length: int) -> None:
        length = max(min(length, len(self.model) - offset), 0)
        self.model[offset : offset + length] = bytes(length)

    def _same(self, got: bytes, offset: int, length: int) -> None:
        expected = self.model[offset : offset + length]
        if len(got) != len(expected):
            raise Difference(f"got {len(got)} bytes at {offset:#x}, not {len(expected)}")
        if got != expected:
            wrong = [n for n in range(len(got)) if got[n] != expected[n]]
            at = wrong[0]
            found, right = got[at : at + 16].hex(" "), expected[at : at + 16].hex(" ")
            raise Difference(
                f"{len(wrong)} bytes differ from {offset + at:#x} to {offset + wrong[-1]:#x}: found {found}, not {right}\n"
                + self._touching(offset + at)
            )

    def _compare_size(self) -> None:
        for what, size in (("fstat", os.fstat(self.fd).st_size), ("stat", os.stat(self.path).st_size)):
            if size != len(self.model):
                raise Difference(f"{what} says {size} bytes, not {len(self.model)}")

    def _touching(self, place: int) -> str:
        changes = ("read", "mapread", "holes", "fsync", "reopen", "check")
        touching = [
            f"  {n}: {op}"
            for n, op in self.history
            if op.offset <= place < op.offset + op.length and op.name not in changes
        ]
        return "\n".join([f"operations that named {place:#x}, the last ones:", *touching[-10:]])

    def close(self) -> None:
        os.close(self.fd)
        self.path.unlink()


def exercise(directory: Path, *, seed: int, ops: int | None, seconds: float | None, files: int, max_size: int,
             without: frozenset[str] = frozenset()) -> tuple[Counter[str], set[str]]:  # fmt: skip
    """Run; the counts of what was done, and the names of what the file system does not support.  Raises Difference or OSError with a note that says which operation it was."""
    weights = {name: weight for name, weight in WEIGHTS.items() if name not in without}
    exercised = [
        Exercised(directory / f"fsx-{seed}-{n}", random.Random(f"{seed}/{n}"), max_size, weights) for n in range(files)
    ]
    deadline = time.monotonic() + seconds if seconds else None
    number = 0
    while (ops is None or number < ops) and (deadline is None or number % 100 or time.monotonic() < deadline):
        one = exercised[number % files]
        try:
            one.step(number)
        except (Difference, OSError) as error:
            last = one.history[-1]
            error.add_note(f"{one.path.name}, operation {last[0]}: {last[1]}; the file has {len(one.model)} bytes")
            error.add_note(
                f"replay: fsx.py {directory} --seed {seed} --files {files} --max-size {max_size} --ops {number + 1}"
            )
            raise
        number += 1
    total: Counter[str] = Counter()
    for one in exercised:
        one.check()
        one.close()
        total += one.done
    return total, set().union(*(one.unsupported for one in exercised))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--ops", type=int, help="how many operations (default 10000, unless --seconds is given)")
    parser.add_argument("--seconds", type=float, help="how long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=int, default=1, help="files in turn (default 1)")
    parser.add_argument("--max-size", type=int, default=256 * 1024, help="bytes (default 256 KiB)")
    parser.add_argument("--without", default="", help="operations to leave out, with commas")
    args = parser.parse_args(argv)
    ops = args.ops if args.ops or args.seconds else 10_000
    try:
        done, unsupported = exercise(args.directory, seed=args.seed, ops=ops, seconds=args.seconds, files=args.files,
                                     max_size=args.max_size, without=frozenset(args.without.split(",")))  # fmt: skip
    except (Difference, OSError) as error:
        print(
            f"seed {args.seed}: {type(error).__name__}: {error}",
            *getattr(error, "__notes__", []),
            sep="\n",
            file=sys.stderr,
        )
        return 1
    counts = ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
    missing = f"; not supported here: {', '.join(sorted(unsupported))}" if unsupported else ""
    print(f"seed {args.seed}: {done.total()} operations without a difference: {counts}{missing}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
