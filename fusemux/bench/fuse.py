"""`fusemux bench fuse`: what one request costs the server, for each binding, next to bindfs in the same run.

The server's CPU is the figure that compares: it does not depend on how fast the client can ask.  Asked are

    cycle      create, write 4 KiB, close, unlink by one thread
    cycle100   the same by 100 threads in one directory
    getattr    statx that must ask the server (AT_STATX_FORCE_SYNC): one GETATTR
    lookup     stat of a name that the kernel has forgotten (after a remount; root): one LOOKUP
    randread   4 KiB with O_DIRECT at random places of a big file: one READ
    randwrite  the same in writing: one WRITE
    read       the big file in blocks of 1 MiB, cold
    write      the big file in blocks of 1 MiB, to fsync and close
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from fusemux.bench.load import Load
from fusemux.bench.measure import Measurement, measure, median_by, touch_memory
from fusemux.bench.references import reference
from fusemux.bench.table import multiple, render, thousands
from fusemux.bench.targets import Target
from fusemux.bench.volumes import sized, volumes

__all__ = ["add_arguments", "run", "text"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=20_000, help="operations of each kind (default 20000)")
    parser.add_argument("--size", type=int, default=256 << 20, help="bytes of the big file (default 256 MiB)")
    parser.add_argument("--volume", action="append", metavar="SPEC", help="a volume to measure (default 1: one brick)")
    parser.add_argument(
        "--binding", action="append", metavar="NAME", help="a FUSE binding to measure (default: all that there are)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is what --json prints.  Raises FusemuxError."""
    makers: dict[str, Callable[[], AbstractContextManager[Target]]] = {}
    for name in args.reference or ["tmpfs", "bindfs"]:
        makers[name] = partial(reference, name)
    for spec in args.volume or ["1"]:
        for binding in args.binding or bindings():
            label = f"{binding} {spec}"
            options = [*args.option, f"binding={binding}"]
            makers[label] = partial(volumes, [sized(spec, args.size)], name=label, options=options)
    runs: dict[str, dict[str, list[Measurement]]] = {name: {} for name in makers}
    touch_memory(args.size * 3)
    for _ in range(args.repeat):
        for name, make in makers.items():
            with make() as target:
                for what, measured in _tests(target, args):
                    runs[name].setdefault(what, []).append(measured)
    targets = {name: {what: _median(several) for what, several in tests.items()} for name, tests in runs.items()}
    errors = sum(test["errors"] for tests in targets.values() for test in tests.values())
    _compare(targets)
    return {
        "bench": "fuse",
        "count": args.count,
        "size": args.size,
        "repeat": args.repeat,
        "errors": errors,
        "targets": targets,
    }


def bindings() -> list[str]:
    """The bindings of this version of fusemux."""
    from importlib.util import find_spec

    known = {"kernel": "fusemux.fuse.kernel.binding", "pyfuse3": "pyfuse3"}
    return [name for name, module in known.items() if _exists(find_spec, module)]


def _exists(find: Callable[[str], Any], module: str) -> bool:
    try:
        return find(module) is not None
    except ModuleNotFoundError:
        return False


def _tests(target: Target, args: argparse.Namespace) -> Iterator[tuple[str, Measurement]]:
    small = Load("cycle", target.directories, count=args.count)
    big = Load("write", target.directories, size=args.size, block=1 << 20)

    def one(load: Load) -> Measurement:
        return measure(target, load, limit_s=args.limit, python=args.python_load)

    yield "cycle", one(small)
    yield "cycle100", one(small.but("cycle", threads=100))
    one(small.but("create"))
    yield "getattr", one(small.but("stat", force_sync=True))
    if target.go_cold():
        yield "lookup", one(small.but("stat"))
    one(small.but("remove"))
    yield "write", one(big)
    target.go_cold()
    yield "read", one(big.but("read"))
    for what in ("randread", "randwrite"):
        yield what, one(big.but(what, block=4096, count=args.count, direct=True))


def _median(runs: list[Measurement]) -> dict[str, Any]:
    return median_by(runs, lambda m: m.cpu_per_operation_s or m.load.elapsed_s).to_json()


def _compare(targets: dict[str, dict[str, Any]]) -> None:
    """Add to each test its speed as a multiple of each reference's, and its CPU as one of bindfs's."""
    for tests in targets.values():
        for what, test in tests.items():
            for name in ("tmpfs", "bindfs"):
                base = targets.get(name, {}).get(what)
                test[f"per_s_of_{name}"] = round(test["per_s"] / base["per_s"], 3) if base else None
            cpu = base["cpu_us_per_operation"] if base else 0
            test["cpu_of_bindfs"] = round(test["cpu_us_per_operation"] / cpu, 3) if cpu else None


def text(answer: dict[str, Any]) -> str:
    """The table for people."""
    rows = []
    for what in dict.fromkeys(what for tests in answer["targets"].values() for what in tests):
        for name, tests in answer["targets"].items():
            if what in tests:
                t = tests[what]
                rows.append((f"{what} {name}", thousands(t["per_s"]), multiple(t["per_s_of_tmpfs"]), multiple(t["per_s_of_bindfs"]),
                             thousands(t["bytes_per_s"] / 1e6), thousands(t["cpu_us_per_operation"]), multiple(t["cpu_of_bindfs"]),
                             str(t["errors"])))  # fmt: skip
    heading = ("request", "/s", "x tmpfs", "x bindfs", "MB/s", "server CPU us", "x bindfs", "errors")
    return f"median of {answer['repeat']}\n\n" + render(heading, rows)
