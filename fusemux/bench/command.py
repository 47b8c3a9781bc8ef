"""The command line of `fusemux bench`: which benchmark, how often, against what, for people or machines."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["main"]

BENCHMARKS = {
    "mux": "the load of 2016: many small files over many volumes in one process",
    "io": "a big file written and read, next to bindfs",
    "fuse": "what one request costs: each binding and bindfs",
    "requests": "what the kernel asks for in one cycle, and what each request costs",
    "graph": "what bridge, graph and bricks cost without the kernel, call by call",
    "memory": "what a brick, an inode and an open file hold; whether it stays flat",
    "heal": "a big file of which one block differs, next to reading its copies",
    "profile": "where the time of one create-write-close-unlink cycle goes",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark; 0 when it ran without a failed call, 1 when calls failed, 2 when it could not run."""
    from fusemux.graph.framework.errors import FusemuxError

    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["build"]:
        return _build()
    args = _parser(arguments).parse_args(arguments)
    benchmark = importlib.import_module(f"fusemux.bench.{args.benchmark}")
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(8))  # what was mounted is unmounted on the way out
    try:
        answer = benchmark.run(args)
    except FusemuxError as error:
        print(f"fusemux bench {args.benchmark}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(answer) if args.json else benchmark.text(answer))
    return 1 if answer.get("errors") else 0


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Options of all benchmarks, and those of the one that is called (only that one is imported)."""
    parser = argparse.ArgumentParser(prog="fusemux bench", description=__doc__.split("\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    commands.add_parser("build", help="build the load generator (done on demand otherwise)")
    for name, doc in BENCHMARKS.items():
        command = commands.add_parser(name, help=doc, description=doc)
        if name in arguments:
            _add_common(command)
            importlib.import_module(f"fusemux.bench.{name}").add_arguments(command)
    return parser


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--repeat", type=_positive, default=1, metavar="N", help="run N times and report medians")
    command.add_argument(
        "--reference", action="append", choices=("tmpfs", "bindfs"), default=[], help="also measure this, first"
    )
    command.add_argument(
        "-o", dest="option", action="append", default=[], metavar="OPTION", help="a mount option for the volumes"
    )
    command.add_argument(
        "--limit", type=float, default=600.0, metavar="SECONDS", help="how long one load may take (default 600)"
    )
    command.add_argument("--python-load", action="store_true", help="use the load generator in Python")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _build() -> int:
    from fusemux.bench.generator import build_load_generator
    from fusemux.graph.framework.errors import FusemuxError

    try:
        built = build_load_generator()
    except FusemuxError as error:
        print(f"fusemux bench build: {error}", file=sys.stderr)
        return 2
    print(built or "no C compiler: the load generator in Python will be used, which is slower")
    return 0
