"""Bricks change hands between fusemux and a real GlusterFS, with a heal pending, in both directions.

    python examples/glusterfs_takeover                      all shapes, all scenarios
    python examples/glusterfs_takeover "replica 2" --json   one shape, for programs

It needs root and Debian's glusterfs-server and glusterfs-client.  Everything runs in namespaces of its own (machine.py):
no port is opened outside, no file stays, and all processes end with it.  README.md says what is checked.
"""

from __future__ import annotations

import argparse
import json
import sys

import machine
from scenarios import SHAPES, Takeover

SCENARIOS = ("fusemux_writes", "gluster_writes", "fusemux_dies")
CONTROL = "gluster_alone"


def main() -> int:
    parser = argparse.ArgumentParser(description="Hand bricks over between fusemux and GlusterFS.")
    parser.add_argument("shapes", metavar="SHAPE", nargs="*", help=f"of {', '.join(SHAPES)}; default all")
    parser.add_argument("--only", metavar="SCENARIO", choices=[*SCENARIOS, CONTROL], action="append",
                        help=f"{', '.join(SCENARIOS)}; or {CONTROL}, for comparison")  # fmt: skip
    parser.add_argument(
        "--made-by", choices=("glusterfs", "fusemux"), default="glusterfs", help="who creates the volume"
    )
    parser.add_argument("--json", action="store_true", help="a line per check: [shape, scenario, what, problems]")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := [shape for shape in arguments.shapes if shape not in SHAPES]:
        parser.error(f"unknown shape {unknown[0]!r}; known are {', '.join(SHAPES)}")
    if arguments.inside:
        machine.prepare()
        takeover = Takeover(arguments.shapes[0], arguments.made_by)
        return play(takeover, arguments.shapes[0], arguments.only or SCENARIOS, as_json=arguments.json)
    if reason := machine.why_not():
        print(f"not possible here: {reason}", file=sys.stderr)
        return 77
    more = [
        f"--made-by={arguments.made_by}",
        *(f"--only={only}" for only in arguments.only or ()),
        *(["--json"] if arguments.json else []),
    ]
    return max([machine.enter([shape, *more, "--inside"]) for shape in arguments.shapes or SHAPES])


def play(takeover: Takeover, shape: str, scenarios: tuple[str, ...], *, as_json: bool) -> int:
    """The scenarios one after the other on one volume; 1 when anything was wrong."""
    failed = False
    for scenario in scenarios:
        for what, problems in getattr(takeover, scenario)():
            failed = failed or bool(problems)
            if as_json:
                print(json.dumps([shape, scenario, what, problems]), flush=True)
                continue
            print(f"{shape:<11} {scenario:<15} {'WRONG' if problems else 'ok   '} {what}", flush=True)
            print("".join(f"    {problem}\n" for problem in problems[:20]), end="")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
