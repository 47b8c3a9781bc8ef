"""`fusemux bench requests`: what the kernel asks for in one cycle, how often, and what each request costs.

The mux load runs on the kernel binding with every request counted and timed (counted.py).  What the server's CPU exceeds the
sum by is spent on reading requests, writing replies, and being woken; counting itself adds about a microsecond to each.
"""

from __future__ import annotations

import argparse
import errno
import json
import tempfile
from pathlib import Path
from typing import Any

from fusemux.bench.load import Load
from fusemux.bench.measure import measure
from fusemux.bench.mux import add_arguments as add_mux_arguments
from fusemux.bench.table import render
from fusemux.bench.volumes import volumes

__all__ = ["add_arguments", "run", "text"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_mux_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is what --json prints.  Raises FusemuxError."""
    variant = "cycle" if args.variant == "both" else args.variant
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "counts"
        options = [*args.option, "binding=kernel"]
        program = ["-m", "fusemux.bench.counted", str(out)]
        with volumes([args.volume] * args.volumes, options=options, program=program) as target:
            load = Load(variant, target.directories, threads=args.threads, count=args.files, size=args.size,
                        own_directories=args.own_directories)  # fmt: skip
            measured = measure(target, load, limit_s=args.limit, python=args.python_load)
        counts = json.loads(out.read_text())
    return {
        "bench": "requests", "volume": args.volume, "volumes": args.volumes, "threads": args.threads, "files": args.files,
        "errors": measured.load.errors, "cpu_us_per_cycle": round(measured.cpu_per_operation_s * 1e6, 1),
        "requests": {name: per_cycle(count, measured.load.operations) for name, count in counts.items()},
    }  # fmt: skip


def per_cycle(count: dict[str, Any], cycles: int) -> dict[str, Any]:
    """How many, how long each, how long together; errors by name."""
    cycles = max(cycles, 1)
    return {
        "per_cycle": round(count["count"] / cycles, 3), "us_each": round(count["ns"] / count["count"] / 1000, 2),
        "us_per_cycle": round(count["ns"] / cycles / 1000, 2),
        "errors": {errno.errorcode.get(int(number), number): n for number, n in count["errors"].items()},
    }  # fmt: skip


def text(answer: dict[str, Any]) -> str:
    """The table for people."""
    requests = sorted(answer["requests"].items(), key=lambda item: -item[1]["us_per_cycle"])
    rows = [
        (name, f"{r['per_cycle']:.2f}", f"{r['us_each']:.1f}", f"{r['us_per_cycle']:.1f}",
         " ".join(f"{n} {error}" for error, n in r["errors"].items()))
        for name, r in requests if r["per_cycle"] >= 0.005
    ]  # fmt: skip
    served = sum(r["us_per_cycle"] for _, r in requests)
    rows.append(("all", f"{sum(r['per_cycle'] for _, r in requests):.2f}", "", f"{served:.1f}", ""))
    rows.append(("server CPU", "", "", f"{answer['cpu_us_per_cycle']:.1f}", ""))
    head = f"{answer['volumes']} x {answer['volume']}, {answer['threads']} threads, {answer['files']:,} files; errors: {answer['errors']}"
    return f"{head}\n\n" + render(("request", "per cycle", "us each", "us per cycle", "errors"), rows)
