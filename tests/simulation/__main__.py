"""Run seeds of the simulation from the command line; see run.py."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time

from tests.simulation.ground import Ground
from tests.simulation.run import simulate
from tests.simulation.seeds import KINDS, Job, run_all


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of what must replay
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument(
        "--copies", type=int, help="2 or 3; without it each seed is run with 2, 3, and 2 and an arbiter"
    )
    parser.add_argument("--arbiter", action="store_true", help="the last copy is an arbiter")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        if arguments.verbose:
            logging.basicConfig(level=logging.INFO, format="    %(message)s", stream=sys.stdout)
        with Ground() as ground:
            simulate(
                arguments.seed,
                ground,
                copies=arguments.copies or 3,
                arbiter=arguments.arbiter,
                verbose=arguments.verbose,
            )
        return 0
    kinds = KINDS if arguments.copies is None else ((arguments.copies, arguments.arbiter),)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    return _run([Job(seed, *kind) for seed in seeds for kind in kinds], arguments.processes)


def _run(jobs: list[Job], processes: int) -> int:
    began, failed = time.monotonic(), 0
    for failure in run_all(jobs, processes=processes):
        failed += 1
        print(failure, flush=True)
    print(f"{len(jobs)} runs, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
