"""Run seeds of the simulation from the command line; see run.py."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from multiprocessing import Pool

from tests.simulation.run import simulate


def _one(job: tuple[int, int, bool]) -> tuple[int, str]:
    seed, copies, arbiter = job
    try:
        simulate(seed, copies=copies, arbiter=arbiter)
    except BaseException:
        return seed, traceback.format_exc(limit=4)
    return seed, ""


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
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--arbiter", action="store_true", help="the last copy is an arbiter")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        if arguments.verbose:
            logging.basicConfig(level=logging.INFO, format="  %(message)s", stream=sys.stdout)
        simulate(arguments.seed, copies=arguments.copies, arbiter=arguments.arbiter, verbose=arguments.verbose)
        return 0
    began, failed = time.monotonic(), []
    jobs = [
        (seed, arguments.copies, arguments.arbiter)
        for seed in range(arguments.first, arguments.first + arguments.seeds)
    ]
    how = f"--copies {arguments.copies}{' --arbiter' if arguments.arbiter else ''}"
    with Pool(os.cpu_count()) as pool:
        for seed, trouble in pool.imap_unordered(_one, jobs, chunksize=8):
            if trouble:
                failed.append(seed)
                print(
                    f"seed {seed} failed; replay it with: python -m tests.simulation --seed {seed} {how} --verbose\n{trouble}",
                    flush=True,
                )
    print(f"{len(jobs)} seeds, {len(failed)} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
