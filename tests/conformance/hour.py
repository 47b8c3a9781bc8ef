"""An hour of random file operations on each kind of volume, compared with a model: fsx with one seed after the other.

    python -m tests.conformance.hour [--on 1 --on 2 --on 2x2 ...] [--seconds 3600] [--jobs N] [--seed N]

The time is for all places together.  Each place is mounted once; `--jobs` processes work in it at once, each on files of its own,
each with a new seed every 20,000 operations.  Ends at the first difference with the command that replays it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from tests.conformance.places import add_place, place

FSX = Path(__file__).with_name("fsx.py")
OPERATIONS = 20_000
DEFAULT = ("1", "2", "replica=2", "2x2")


def run_in(home: Path, seeds: Iterator[int], seconds: float, jobs: int) -> list[str]:
    """Run until the time is over or something differs; what the failed runs said."""
    deadline = time.monotonic() + seconds
    failures: list[str] = []

    def job(_: int) -> int:
        runs = 0
        while time.monotonic() < deadline and not failures:
            command = [
                sys.executable,
                str(FSX),
                str(home),
                "--seed",
                str(next(seeds)),
                "--ops",
                str(OPERATIONS),
                "--files",
                "3",
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                failures.append(done.stderr or done.stdout)
            runs += 1
        return runs

    with ThreadPoolExecutor(jobs) as pool:
        runs = sum(pool.map(job, range(jobs)))
    print(f"{home}: {runs} runs of {OPERATIONS:,} operations, {len(failures)} failed", flush=True)
    return failures


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0, help="for all places together (default 3600)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    add_place(parser, DEFAULT)
    args = parser.parse_args(argv)
    places, seeds = args.on or list(DEFAULT), count(args.seed)
    for name in places:
        print(f"{name}:", flush=True)
        with place(name, args.option) as home:
            if failures := run_in(home, seeds, args.seconds / len(places), args.jobs):
                print(*failures, sep="\n", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
