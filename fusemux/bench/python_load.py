"""The load generator without a compiler: the same command line and answer as loadgen/, with several Python processes.

Each process runs its share of the threads; calls release the interpreter's lock, so the server is kept busy, but what Python
spends between the calls makes it the limit above some 15,000 cycles a second.  Modes: cycle, phased, create, stat,
remove, write, read, randread, randwrite.  Unlike the C program it does not check what it reads.
"""

from __future__ import annotations

import argparse
import json
import mmap
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from fusemux.bench.histogram import Histogram

__all__ = ["main"]

FILES_PER_DIRECTORY = 1000


class Worker:
    """One thread: its share of the files, its histograms."""

    def __init__(self, options: argparse.Namespace, index: int) -> None:
        self.o = options
        self.index = index
        self.home = Path(options.directories[index % len(options.directories)])
        self.direct = os.O_DIRECT if options.direct else 0
        self.buffer = mmap.mmap(-1, max(options.block, options.size if options.size < options.block else 1))
        self.calls: dict[str, Histogram] = {}
        self.operations = self.bytes = 0
        self.first_error = ""

    def timed(self, name: str, call: Callable[..., Any], path: Path, *args: Any) -> Any:
        """The call's result, or None when it failed; timed and counted either way."""
        histogram = self.calls.setdefault(name, Histogram())
        since = time.monotonic_ns()
        try:
            return call(*args)
        except OSError as error:
            histogram.errors += 1
            self.first_error = self.first_error or f"{name} {path}: {error.strerror}"
            return None
        finally:
            histogram.record(time.monotonic_ns() - since)

    # -- small files

    def _numbers(self) -> Iterator[int]:
        return iter(range(self.index, self.o.count, self.o.threads))

    def _small(self, number: int) -> Path:
        if self.o.own_directories:
            return self.home / f"t{self.index:03}" / f"f{number:07}"
        return self.home / f"t{self.index:03}-f{number:07}"

    def prepare(self) -> None:
        if self.o.own_directories:
            own = self.home / f"t{self.index:03}"
            self.timed("mkdir", os.mkdir, own, own)

    def clear(self) -> None:
        if self.o.own_directories:
            own = self.home / f"t{self.index:03}"
            self.timed("rmdir", os.rmdir, own, own)

    def _fill_and_close(self, fd: int, path: Path) -> None:
        for at in range(0, self.o.size, self.o.block):
            with memoryview(self.buffer) as view, view[: min(self.o.block, self.o.size - at)] as part:
                self.bytes += self.timed("write", os.pwrite, path, fd, part, at) or 0
        self.timed("close", os.close, path, fd)

    def cycle(self) -> None:
        for number in self._numbers():
            path = self._small(number)
            fd = self.timed("create", os.open, path, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            if fd is not None:
                self._fill_and_close(fd, path)
                self.timed("unlink", os.unlink, path, path)
                self.operations += 1

    def create_all(self) -> None:
        for number in self._numbers():
            self._create(self._small(number))

    def write_delete(self) -> None:
        for number in self._numbers():
            path = self._small(number)
            fd = self.timed("open", os.open, path, path, os.O_WRONLY)
            if fd is not None:
                self._fill_and_close(fd, path)
            self.timed("unlink", os.unlink, path, path)
            self.operations += 1

    def _create(self, path: Path) -> None:
        fd = self.timed("create", os.open, path, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        if fd is not None:
            self.timed("close", os.close, path, fd)

    # -- a tree that stays

    def _tree_directories(self) -> Iterator[Path]:
        directories = self.o.directories
        for d in range(self.index, -(-self.o.count // FILES_PER_DIRECTORY), self.o.threads):
            yield Path(directories[d % len(directories)]) / f"d{d:05}"

    def _tree(self) -> Iterator[Path]:
        directories = self.o.directories
        for number in self._numbers():
            d = number // FILES_PER_DIRECTORY
            yield Path(directories[d % len(directories)]) / f"d{d:05}" / f"f{number:07}"
            self.operations += 1

    def tree_mkdir(self) -> None:
        for path in self._tree_directories():
            self.timed("mkdir", os.mkdir, path, path)

    def tree_create(self) -> None:
        for path in self._tree():
            self._create(path)

    def tree_stat(self) -> None:
        for _ in range(self.o.passes):
            for path in self._tree():
                self.timed("stat", os.lstat, path, path)

    def tree_remove(self) -> None:
        for path in self._tree():
            self.timed("unlink", os.unlink, path, path)

    def tree_rmdir(self) -> None:
        for path in self._tree_directories():
            self.timed("rmdir", os.rmdir, path, path)

    # -- one big file

    def _big(self, name: str, flags: int) -> tuple[Path, int | None]:
        path = self.home / f"big.{self.index}"
        return path, self.timed(name, os.open, path, path, flags | self.direct, 0o644)

    def _io(self, name: str, call: Callable[..., Any], path: Path, fd: int, at: int) -> None:
        done = self.timed(name, call, path, fd, self.buffer if name == "write" else [self.buffer], at)
        self.bytes += done or 0
        self.operations += 1
        if done is not None and done != len(self.buffer):
            self.calls[name].errors += 1
            self.first_error = self.first_error or f"{name} {path}: short"

    def write_big(self) -> None:
        path, fd = self._big("create", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        if fd is not None:
            for at in range(0, self.o.size - self.o.block + 1, self.o.block):
                self._io("write", os.pwrite, path, fd, at)
            self.timed("fsync", os.fsync, path, fd)
            self.timed("close", os.close, path, fd)

    def drop(self) -> None:
        try:
            fd = os.open(self.home / f"big.{self.index}", os.O_RDONLY)
        except OSError:
            return
        os.fdatasync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)

    def read_big(self) -> None:
        path, fd = self._big("open", os.O_RDONLY)
        if fd is not None:
            for at in range(0, self.o.size - self.o.block + 1, self.o.block):
                self._io("read", os.preadv, path, fd, at)
            self.timed("close", os.close, path, fd)

    def _random(self, name: str, call: Callable[..., Any], flags: int) -> None:
        path, fd = self._big("open", flags)
        draw = random.Random(self.o.seed * 1000 + self.index)
        if fd is not None:
            for _ in self._numbers():
                self._io(name, call, path, fd, draw.randrange(self.o.size // self.o.block) * self.o.block)
            self.timed("close", os.close, path, fd)

    def random_read(self) -> None:
        self._random("read", os.preadv, os.O_RDONLY)

    def random_write(self) -> None:
        self._random("write", os.pwrite, os.O_WRONLY)


# Phases whose name begins with '-' are not measured.
MODES: dict[str, tuple[tuple[str, Callable[[Worker], None]], ...]] = {
    "cycle": (("-prepare", Worker.prepare), ("cycle", Worker.cycle), ("-clear", Worker.clear)),
    "phased": (
        ("-prepare", Worker.prepare), ("create", Worker.create_all), ("write_delete", Worker.write_delete), ("-clear", Worker.clear),
    ),
    "create": (("-mkdir", Worker.tree_mkdir), ("create", Worker.tree_create)),
    "stat": (("stat", Worker.tree_stat),),
    "remove": (("remove", Worker.tree_remove), ("-rmdir", Worker.tree_rmdir)),
    "write": (("write", Worker.write_big),),
    "read": (("-drop", Worker.drop), ("read", Worker.read_big)),
    "randread": (("-drop", Worker.drop), ("randread", Worker.random_read)),
    "randwrite": (("randwrite", Worker.random_write),),
}  # fmt: skip


def _share(options: argparse.Namespace, share: range, start: Barrier, end: Barrier, answer: Connection) -> None:
    """One process: its threads go through the phases together with those of the other processes."""
    workers = [Worker(options, index) for index in share]
    for _, run in MODES[options.mode]:
        threads = [threading.Thread(target=run, args=(worker,)) for worker in workers]
        start.wait()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        end.wait()
    calls: dict[str, Histogram] = {}
    for worker in workers:
        for name, histogram in worker.calls.items():
            calls.setdefault(name, Histogram()).add(histogram)
    totals = (sum(w.operations for w in workers), sum(w.bytes for w in workers), time.process_time())
    answer.send((*totals, next((w.first_error for w in workers if w.first_error), ""), calls))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fusemux-load", description=__doc__)
    parser.add_argument("mode", choices=list(MODES))
    for name, default in (
        ("threads", 1),
        ("count", 1000),
        ("size", 4096),
        ("block", 1 << 20),
        ("passes", 1),
        ("seed", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("direct", "force-sync", "own-directories"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("directories", nargs="+")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    processes = min(max(os.cpu_count() or 1, 2), options.threads)
    start, end = multiprocessing.Barrier(processes + 1), multiprocessing.Barrier(processes + 1)
    pipes = [multiprocessing.Pipe(duplex=False) for _ in range(processes)]
    for n, (_, writer) in enumerate(pipes):
        arguments = (options, range(n, options.threads, processes), start, end, writer)
        multiprocessing.Process(target=_share, args=arguments, daemon=True).start()
    phases: dict[str, float] = {}
    for name, _ in MODES[options.mode]:
        start.wait()
        since = time.monotonic()
        end.wait()
        if not name.startswith("-"):
            phases[name] = time.monotonic() - since
    print(json.dumps(_report(options, phases, [reader.recv() for reader, _ in pipes])))
    return 0


def _report(options: argparse.Namespace, phases: dict[str, float], answers: list[Any]) -> dict[str, Any]:
    calls: dict[str, Histogram] = {}
    for *_, part in answers:
        for name, histogram in part.items():
            calls.setdefault(name, Histogram()).add(histogram)
    return {
        "mode": options.mode, "threads": options.threads,
        "operations": sum(a[0] for a in answers), "bytes": sum(a[1] for a in answers), "cpu_s": sum(a[2] for a in answers),
        "errors": sum(h.errors for h in calls.values()), "first_error": next((a[3] for a in answers if a[3]), ""),
        "phases": phases, "calls": {name: histogram.to_json() for name, histogram in calls.items()},
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
