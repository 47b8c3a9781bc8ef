"""Runs pjdfstest on volumes and on the tmpfs behind them, and says what differs.

    python -m tests.conformance.pjdfstest --program DIR [--on 2x2 ...] [--only chmod,rename/00 ...] [--jobs N]

`--program` is the directory of a built pjdfstest (its `pjdfstest` and its `tests/`), which is no part of this project.
As root, because most of its tests change users.  Each test script runs in an empty directory of its own; its TAP lines are
compared one by one with those of the same script on a tmpfs.  The status is 0 when whatever passes there passes on each
volume, too.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.conformance.places import add_place, place

_TAP = re.compile(r"(?P<result>ok|not ok) (?P<number>\d+)(?P<rest>.*)")
_PLAN = re.compile(r"1\.\.(?P<count>\d+)")
_NAME = re.compile(r"(?:pjdfstest_)?[0-9a-f/]{24,}")
SCRIPT_LIMIT_S = 300


class Outcome(NamedTuple):
    """What one assertion of one script said."""

    passed: bool
    said: str


Outcomes = dict[tuple[str, int], Outcome]


def parse_tap(text: str) -> dict[int, Outcome]:
    """The outcomes by number; what the plan promised and did not come has failed.  TODO and SKIP count as passed."""
    outcomes: dict[int, Outcome] = {}
    planned = 0
    for line in text.splitlines():
        if plan := _PLAN.fullmatch(line.strip()):
            planned = int(plan["count"])
        elif tap := _TAP.match(line):
            excused = "# TODO" in tap["rest"] or "# SKIP" in tap["rest"]
            said = _NAME.sub("NAME", tap["rest"].strip(" -"))  # names are random, and some thousands of characters long
            outcomes[int(tap["number"])] = Outcome(tap["result"] == "ok" or excused, said)
    for number in range(1, planned + 1):
        outcomes.setdefault(number, Outcome(False, "did not run"))
    return outcomes


def run_script(script: Path, home: Path) -> dict[int, Outcome]:
    """One script in an empty directory below `home`."""
    with tempfile.TemporaryDirectory(dir=home, prefix="pjd-", ignore_cleanup_errors=True) as scratch:
        os.chmod(scratch, 0o755)
        try:
            done = subprocess.run(["sh", str(script)], cwd=scratch, capture_output=True, text=True, errors="replace",
                                  timeout=SCRIPT_LIMIT_S, check=False)  # fmt: skip
        except subprocess.TimeoutExpired:
            return {0: Outcome(False, f"hung for {SCRIPT_LIMIT_S} s")}
    return parse_tap(done.stdout)


def run_all(program: Path, scripts: Sequence[Path], home: Path, jobs: int) -> Outcomes:
    with ThreadPoolExecutor(jobs) as pool:
        answers = pool.map(lambda script: run_script(script, home), scripts)
        names = [str(script.relative_to(program / "tests")) for script in scripts]
        return {
            (name, number): outcome
            for name, answer in zip(names, answers, strict=True)
            for number, outcome in answer.items()
        }


def differences(reference: Mapping[tuple[str, int], Outcome], found: Mapping[tuple[str, int], Outcome]) -> list[str]:
    """One line for each assertion that passes in `reference` and not in `found`, and for each script whose numbers differ."""
    worse = [
        f"{name} {number}: {found[name, number].said if (name, number) in found else 'missing'}"
        for (name, number), outcome in sorted(reference.items())
        if outcome.passed and not ((name, number) in found and found[name, number].passed)
    ]
    more = sorted({name for name, number in found if (name, number) not in reference})
    return worse + [f"{name}: has more assertions here than on the reference" for name in more]


def _scripts(program: Path, only: Sequence[str]) -> list[Path]:
    scripts = sorted((program / "tests").rglob("*.t"))
    wanted = [word for words in only for word in words.split(",")]
    return [
        s
        for s in scripts
        if not wanted or any(str(s.relative_to(program / "tests")).startswith(word) for word in wanted)
    ]


def _passed(outcomes: Outcomes) -> str:
    good = sum(outcome.passed for outcome in outcomes.values())
    return f"{good} passed, {len(outcomes) - good} failed"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True, help="the directory of a built pjdfstest")
    parser.add_argument("--only", action="append", default=[], help="scripts that begin so")
    parser.add_argument("--jobs", type=int, default=2, help="scripts at once (default 2)")
    add_place(parser, ("2x2",))
    args = parser.parse_args(argv)
    program = args.program.resolve()
    scripts = _scripts(program, args.only)
    if not os.access(program / "pjdfstest", os.X_OK) or not scripts:
        print(f"{program} holds no built pjdfstest with such tests", file=sys.stderr)
        return 2
    with place("tmpfs") as home:
        reference = run_all(program, scripts, home, args.jobs)
    print(f"tmpfs: {_passed(reference)}")
    status = 0
    for name in args.on or ["2x2"]:
        with place(name, args.option) as home:
            found = run_all(program, scripts, home, args.jobs)
        worse = differences(reference, found)
        print(f"{name}: {_passed(found)}; {len(worse)} differences", *(f"  {line}" for line in worse), sep="\n")
        status |= bool(worse)
    return status


if __name__ == "__main__":
    sys.exit(main())
