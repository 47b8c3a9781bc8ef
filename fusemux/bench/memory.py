"""`fusemux bench memory`: what a brick, a known inode and an open file hold, and whether memory stays flat under lookups.

Everything is measured on the serving process from outside (VmRSS), so it counts what the allocator keeps, too.

    brick      the difference between a process with one volume of `--bricks` bricks more and one without
    inode      `--files` files are created and known to the kernel; the growth, by file
    open file  `--open` files are held open; the growth, by file
    lookups    the kernel is made to forget all names (a remount; root), then every file is looked up again; many times.
               Flat means: the last passes hold no more than the first ones, within a few per cent.
"""

from __future__ import annotations

import argparse
import os
import resource
from pathlib import Path
from typing import Any

from fusemux.bench.load import Load
from fusemux.bench.measure import measure
from fusemux.bench.table import megabytes, render, thousands
from fusemux.bench.targets import Target
from fusemux.bench.volumes import volumes
from fusemux.graph.framework.errors import FusemuxError

__all__ = ["add_arguments", "run", "text"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--volume", default="2x2", metavar="SPEC", help="what is measured (default 2x2)")
    parser.add_argument("--volumes", type=int, default=20, help="for the cost of a volume: how many (default 20)")
    parser.add_argument("--files", type=int, default=100_000, help="how many files are looked up (default 100000)")
    parser.add_argument("--passes", type=int, default=10, help="over all of them (default 10)")
    parser.add_argument("--open", type=int, default=1000, help="files held open at once (default 1000)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is what --json prints.  Raises FusemuxError."""
    with volumes([args.volume] * args.volumes, options=args.option) as many:
        many_rss = many.memory().rss
    with volumes([args.volume], options=args.option) as target:
        rest = target.memory()
        volume = (many_rss - rest.rss) / max(args.volumes - 1, 1)
        open_file = _cost_of_open_files(target, args.open)
        before = target.memory().rss
        tree = Load("create", target.directories, count=args.files, size=0)
        created = measure(target, tree, limit_s=args.limit)
        known = target.memory().rss
        errors, passes = _passes(target, tree, args)
    half = passes[len(passes) // 2 :]
    return {
        "bench": "memory", "volume": args.volume, "volumes": args.volumes, "files": args.files, "lookups": args.files * len(passes),
        "errors": errors + created.load.errors,
        "rss_rest_bytes": rest.rss, "pss_rest_bytes": rest.pss, "rss_all_volumes_bytes": many_rss,
        "bytes_per_volume": round(volume), "bytes_per_inode": round((known - before) / args.files),
        "bytes_per_open_file": round(open_file), "rss_created_bytes": known, "rss_passes_bytes": passes,
        "growth_in_second_half": round(half[-1] / half[0] - 1, 4),
    }  # fmt: skip


def _cost_of_open_files(target: Target, wanted: int) -> float:
    """Growth by file while `wanted` files are open, less what stays when they are closed and gone again."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if wanted > limit - 100:
        raise FusemuxError(f"--open {wanted}: this process may open {limit} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    paths = [Path(target.directories[0]) / f"open{n}" for n in range(wanted)]
    before = target.memory().rss
    try:
        fds = [os.open(path, os.O_CREAT | os.O_RDWR) for path in paths]
    except OSError as error:
        raise FusemuxError(f"{target.name}: {error.filename} cannot be created: {error.strerror}") from None
    held = target.memory().rss
    for fd, path in zip(fds, paths, strict=True):
        os.close(fd)
        path.unlink()
    return (held - before) / wanted


def _passes(target: Target, tree: Load, args: argparse.Namespace) -> tuple[int, list[int]]:
    """Look everything up again and again; RSS after each pass."""
    errors, held = 0, []
    for _ in range(args.passes):
        if not target.go_cold():
            raise FusemuxError(
                "looking up names that the kernel has forgotten takes root (it remounts); try --passes 0"
            )
        errors += measure(target, tree.but("stat"), limit_s=args.limit).load.errors
        held.append(target.memory().rss)
    return errors, held or [target.memory().rss]


def text(answer: dict[str, Any]) -> str:
    """The tables for people."""
    costs = [
        (f"process with one volume of {answer['volume']}", megabytes(answer["rss_rest_bytes"]) + " MB"),
        (f"process with {answer['volumes']}", megabytes(answer["rss_all_volumes_bytes"]) + " MB"),
        ("one more volume", thousands(answer["bytes_per_volume"] / 1000) + " kB"),
        ("one inode known to the kernel", f"{answer['bytes_per_inode']:,} B"),
        ("one open file (with its inode)", f"{answer['bytes_per_open_file']:,} B"),
    ]
    passes = [(f"pass {n + 1}", megabytes(rss)) for n, rss in enumerate(answer["rss_passes_bytes"])]
    lookups = render((f"{answer['lookups']:,} lookups of {answer['files']:,} files", "RSS MB"), passes)
    growth = f"growth over the second half: {answer['growth_in_second_half']:.2%}; errors: {answer['errors']}"
    return "\n\n".join((render(("holds", "RSS"), costs), lookups, growth))
