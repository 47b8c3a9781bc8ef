"""`fusemux bench profile`: where the server's time goes in one create-write-close-unlink cycle, layer by layer.

The mux load runs while py-spy samples the server (no instrumentation, so the proportions are right); without py-spy the server runs
under cProfile, which makes calls look dearer than they are.  Each sample belongs to the function at the top of the stack,
and so to a layer; a system call belongs to the function that made it.  Reported per cycle: microseconds of self time
= the layer's share of the samples x the server's CPU per cycle.  With --syscalls a further run under strace counts system calls.
"""

from __future__ import annotations

import argparse
import pstats
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from fusemux.bench.load import Load
from fusemux.bench.measure import Measurement, measure
from fusemux.bench.mux import add_arguments as add_mux_arguments
from fusemux.bench.table import render, thousands
from fusemux.bench.targets import Target
from fusemux.bench.volumes import PROGRAM, volumes

__all__ = ["add_arguments", "layer_of", "layers_of", "profile_text", "run", "self_times", "text", "times_of"]

_FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^():]+)(:(?P<line>\d+))?\)$")
_OURS = re.compile(r".*?/?(?P<path>(?:fusemux/)?(?:fuse|graph|bricks|serve|mount|cli|volume|fault)/.*|fusemux/.*)\.py$")
_IDLE = frozenset({"WorkerThread._work"})  # waits for a lock, which py-spy takes for work


