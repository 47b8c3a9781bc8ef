"""What processes cost: CPU seconds from their clocks, memory from /proc."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["Cost", "Memory", "cpu_of", "memory_of"]


class Cost(NamedTuple):
    """CPU of all threads since the process started, in seconds; `system_s` is known to 10 ms only."""

    cpu_s: float
    system_s: float

    def since(self, earlier: Cost) -> Cost:
        return Cost(self.cpu_s - earlier.cpu_s, self.system_s - earlier.system_s)


class Memory(NamedTuple):
    """Bytes: `rss` is VmRSS, `pss` counts a page that n processes share as 1/n, `threads` is how many there are."""

    rss: int
    pss: int
    threads: int


def cpu_of(pids: Iterable[int]) -> Cost:
    """What the processes have used; exact to the nanosecond, from their CPU clocks (clock_getcpuclockid(3))."""
    cpu = system = 0.0
    for pid in pids:
        cpu += time.clock_gettime((~pid << 3) | 2)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        system += int(fields[12]) / 100  # stime in USER_HZ, which is 100 on Linux
    return Cost(cpu, system)


def memory_of(pids: Iterable[int]) -> Memory:
    """What the processes hold together."""
    rss = pss = threads = 0
    for pid in pids:
        status = _fields(Path(f"/proc/{pid}/status"))
        rss += _kib(status["VmRSS"])
        threads += int(status["Threads"])
        pss += _kib(_fields(Path(f"/proc/{pid}/smaps_rollup"))["Pss"])
    return Memory(rss, pss, threads)


def _fields(path: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


def _kib(value: str) -> int:
    return int(value.removesuffix(" kB")) * 1024
