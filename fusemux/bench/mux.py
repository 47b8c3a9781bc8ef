"""`fusemux bench mux`: the load of 2016, 20,000 small files over 20 volumes of 2x2 by 100 threads, all in one process.

Two variants.  *cycle*: each thread creates a file, writes it, closes it and deletes it, so that at most one file a thread holds
data.  *phased*: all files are created first; then each is opened, written, closed and deleted.  A thread stays in one volume,
by default in its root, where the kernel lets one thread at a time change a directory (--own-directories gives each its own).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from fusemux.bench.load import Load
from fusemux.bench.measure import Measurement, errors_of, measure, median_by
from fusemux.bench.references import reference
from fusemux.bench.table import megabytes, microseconds, ratio, render, thousands
from fusemux.bench.targets import Target, given
from fusemux.bench.volumes import volumes

__all__ = ["add_arguments", "run"]

VARIANTS = ("cycle", "phased")
CALLS = ("create", "open", "write", "close", "unlink")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=20_000, help="over all volumes (default 20000)")
    parser.add_argument("--volumes", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--volume", default="2x2", metavar="SPEC", help="what each of them is (default 2x2)")
    parser.add_argument("--threads", type=int, default=100, help="of the client (default 100)")
    parser.add_argument("--size", type=int, default=4096, help="bytes written to a file (default 4096)")
    parser.add_argument("--variant", choices=(*VARIANTS, "both"), default="both")
    parser.add_argument("--own-directories", action="store_true", help="give each thread a directory of its own")
    parser.add_argument("--dir", type=Path, nargs="+", help="put the load on these directories instead")
    parser.add_argument(
        "--pid", type=int, nargs="+", default=[], help="with --dir: the processes whose cost is asked for"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the references and the volumes; the answer is what --json prints.  Raises FusemuxError."""
    variants = VARIANTS if args.variant == "both" else (args.variant,)
    answer: dict[str, Any] = {
        "bench": "mux", "volume": args.volume, "volumes": args.volumes, "files": args.files, "threads": args.threads,
        "size": args.size, "own_directories": args.own_directories, "repeat": args.repeat,
    }  # fmt: skip
    answer["references"] = {
        name: _measure_all(reference(name, args.volumes), args, variants) for name in args.reference
    }
    subject = _measure_all(_subject(args), args, variants)
    main = subject["variants"][variants[0]]
    answer |= {
        "files_per_s": main["per_s"], "cpu_s": main["cpu_s"], "cpu_us_per_file": main["cpu_us_per_operation"],
    } | subject  # fmt: skip
    return answer


def _subject(args: argparse.Namespace) -> AbstractContextManager[Target]:
    if args.dir:
        return given(args.dir, args.pid)
    return volumes([args.volume] * args.volumes, options=args.option)


def _measure_all(
    target: AbstractContextManager[Target], args: argparse.Namespace, variants: Sequence[str]
) -> dict[str, Any]:
    with target as served:
        rest = served.memory()
        runs = {variant: list(_runs(served, args, variant)) for variant in variants}
        after = served.memory()
    return {
        "target": served.name,
        "errors": sum(errors_of(several) for several in runs.values()),
        "first_error": next((r.load.first_error for several in runs.values() for r in several if r.load.first_error), ""),
        "rss_rest_bytes": rest.rss, "rss_after_bytes": after.rss, "pss_rest_bytes": rest.pss, "pss_after_bytes": after.pss,
        "server_threads": after.threads,
        "variants": {variant: _summary(several) for variant, several in runs.items()},
    }  # fmt: skip


def _runs(target: Target, args: argparse.Namespace, variant: str) -> Iterator[Measurement]:
    load = Load(variant, target.directories, threads=args.threads, count=args.files, size=args.size,
                own_directories=args.own_directories)  # fmt: skip
    for _ in range(args.repeat):
        yield measure(target, load, limit_s=args.limit, python=args.python_load)


def _summary(runs: Sequence[Measurement]) -> dict[str, Any]:
    return median_by(runs, lambda m: m.per_s).to_json() | {"all_per_s": [round(run.per_s, 1) for run in runs]}


def text(answer: dict[str, Any]) -> str:
    """The tables for people."""
    parts = [answer["references"][name] for name in answer["references"]] + [answer]
    head = (f"{answer['files']:,} files of {answer['size']:,} bytes over {answer['volumes']} volumes ({answer['volume']}), "
            f"{answer['threads']} threads; median of {answer['repeat']}")  # fmt: skip
    first = next(iter(answer["references"]), None)
    rows = []
    for variant in answer["variants"]:
        base = answer["references"][first]["variants"][variant]["per_s"] if first else None
        for part in parts:
            v = part["variants"][variant]
            cpu = thousands(v["cpu_us_per_operation"]) if v["cpu_s"] else "-"
            rows.append((f"{variant} {part['target']}", thousands(v["per_s"]), ratio(v["per_s"], base),
                         f"{v['elapsed_s']:.1f}", f"{v['cpu_s']:.1f}", cpu, f"{v['load_cpu_s']:.1f}", str(v["errors"])))  # fmt: skip
    speed = render(
        ("load", "files/s", f"x {first or '-'}", "s", "server CPU s", "CPU us/file", "client CPU s", "errors"), rows
    )
    memory = render(
        ("memory, MB", "RSS at rest", "RSS after", "PSS at rest", "PSS after", "threads"),
        [(part["target"], *(megabytes(part[key]) for key in _MEMORY), str(part["server_threads"])) for part in parts],
    )
    return "\n\n".join(filter(None, (head, speed, _latencies(answer), memory, _first_error(answer))))


_MEMORY = ("rss_rest_bytes", "rss_after_bytes", "pss_rest_bytes", "pss_after_bytes")


def _latencies(answer: dict[str, Any]) -> str:
    rows = []
    for variant, measured in answer["variants"].items():
        for call in CALLS:
            if call in measured["calls"]:
                c = measured["calls"][call]
                times = (microseconds(c[key] * 1000) for key in ("mean_us", "p50_us", "p99_us", "max_us"))
                rows.append((f"{variant} {call}", thousands(c["count"]), *times, str(c["errors"])))
    return render(("latency, us", "calls", "mean", "p50", "p99", "max", "errors"), rows)


def _first_error(answer: dict[str, Any]) -> str:
    return f"first error: {answer['first_error']}" if answer["errors"] else ""
