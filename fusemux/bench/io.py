"""`fusemux bench io`: a big file written and read in large blocks, next to bindfs on the same kind of tmpfs in the same run.

Written means fsynced and closed, so that nothing is counted that still lies in a cache.  Reading starts cold for every FUSE
file system alike: the mount is made to forget its pages (a remount as root; posix_fadvise otherwise), while the
bytes themselves lie in memory behind each of them.  Targets take turns within each repetition, so that a
machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from fusemux.bench.load import Load
from fusemux.bench.measure import Measurement, errors_of, measure, median_by, touch_memory
from fusemux.bench.references import reference
from fusemux.bench.table import megabytes, multiple, render
from fusemux.bench.targets import Target
from fusemux.bench.volumes import sized, volumes

__all__ = ["add_arguments", "run", "text"]

DEFAULT_VOLUMES = ("1", "2x2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=1 << 30, help="bytes of the file, by each thread (default 1 GiB)")
    parser.add_argument("--block", type=int, default=1 << 20, help="bytes of one read(2) or write(2) (default 1 MiB)")
    parser.add_argument("--threads", type=int, default=1, help="files at once (default 1)")
    parser.add_argument("--direct", action="store_true", help="with O_DIRECT, past the kernel's cache")
    parser.add_argument(
        "--volume",
        action="append",
        metavar="SPEC",
        help=f"a volume to measure (default {' and '.join(DEFAULT_VOLUMES)})",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is what --json prints.  Raises FusemuxError."""
    names = args.reference or ["tmpfs", "bindfs"]
    runs: dict[str, list[Mapping[str, Measurement]]] = {}
    touch_memory(args.size * args.threads * 3)
    for _ in range(args.repeat):
        for name in names:
            runs.setdefault(name, []).append(_write_and_read(reference(name), args))
        for spec in args.volume or DEFAULT_VOLUMES:
            target = volumes([sized(spec, args.size * args.threads)], name=f"volume {spec}", options=args.option)
            runs.setdefault(f"volume {spec}", []).append(_write_and_read(target, args))
    targets = {name: _summary(several) for name, several in runs.items()}
    for name in ("tmpfs", "bindfs"):
        base = targets.get(name)
        for summary in targets.values():
            for what in ("write", "read"):
                test = summary[what]
                test[f"of_{name}"] = round(test["bytes_per_s"] / base[what]["bytes_per_s"], 3) if base else None
    return {
        "bench": "io", "size": args.size, "block": args.block, "threads": args.threads, "direct": args.direct, "repeat": args.repeat,
        "errors": sum(summary["errors"] for summary in targets.values()), "targets": targets,
    }  # fmt: skip


def _write_and_read(target: AbstractContextManager[Target], args: argparse.Namespace) -> dict[str, Measurement]:
    with target as served:
        load = Load(
            "write", served.directories, threads=args.threads, size=args.size, block=args.block, direct=args.direct
        )
        written = measure(served, load, limit_s=args.limit, python=args.python_load)
        served.go_cold()
        return {
            "write": written,
            "read": measure(served, load.but("read"), limit_s=args.limit, python=args.python_load),
        }


def _summary(runs: list[Mapping[str, Measurement]]) -> dict[str, Any]:
    summary: dict[str, Any] = {"errors": sum(errors_of(run.values()) for run in runs)}
    for what in ("write", "read"):
        middle = median_by([run[what] for run in runs], lambda m: m.bytes_per_s)
        summary[what] = middle.to_json() | {"cached_bytes": middle.load.cached_bytes}
    return summary


def text(answer: dict[str, Any]) -> str:
    """The table for people."""
    rows = []
    for name, target in answer["targets"].items():
        cells = [name]
        for what in ("write", "read"):
            m = target[what]
            cells += [
                megabytes(m["bytes_per_s"]),
                multiple(m["of_tmpfs"]),
                multiple(m["of_bindfs"]),
                f"{m['cpu_s']:.2f}",
            ]
        rows.append((*cells, str(target["errors"])))
    head = f"{answer['threads']} x {answer['size'] / 2**20:,.0f} MiB in blocks of {answer['block'] / 1024:,.0f} KiB" + (
        ", O_DIRECT" if answer["direct"] else ""
    )
    ratios = ("x tmpfs", "x bindfs", "CPU s")
    heading = ("target", "write MB/s", *ratios, "cold read MB/s", *ratios, "errors")
    errors = [m["first_error"] for t in answer["targets"].values() for m in (t["write"], t["read"]) if m["first_error"]]
    return "\n\n".join(
        [f"{head}; median of {answer['repeat']}", render(heading, rows), *(f"error: {e}" for e in errors)]
    )