class Place(NamedTuple):
    """A function in a layer."""

    layer: str
    function: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_mux_arguments(parser)
    parser.add_argument("--top", type=int, default=30, help="how many functions are listed (default 30)")
    parser.add_argument("--rate", type=int, default=500, help="samples a second (default 500)")
    parser.add_argument("--syscalls", action="store_true", help="count system calls, too, in a second run under strace")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is what --json prints.  Raises FusemuxError."""
    variant = "cycle" if args.variant == "both" else args.variant
    specs = [args.volume] * args.volumes
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "profile"
        if spy := shutil.which("py-spy"):
            with volumes(specs, options=args.option) as target, _spying(spy, target, out, args.rate):
                measured = measure(target, _load(target, args, variant), limit_s=args.limit)
            times: dict[Place, float] = dict(self_times(out.read_text().splitlines()))
        else:
            with volumes(specs, options=args.option, program=["-m", "cProfile", "-o", str(out), *PROGRAM]) as target:
                measured = measure(target, _load(target, args, variant), limit_s=args.limit)
            times = times_of(str(out))
    answer = _report(times, measured) | {
        "bench": "profile",
        "profiler": "py-spy" if spy else "cProfile",
        "top": args.top,
    }
    if args.syscalls:
        answer["syscalls_per_cycle"] = _count_syscalls(specs, args, variant)
    return answer


def _load(target: Target, args: argparse.Namespace, variant: str) -> Load:
    return Load(variant, target.directories, threads=args.threads, count=args.files, size=args.size,
                own_directories=args.own_directories)  # fmt: skip


class _spying(AbstractContextManager[None]):
    """Sample the target's first process while the body runs."""

    def __init__(self, spy: str, target: Target, out: Path, rate: int) -> None:
        self.command = [
            spy,
            "record",
            "--pid",
            str(target.pids[0]),
            "--format",
            "raw",
            "--rate",
            str(rate),
            "-o",
            str(out),
        ]

    def __enter__(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __exit__(self, *exc: object) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate()


def self_times(stacks: Iterable[str]) -> Counter[Place]:
    """Samples by the function at the top of each collapsed stack (`a (file:1);b (file:2) 17`); idle threads left out."""
    times: Counter[Place] = Counter()
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        match = _FRAME.match(frames.rpartition(";")[2])
        if match and count.isdigit() and match["function"] not in _IDLE:
            times[Place(layer_of(match["file"]), match["function"])] += int(count)
    return times


def layer_of(file: str) -> str:
    """The layer that a source file belongs to: a translator's type, a part of fusemux, or the library's name."""
    parts = Path(file).parts
    for library in ("trio", "outcome", "pyfuse3", "asyncio"):
        if library in parts or file.startswith(f"{library}.") or f"src/{library}" in file:
            return library
    if not (match := _OURS.match(file)):
        return "python and the rest"
    words = [word for word in match["path"].split("/") if word != "fusemux"]
    if words[0] == "fuse":
        return "fuse/binding" if "binding" in match["path"] or "kernel" in words else "fuse/bridge"
    if words[0] in ("graph", "bricks") and len(words) > 2:
        return "/".join(words[1:3])
    return words[0]


def times_of(profile: Any) -> dict[Place, float]:
    """Seconds of self time by function; `profile` is what pstats takes: a file's name or a Profile."""
    times: Counter[Place] = Counter()
    for (file, _, function), (_, _, own_s, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        layer = "system calls" if function.startswith("<built-in method posix.") else layer_of(file)
        times[Place(layer, function)] += own_s
    return dict(times)


def layers_of(times: dict[Place, float], cycle_us: float) -> dict[str, Any]:
    """`cycle_us` divided among layers and functions in proportion to their self times."""
    unit = cycle_us / (sum(times.values()) or 1.0)
    layers: dict[str, float] = {}
    for place, own in times.items():
        layers[place.layer] = layers.get(place.layer, 0.0) + own * unit
    functions = sorted(times.items(), key=lambda item: -item[1])
    return {
        "layers_us": {layer: round(us, 2) for layer, us in sorted(layers.items(), key=lambda item: -item[1])},
        "functions_us": [[place.layer, place.function, round(own * unit, 2)] for place, own in functions],
    }


def _report(times: dict[Place, float], measured: Measurement) -> dict[str, Any]:
    cycle_us = measured.cpu_per_operation_s * 1e6
    return {
        "errors": measured.load.errors, "per_s": round(measured.per_s, 1), "cpu_us_per_cycle": round(cycle_us, 1),
        "system_us_per_cycle": round(measured.cost.system_s / max(measured.load.operations, 1) * 1e6, 1),
    } | layers_of(times, cycle_us)  # fmt: skip


def _count_syscalls(specs: Sequence[str], args: argparse.Namespace, variant: str) -> dict[str, float]:
    """System calls of the server by name, per cycle; empty without strace."""
    if not (strace := shutil.which("strace")):
        return {}
    with volumes(specs, options=args.option) as target, tempfile.NamedTemporaryFile() as out:
        counter = subprocess.Popen(
            [strace, "-f", "-c", "-U", "calls,name", "-o", out.name, "-p", str(target.pids[0])],
            stderr=subprocess.DEVNULL,
        )
        load = _load(target, args, variant).but(variant, count=max(args.files // 10, args.threads))
        measured = measure(target, load, limit_s=args.limit)
        counter.send_signal(signal.SIGINT)
        counter.wait()
        lines = [line.split() for line in Path(out.name).read_text().splitlines()]
    counts = {line[1]: int(line[0]) for line in lines if len(line) == 2 and line[0].isdigit() and line[1] != "total"}
    return {name: round(number / max(measured.load.operations, 1), 2) for name, number in counts.items()}


def text(answer: dict[str, Any]) -> str:
    """The tables for people."""
    whole = answer["cpu_us_per_cycle"] or 1.0
    head = (f"{answer['per_s']:,.0f} cycles/s while sampled by {answer['profiler']}; {whole:,.0f} us of CPU a cycle, "
            f"{answer['system_us_per_cycle']:,.0f} of them in the kernel; errors: {answer['errors']}")  # fmt: skip
    parts = [head, profile_text(answer, whole)]
    if calls := answer.get("syscalls_per_cycle"):
        rows = [(name, thousands(number)) for name, number in calls.items() if number >= 0.01]
        parts.append(render(("system call", "per cycle"), [*rows, ("all", f"{sum(calls.values()):.1f}")]))
    return "\n\n".join(parts)


def profile_text(answer: dict[str, Any], whole_us: float) -> str:
    """Self time by layer, and of the functions with the most of it."""
    layers = [(layer, f"{us:.1f}", f"{us / whole_us:.0%}") for layer, us in answer["layers_us"].items()]
    functions = [
        (f"{layer}: {function}", f"{us:.1f}", f"{us / whole_us:.1%}")
        for layer, function, us in answer["functions_us"][: answer["top"]]
    ]
    heading = ("self us/cycle", "%")
    return render(("layer", *heading), layers) + "\n\n" + render(("function", *heading), functions)
