"""`fusemux bench graph`: what bridge, graph and bricks cost without the kernel, call by call, in this process.

The calls of a create-write-close-unlink cycle, and then lookup, getattr, read and write of an existing file, go
straight into the bridge of a throw-away volume.  So a translator's author sees what a change costs within seconds, without
mounting anything (ramdisks of their own still take root).  With --profile cProfile says where, by layer; what it adds to every
call makes small functions look dearer than they are.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fusemux.bench.histogram import Histogram
from fusemux.bench.measure import call_json
from fusemux.bench.profile import layers_of, profile_text, times_of
from fusemux.bench.table import microseconds, render, thousands

__all__ = ["add_arguments", "run", "text"]

WARM_UP = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--volume", default="2x2", metavar="SPEC", help="what is measured (default 2x2)")
    parser.add_argument("--count", type=int, default=5000, help="cycles (default 5000)")
    parser.add_argument("--size", type=int, default=4096, help="bytes of a read or write (default 4096)")
    parser.add_argument("--profile", action="store_true", help="say where the time goes, too")
    parser.add_argument("--top", type=int, default=30, help="how many functions are listed (default 30)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is what --json prints.  Raises FusemuxError."""
    import trio

    meter = Meter()
    profile = cProfile.Profile() if args.profile else None
    user, system = trio.run(_measured, args, meter, profile)
    answer: dict[str, Any] = {
        "bench": "graph", "volume": args.volume, "count": args.count, "size": args.size, "errors": 0,
        "us_per_cycle": round((user + system) / args.count * 1e6, 2),
        "user_us_per_cycle": round(user / args.count * 1e6, 1), "system_us_per_cycle": round(system / args.count * 1e6, 1),
        "calls": {name: call_json(histogram) for name, histogram in meter.calls.items()}, "top": args.top,
    }  # fmt: skip
    if profile is not None:
        answer |= layers_of(times_of(profile), answer["us_per_cycle"])
    return answer


class Meter:
    """Times calls by name."""

    def __init__(self) -> None:
        self.calls: dict[str, Histogram] = {}

    async def __call__(self, name: str, call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        since = time.perf_counter_ns()
        try:
            return await call(*args)
        finally:
            self.calls.setdefault(name, Histogram()).record(time.perf_counter_ns() - since)


async def _measured(args: argparse.Namespace, meter: Meter, profile: cProfile.Profile | None) -> tuple[float, float]:
    """User and system CPU seconds of the cycles."""
    from fusemux.graph.framework.process import Process
    from fusemux.serve.volume import ServedVolume
    from fusemux.volume.source import DefinedSource
    from fusemux.volume.spec import read_short

    with tempfile.TemporaryDirectory(prefix="fusemux-bench-") as base:
        async with Process(strict=False) as process:
            volume = ServedVolume(process, DefinedSource(read_short(args.volume, Path(base))))
            await volume.start()
            try:
                await _cycles(volume.bridge, args, Meter(), WARM_UP)
                before = os.times()
                if profile is not None:
                    profile.enable()
                await _cycles(volume.bridge, args, meter, args.count)
                if profile is not None:
                    profile.disable()
                after = os.times()
                await _existing(volume.bridge, args, meter)
            finally:
                await volume.stop()
    return after.user - before.user, after.system - before.system


async def _cycles(bridge: Any, args: argparse.Namespace, meter: Meter, count: int) -> None:
    from fusemux.graph.framework.errors import FopError

    data = memoryview(b"x" * args.size)
    for number in range(count):
        name = b"t%03d-f%07d" % (number % 5, number)
        try:
            await meter("lookup", bridge.lookup, _frame(), 1, name)
        except FopError:
            pass  # it is not there yet
        node, _, fh = await meter(
            "create", bridge.create, _frame(), 1, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o100644
        )
        await meter("write", bridge.write, _frame(), fh, 0, data)
        await meter("flush", bridge.flush, _frame(), fh)
        await meter("release", bridge.release, _frame(), fh)
        await meter("unlink", bridge.unlink, _frame(), 1, name)
        await meter("forget", _at_once, bridge.forget, node, 1)


async def _existing(bridge: Any, args: argparse.Namespace, meter: Meter) -> None:
    name, data = b"existing", memoryview(b"x" * args.size)
    node, _, fh = await bridge.create(_frame(), 1, name, os.O_RDWR | os.O_CREAT, 0o100644)
    for number in range(args.count):
        await meter("lookup of an existing file", bridge.lookup, _frame(), 1, name)
        await meter("getattr", bridge.getattr, _frame(), node)
        await meter("write again", bridge.write, _frame(), fh, number % 256 * args.size, data)
        await meter("read", bridge.read, _frame(), fh, 0, args.size)
    await bridge.flush(_frame(), fh)
    await bridge.release(_frame(), fh)


def _frame() -> Any:
    from fusemux.graph.framework.types import Frame

    return Frame(0, 0, 1, 0o022)


async def _at_once(call: Callable[..., Any], *args: Any) -> Any:
    return call(*args)


def text(answer: dict[str, Any]) -> str:
    """The tables for people."""
    head = (f"{answer['volume']}: {answer['us_per_cycle']:,.0f} us a cycle without the kernel's FUSE, "
            f"of CPU ({answer['user_us_per_cycle']:,.0f} user, {answer['system_us_per_cycle']:,.0f} system)")  # fmt: skip
    rows = [
        (
            name,
            thousands(c["count"]),
            *(microseconds(c[key] * 1000) for key in ("mean_us", "p50_us", "p99_us", "max_us")),
        )
        for name, c in answer["calls"].items()
    ]
    parts = [head, render(("call, us", "calls", "mean", "p50", "p99", "max"), rows)]
    if "layers_us" in answer:
        parts.append(profile_text(answer, answer["us_per_cycle"]))
    return "\n\n".join(parts)
