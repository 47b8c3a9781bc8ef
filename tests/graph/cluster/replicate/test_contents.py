"""How blocks are compared when contents are healed, and that only those that differ are written."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
import trio

from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import Volume

MIB = 1 << 20


def watch(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], list[tuple[int, int]]]:
    """Counts the calls of each kind to all copies, and collects what is written to the second: offset and length."""
    calls: Counter[str] = Counter()
    written: list[tuple[int, int]] = []
    for edge in volume.replicate.children:
        for name in ("readv", "writev", "rchecksum"):
            real = getattr(edge, name)

            async def counted(*args: Any, name: str = name, real: Any = real, second: bool = edge.index == 1) -> Any:
                calls[name] += 1
                if name == "writev" and second:
                    written.append((args[3], len(args[2])))
                return await real(*args)

            monkeypatch.setattr(edge, name, counted)
    return calls, written


@pytest.mark.parametrize("io_mode", ["inline", "pool"])
@pytest.mark.parametrize("algorithm", ["diff", "full"])
def test_blocks_that_are_equal_are_found_by_bytes_in_reach_and_by_checksums_elsewhere(
    io_mode: str, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with volume_of(brick={"io-mode": io_mode}, data_self_heal_algorithm=algorithm) as volume:
            await volume.create("file", os.urandom(3 * MIB + 1000))
            async with without(volume, 1):
                await volume.write("file", b"changed", MIB + 200_000)
            calls, written = watch(volume, monkeypatch)
            await healed(volume)
        in_reach = io_mode == "inline"
        assert (calls["rchecksum"] > 0) == (algorithm == "diff" and not in_reach)
        assert sum(length for _, length in written) == (
            3 * MIB + 1000 if algorithm == "full" else 128 << 10 if in_reach else MIB
        )
        assert any(offset <= MIB + 200_000 < offset + length for offset, length in written)

    trio.run(main)


@pytest.mark.parametrize("io_mode", ["inline", "pool"])
@pytest.mark.parametrize("size", [0, 1, 128 << 10, 3 * MIB - 5])
def test_a_copy_that_is_longer_or_shorter_becomes_equal(io_mode: str, size: int) -> None:
    async def main() -> None:
        async with volume_of(brick={"io-mode": io_mode}) as volume:
            await volume.create("file", os.urandom(MIB + 7))
            async with without(volume, 1):
                await volume.truncate("file", size)
                await volume.append("file", b"the end")
            await healed(volume)

    trio.run(main)


def test_of_three_copies_only_the_one_that_differs_is_written() -> None:
    async def main() -> None:
        async with volume_of(3) as volume:
            await volume.create("file", bytes(MIB))
            async with without(volume, 2):
                await volume.write("file", b"one", 5)
            await healed(volume)
            async with without(volume, 1):
                await volume.write("file", b"two", 500_000)
            await healed(volume)

    trio.run(main)
