"""Whose contents win, and how they are copied: holes, syncs, and contents that are good only where a name is stale."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Awaitable, Callable
from errno import EIO
from pathlib import Path

import pytest
import trio

from fusemux.graph.debug.fault import Fault, place
from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
Mark = tuple[int, str, int]  # on which brick, about whom, how often

# -- data-self-heal.t: marks that are set by hand, the contents of the two bricks, and what wins (None: split-brain) --

ONE, TWO, LONGER = b"abc\n", b"def\n", b"defg\n"
BLAME_1, BLAME_0 = (0, "client-1", 0x20), (1, "client-0", 0x20)
SELF_0, SELF_1 = (0, "client-0", 0x20), (1, "client-1", 0x20)
DIRTY_0, DIRTY_1 = (0, "dirty", 0x20), (1, "dirty", 0x20)
STATES: dict[str, tuple[list[Mark], tuple[bytes, bytes], list[bytes] | None]] = {
    "who is blamed loses, even the larger": ([(0, "client-1", 1)], (b"", ONE), [b""]),
    "the larger without any mark": ([], (ONE, LONGER), [LONGER]),
    "the larger against a dirty mark": ([DIRTY_0], (ONE, LONGER), [LONGER]),
    "of one size the dirty one": ([DIRTY_0], (ONE, TWO), [ONE]),
    "of one size the more dirty one": ([DIRTY_0, (1, "dirty", 0x21)], (ONE, TWO), [TWO]),
    "of one size and as dirty either": ([DIRTY_0, DIRTY_1], (ONE, TWO), [ONE, TWO]),
    "a blamer against one that blames itself": ([BLAME_1, SELF_1, BLAME_0], (ONE, TWO), [ONE]),
    "both blame themselves and each other alike": ([SELF_0, BLAME_1, SELF_1, BLAME_0], (ONE, TWO), [ONE, TWO]),
    "both blame themselves, one blames the other more": (
        [SELF_0, (0, "client-1", 0x30), SELF_1, BLAME_0], (ONE, TWO), [ONE],
    ),
    "both blame themselves, the larger against that": (
        [SELF_0, (0, "client-1", 0x30), SELF_1, BLAME_0], (ONE, LONGER), [LONGER],
    ),
    "both blame only themselves, the one that does more": ([SELF_0, (1, "client-1", 0x10)], (ONE, TWO), [ONE]),
    "who blames itself has seen work begin that an innocent has not": ([SELF_1], (ONE, TWO), [TWO]),
    "both blame each other": ([BLAME_1, BLAME_0], (ONE, TWO), None),
    "both blame each other, both dirty": ([BLAME_1, BLAME_0, DIRTY_0, DIRTY_1], (ONE, TWO), None),
    "both blame each other, one dirty": ([BLAME_1, BLAME_0, DIRTY_1], (ONE, TWO), None),
}  # fmt: skip


async def _by_hand(volume: Volume, marks: list[Mark], contents: tuple[bytes, bytes]) -> None:
    await volume.create("f")
    for brick, content in enumerate(contents):
        Path(volume.at(brick, "f")).write_bytes(content)
    for brick, who, count in marks:
        volume.set_mark(brick, "f", who, (count, 0, 0))
    await volume.remount(self_heal_daemon="off")


@pytest.mark.parametrize(("marks", "contents", "winners"), list(STATES.values()), ids=list(STATES))
def test_data_self_heal(marks: list[Mark], contents: tuple[bytes, bytes], winners: list[bytes] | None) -> None:
    """A copy that blames nobody but itself is, as in GlusterFS, one that was dirty: it wins over an innocent of its size."""

    async def main() -> None:
        async with volume_of() as volume:
            await _by_hand(volume, marks, contents)
            progress = await volume.replicate.healer.sweep(full=True)
            after = [volume.content(brick, "f") for brick in (0, 1)]
            if winners is None:
                assert progress.split_brain > 0
                assert after == list(contents)
                assert [bool(volume.blames(brick, "f")) for brick in (0, 1)] == [True, True]
                with refused(EIO):
                    await volume.read("f")
                return
            assert after[0] == after[1]
            assert after[0] in winners
            assert await volume.read("f") == after[0]
            await healed(volume)

    trio.run(main)


@pytest.mark.parametrize("reach", ["index", "full"])
def test_data_self_heal_finds_what_the_index_lists_and_everything_when_told_to(reach: str) -> None:
    """Marks that were set by hand are in no index: a full heal finds them; an index entry without marks does no harm."""

    async def main() -> None:
        async with volume_of() as volume:
            await _by_hand(volume, [BLAME_1], (ONE, LONGER))
            if reach == "index":
                assert (await volume.replicate.healer.sweep()).healed == 0
                for brick in (0, 1):
                    _list(volume, brick, "f")
                await _restart(volume)
                await volume.replicate.healer.sweep()
            else:
                await volume.replicate.healer.sweep(full=True)
            await healed(volume)
            assert await volume.read("f") == ONE

    trio.run(main)


def _list(volume: Volume, brick: int, path: str) -> None:
    name = os.path.basename(volume.handle(brick, volume.gfid(brick, path)))
    Path(volume.at(brick, f".glusterfs/indices/xattrop/{name}")).touch()


async def _restart(volume: Volume) -> None:
    for brick in volume.bricks:
        await brick.kill()
        await brick.start()


# -- sparse-file-self-heal.t -----------------------------------------------------------------------------------------


def _digest(volume: Volume, brick: int, path: str) -> str:
    with open(volume.at(brick, path), "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _used(volume: Volume, brick: int, path: str) -> int:
    return os.stat(volume.at(brick, path)).st_blocks * 512


async def _holed(volume: Volume, path: str) -> None:
    """Data, a hole of a megabyte, data, small holes, data."""
    data = random.Random(7).randbytes(256 * KIB)
    await volume.write(path, data)
    await volume.write(path, data, 256 * KIB + MIB)
    for n in range(4):
        await volume.write(path, data[: 4 * KIB], 2 * MIB + n * 68 * KIB)


async def _new(volume: Volume) -> None:
    await volume.create("f")


async def _longer(volume: Volume) -> None:
    await volume.create("f", random.Random(8).randbytes(3 * MIB))


async def _shorter(volume: Volume) -> None:
    await volume.create("f", b"short")


async def _cut(volume: Volume) -> None:
    await volume.truncate("f", 0)
    await _holed(volume, "f")


async def _grown(volume: Volume) -> None:
    await volume.truncate("f", 5 * MIB)


Act = Callable[[Volume], Awaitable[None]]
KEEPS, NEED_NOT = True, False


@pytest.mark.parametrize("algorithm", ["full", "diff", ""])
@pytest.mark.parametrize(
    ("before", "change", "holes"),
    [
        (_new, _cut, KEEPS),
        (_shorter, _cut, KEEPS),
        (_shorter, _grown, KEEPS),
        (_longer, _cut, NEED_NOT),
        (_longer, _grown, KEEPS),
    ],
    ids=["new", "cut and holed", "grown", "sink was longer", "long and grown"],
)
def test_sparse_file_self_heal(before: Act, change: Act, holes: bool, algorithm: str) -> None:
    """Contents are equal; holes of 128 KiB and more stay holes, unless the sink was longer than the file is now."""
    options = {"data_self_heal_algorithm": algorithm} if algorithm else {}

    async def main() -> None:
        async with volume_of(**options) as volume:
            await before(volume)
            async with without(volume, 0):
                await change(volume)
            await healed(volume)
            assert _digest(volume, 0, "f") == _digest(volume, 1, "f")
            if holes:
                assert _used(volume, 0, "f") <= _used(volume, 1, "f") + 5 * 128 * KIB

    trio.run(main)


@pytest.mark.parametrize("algorithm", ["full", "diff"])
def test_sparse_file_self_heal_of_a_hole_made_over_data(algorithm: str) -> None:
    """What was data on the sink is zeros then."""

    async def main() -> None:
        async with volume_of(data_self_heal_algorithm=algorithm) as volume:
            await volume.create("f", random.Random(9).randbytes(2 * MIB))
            async with without(volume, 0):
                fd = await volume.open("f")
                await volume.top.fallocate(volume.tick(), fd, 3, 256 * KIB, MIB)  # punch a hole, keep the size
                await volume.close(fd)
            await healed(volume)
            assert volume.content(0, "f")[256 * KIB : 256 * KIB + MIB] == bytes(MIB)

    trio.run(main)


@pytest.mark.parametrize("algorithm", ["full", "diff"])
def test_sparse_file_self_heal_of_a_gibibyte_does_not_fill_the_brick(algorithm: str) -> None:
    async def main() -> None:
        async with volume_of(data_self_heal_algorithm=algorithm) as volume:
            await volume.create("f")
            async with without(volume, 0):
                await volume.truncate("f", GIB)
                await volume.write("f", b"x" * 128 * KIB, GIB // 2)
            await volume.replicate.healer.sweep()
            assert os.stat(volume.at(0, "f")).st_size == GIB
            assert _used(volume, 0, "f") <= MIB
            with open(volume.at(0, "f"), "rb") as file:
                file.seek(GIB // 2 - 1)
                assert file.read(128 * KIB + 2) == b"\0" + b"x" * 128 * KIB + b"\0"
            assert volume.blames(1, "f") == {}

    trio.run(main)


@pytest.mark.parametrize("algorithm", ["full", "diff"])
def test_sparse_file_self_heal_of_written_zeros_allocates_them(algorithm: str) -> None:
    async def main() -> None:
        async with volume_of(data_self_heal_algorithm=algorithm) as volume:
            await volume.create("f")
            async with without(volume, 0):
                await volume.write("f", bytes(2 * MIB))
            await healed(volume)
            assert _used(volume, 0, "f") >= 2 * MIB

    trio.run(main)


@pytest.mark.parametrize(("algorithm", "copied"), [("full", 4), ("diff", 1), ("", 1)])
def test_sparse_file_self_heal_copies_all_blocks_or_those_that_differ(algorithm: str, copied: int) -> None:
    async def main() -> None:
        async with volume_of(**({"data_self_heal_algorithm": algorithm} if algorithm else {})) as volume:
            await volume.create("f", random.Random(10).randbytes(4 * MIB))
            async with without(volume, 0):
                await volume.write("f", b"x", 2 * MIB + 5)
            counted = Fault("delay", fops=frozenset({"writev"}), delay_s=0)
            place(volume.replicate.children[0], counted)
            await healed(volume)
            assert counted.fired == copied

    trio.run(main)


# -- durability-off.t, afr-no-fsync.t --------------------------------------------------------------------------------


def _count(volume: Volume, fop: str) -> list[Fault]:
    counters = [Fault("delay", fops=frozenset({fop}), delay_s=0) for _ in volume.bricks]
    for edge, counter in zip(volume.replicate.children, counters, strict=True):
        place(edge, counter)
    return counters


@pytest.mark.parametrize("durable", [False, True])
def test_durability_off(durable: bool) -> None:
    """With ensure-durability off neither overwriting nor healing syncs anything; with it on each brick is synced at least once."""

    async def main() -> None:
        async with volume_of(ensure_durability="on" if durable else "off") as volume:
            await volume.create("f", b"old" * 1000)
            synced = _count(volume, "fsync")
            async with without(volume, 0):
                await volume.write("f", b"new" * 1000)
            await healed(volume)
            await volume.write("f", b"other" * 100)
            assert all((counter.fired > 0) is durable for counter in synced)

    trio.run(main)


def test_afr_no_fsync() -> None:
    """Writing from begin to end leads to no fsync of our own: nobody can miss what was only added."""

    async def main() -> None:
        async with volume_of(3) as volume:
            synced = _count(volume, "fsync")
            fd = await volume.created("f")
            block = bytes(128 * KIB)
            for n in range(400):
                await volume.top.writev(volume.tick(), fd, block, n * len(block))
            await volume.close(fd)
            assert [counter.fired for counter in synced] == [0, 0, 0]

    trio.run(main)


# -- rename-data-loss.t ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parking", [True, False])
@pytest.mark.parametrize("granular", ["on", "off"])
def test_rename_data_loss(granular: str, parking: bool) -> None:
    """The second lines are good on brick 0 alone, the new names known to brick 1 alone: neither is lost.

    Without parking what is good under an old name alone stays there until its contents are on the other brick.
    """
    options = {"granular_entry_heal": granular, "use_anonymous_inode": "yes" if parking else "no"}

    async def main() -> None:
        async with volume_of(**options) as volume:
            for name in ("one", "one/a", "one/a/b", "two", "empty"):
                await volume.mkdir(name)
            files = {"file": "renamed", "one/a/b/deep": "two/a/b/deep", "one/moved": "two/moved"}
            for name in files:
                await volume.create(name, b"line1\n")
            async with without(volume, 1):
                for name in files:
                    await volume.append(name, b"line2\n")
            await volume.bricks[0].kill()
            await volume.remount(self_heal_daemon="off", **options)
            await volume.rename("file", "renamed")
            await volume.rename("one/a", "two/a")
            await volume.rename("one/moved", "two/moved")
            await volume.rmdir("empty")
            await volume.bricks[0].start()
            await healed(volume)
            for old, new in files.items():
                assert [volume.content(brick, new) for brick in (0, 1)] == [b"line1\nline2\n"] * 2
                assert not volume.has(0, old)
            assert not any(volume.has(brick, "empty") for brick in (0, 1))
            assert not any(
                name.startswith(".glusterfs-anon") for brick in (0, 1) for name in os.listdir(volume.at(brick, ""))
            )

    trio.run(main)
