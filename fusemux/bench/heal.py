"""`fusemux bench heal`: a big file of which one block differs on one copy is healed, next to reading all copies once.

The volume lies on ramdisks and is driven without the kernel.  While one brick is down a block in the middle of the file is
written; then the brick comes back and the file is healed by command.  What a heal by comparison (diff) has to find out is
which block that is, so it cannot cost less than reading the copies; how much more it costs is the ratio that is told.
Reading is measured on the bricks' files right before each heal, in large blocks into one buffer.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from fusemux.bench.measure import touch_memory
from fusemux.bench.table import multiple, render
from fusemux.bench.volumes import sized
from fusemux.graph.framework.errors import FusemuxError

if TYPE_CHECKING:
    from fusemux.serve.volume import ServedVolume

__all__ = ["add_arguments", "run", "text"]

NAME = b"big"
CHUNK = 1 << 20
ALGORITHMS = ("diff", "full")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--volume", default="replica=2", metavar="SPEC", help="what is healed (default replica=2)")
    parser.add_argument("--size", type=int, default=1 << 30, help="bytes of the file (default 1 GiB)")
    parser.add_argument("--block", type=int, default=4096, help="bytes that differ (default 4096)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is what --json prints.  Raises FusemuxError."""
    import trio

    if args.block > args.size:
        raise FusemuxError(f"a file of {args.size} bytes cannot differ in {args.block}; give a larger --size")
    touch_memory(args.size * 2)
    runs: dict[str, list[tuple[float, float]]] = {}
    for algorithm in ALGORITHMS:
        runs[algorithm] = trio.run(_measured, args, algorithm)
    return {
        "bench": "heal", "volume": args.volume, "size": args.size, "block": args.block, "repeat": args.repeat, "errors": 0,
        "heals": {algorithm: _summary(pairs) for algorithm, pairs in runs.items()},
    }  # fmt: skip


def _summary(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    read_s, heal_s = sorted(pairs, key=lambda pair: pair[1] / pair[0])[len(pairs) // 2]
    return {
        "read_s": round(read_s, 4), "heal_s": round(heal_s, 4), "of_reading": round(heal_s / read_s, 3),
        "of_reading_all": [round(heal / read, 3) for read, heal in pairs],
        "median_heal_s": round(median(heal for _, heal in pairs), 4),
    }  # fmt: skip


async def _measured(args: argparse.Namespace, algorithm: str) -> list[tuple[float, float]]:
    """For each repetition the seconds for reading the copies, and for healing."""
    from fusemux.graph.framework.process import Process
    from fusemux.serve.volume import ServedVolume
    from fusemux.volume.source import DefinedSource
    from fusemux.volume.spec import read_short

    options = {"cluster.self-heal-daemon": "off", "cluster.data-self-heal-algorithm": algorithm}
    with tempfile.TemporaryDirectory(prefix="fusemux-bench-") as base:
        async with Process(strict=False) as process:
            spec = read_short(sized(args.volume, args.size), Path(base))
            volume = ServedVolume(process, DefinedSource(spec, options))
            await volume.start()
            try:
                if not _healers(volume):
                    raise FusemuxError(f"{args.volume} has no copies to heal; give --volume one that is replicated")
                await _write(volume, range(0, args.size, CHUNK), args.size)
                return [await _one(volume, args) for _ in range(args.repeat)]
            finally:
                await volume.stop()


async def _one(volume: ServedVolume, args: argparse.Namespace) -> tuple[float, float]:
    copies = [Path(brick.path, os.fsdecode(NAME)) for brick in volume.bricks]
    copies = [copy for copy in copies if copy.exists()]
    stale = next(brick for brick in volume.bricks if copies[-1].is_relative_to(brick.path))
    await stale.kill()
    middle = args.size // 2 // CHUNK * CHUNK
    await _write(volume, [middle], middle + args.block)
    await stale.start()
    since = time.perf_counter()
    for copy in copies:
        _read(copy)
    read_s = time.perf_counter() - since
    heal_s = await _heal(volume)
    if not _alike(copies, middle, args.block):
        raise FusemuxError(f"{copies[-1]} is not healed")
    return read_s, heal_s


async def _write(volume: ServedVolume, offsets: Any, end: int) -> None:
    """Random bytes at `offsets`, a chunk each, up to `end`."""
    from fusemux.graph.framework.errors import FopError
    from fusemux.graph.framework.types import Frame

    bridge, frame = volume.bridge, Frame(0, 0, 1)
    try:
        node = (await bridge.lookup(frame, 1, NAME))[0]
        fh = await bridge.open(frame, node, os.O_RDWR)
    except FopError:
        fh = (await bridge.create(frame, 1, NAME, os.O_RDWR, 0o644))[2]
    for offset in offsets:
        await bridge.write(frame, fh, offset, memoryview(os.urandom(min(CHUNK, end - offset))))
    await bridge.flush(frame, fh)
    await bridge.release(frame, fh)


def _read(path: Path) -> None:
    buffer = bytearray(CHUNK)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _healers(volume: ServedVolume) -> list[Any]:
    from fusemux.graph.cluster.replicate import Replicate

    return [t.healer for t in volume.graph.translators.values() if isinstance(t, Replicate)]


async def _heal(volume: ServedVolume) -> float:
    since = time.perf_counter()
    healed = sum([(await healer.sweep()).healed for healer in _healers(volume)])
    heal_s = time.perf_counter() - since
    if healed != 1:
        raise FusemuxError(f"{healed} files were healed, not one")
    return heal_s


def _alike(copies: list[Path], offset: int, size: int) -> bool:
    found = set()
    for copy in copies:
        with open(copy, "rb") as file:
            file.seek(offset)
            found.add(file.read(size))
    return len(found) == 1


def text(answer: dict[str, Any]) -> str:
    """The table for people."""
    rows = [
        (name, f"{heal['read_s']:.3f}", f"{heal['heal_s']:.3f}", multiple(heal["of_reading"]))
        for name, heal in answer["heals"].items()
    ]
    head = f"{answer['volume']}: {answer['size'] / 2**20:,.0f} MiB, of which {answer['block']:,} bytes differ; median of {answer['repeat']}"
    return f"{head}\n\n" + render(("algorithm", "read copies s", "heal s", "x reading"), rows)
