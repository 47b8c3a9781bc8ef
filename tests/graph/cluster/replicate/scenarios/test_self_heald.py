"""What is told as pending and as split-brain, what the self-healer does by itself, and a brick whose disk was replaced."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from errno import EIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from fusemux.bricks import prepare
from fusemux.graph.cluster.replicate.heal.report import info
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.graph import Graph
from fusemux.serve.healing import Healing
from fusemux.testing.graph import GraphVolume
from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import VOLUME_ID, Volume, refused

# -- self-heald.t ----------------------------------------------------------------------------------------------------


async def _pending(volume: GraphVolume) -> int:
    return sum(len(row["entries"] or ()) for row in await volume.heal_info())


three_pairs = pytest.mark.fusemux(
    distribute=3, replica=2, backend="graph", options={"cluster.self-heal-daemon": "off", "cluster.eager-lock": "off"}
)


@pytest.mark.parametrize("side", [0, 1])
@three_pairs
def test_self_heald(fusemux_volume: GraphVolume, side: int) -> None:
    """Counted as pending: each file once, each directory and the root once for each pair; not what was removed again.

    In GlusterFS the command is refused, too, while the daemon is switched off.  Here the command is no message to a daemon: the
    process that serves the volume heals, and the option says only what it does without being told.
    """
    away = (side, 2 + side, 4 + side)

    async def scenario(volume: GraphVolume) -> None:
        for brick in away:
            await volume.brick(brick).kill()
        path = ""
        for _ in range(10):
            await volume.write(f"{path}/f", os.urandom(100_000))
            path += "/a"
            await volume.mkdir(path)
        pending = 10 + 10 * 3 + 3
        assert await _pending(volume) == pending
        assert [row["brick"] for row in await volume.heal_info() if not row["up"]] == [
            str(volume.brick(brick).path) for brick in away
        ]
        for n in range(10):
            await volume.write(f"/temporary{n}", b"abc")
        assert await _pending(volume) == pending + 10
        for n in range(10):
            await volume.unlink(f"/temporary{n}")
        assert await _pending(volume) == pending
        for full in (False, True):
            assert all("down, healing needs all copies" in row["error"] for row in await volume.heal(full=full))
        assert await _pending(volume) == pending
        await volume.brick(away[0]).start()
        rows = await volume.heal()
        assert ["error" in row for row in rows] == [False, True, True]
        assert 0 < await _pending(volume) < pending
        for brick in away[1:]:
            await volume.brick(brick).start()
        assert not any("error" in row or row["failed"] for row in await volume.heal(full=True))
        assert await _pending(volume) == 0
        assert volume.bricks_identical()

    fusemux_volume.run(scenario)


@three_pairs
def test_self_heald_does_not_count_what_is_being_written(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        names = [f"/file{n}" for n in range(5)]
        for name in names:
            await volume.write(name, b"")

        async def write(name: str) -> None:
            async with volume.open(name) as file:
                for n in range(50):
                    await file.write(bytes(1024), n * 1024)
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(write, name)
            for _ in range(20):
                assert await _pending(volume) == 0
                await trio.lowlevel.checkpoint()

    fusemux_volume.run(scenario)


Act = Callable[[Volume], Awaitable[None]]


async def _data(volume: Volume) -> None:
    await volume.write("f", b"abc")


async def _metadata(volume: Volume) -> None:
    await volume.chmod("f", 0o777)


async def _entry(volume: Volume) -> None:
    await volume.create("d/a")


@pytest.mark.parametrize(("change", "pending"), [(_data, 1), (_metadata, 1), (_entry, 2)])
def test_self_heald_heals_by_itself_where_clients_do_not(change: Act, pending: int) -> None:
    """The clients' own heals are off; the self-healer heals when the brick comes back."""

    async def main() -> None:
        off = dict.fromkeys(("data_self_heal", "metadata_self_heal", "entry_self_heal"), "off")
        async with volume_of(self_heal_daemon="on", **off) as volume:
            await volume.create("f", b"old")
            await volume.mkdir("d")
            await volume.bricks[0].kill()
            await change(volume)
            assert len(await volume.replicate.healer.listed()) == pending
            await volume.bricks[0].start()
            with trio.fail_after(10):
                while await volume.replicate.healer.listed() or volume.replicate.healer.progress.running:
                    await trio.lowlevel.checkpoint()
            await healed(volume)

    trio.run(main)


async def _asked(volume: GraphVolume, name: str) -> list[dict[str, Any]]:
    server: Any = SimpleNamespace(served=[SimpleNamespace(volume=volume.served)])
    return await Healing(server).info(name)


@three_pairs
def test_self_heald_has_nothing_to_say_of_volumes_that_are_unknown_or_stopped(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> GraphVolume:
        assert len(await _asked(volume, volume.name)) == 6
        with pytest.raises(FusemuxError, match="'fail' is not served"):
            await _asked(volume, "fail")
        return volume

    stopped = fusemux_volume.run(scenario)
    with pytest.raises(FusemuxError, match="is not served"):
        trio.run(_asked, stopped, stopped.name)


@pytest.mark.fusemux(distribute=2, backend="graph")
def test_self_heald_has_nothing_to_say_of_volumes_without_copies(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        with pytest.raises(FusemuxError, match="it is not replicated"):
            await volume.heal_info()

    fusemux_volume.run(scenario)


# -- heal-info.t -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["inline", "pool"])
def test_heal_info(mode: str) -> None:
    """Two that ask again and again while a file is being written are never told of an entry."""

    async def main() -> None:
        async with volume_of(brick={"io-mode": mode}, full_lock="no") as volume:
            fd = await volume.created("f")
            asked = Counter[int]()

            async def ask(who: int) -> None:
                while True:
                    rows = await info(volume.replicate.healer)
                    assert [row["entries"] for row in rows] == [[], []]
                    asked[who] += 1
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                for who in (1, 2):
                    nursery.start_soon(ask, who)
                block = bytes(100 << 10)
                for n in range(256):
                    await volume.top.writev(volume.tick(), fd, block, n * len(block))
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert min(asked[1], asked[2]) > 10
            await volume.close(fd)

    trio.run(main)


# -- split-brain-heal-info.t -----------------------------------------------------------------------------------------


async def _apart(volume: Volume, path: str, *acts: Act) -> None:
    """Each of two acts on one brick while the other is away."""
    for away, act in enumerate(acts):
        await volume.bricks[1 - away].start()
        await volume.bricks[away].kill()
        await volume.remount(self_heal_daemon="off")
        await act(volume)
    await volume.bricks[1].start()


@pytest.mark.parametrize("healed_before", [False, True])
def test_split_brain_heal_info(healed_before: bool) -> None:
    """One split-brain of contents, one of attributes, one of names (a file against a directory): these three, on each brick."""

    async def main() -> None:
        async with volume_of() as volume:
            for name in ("dspb", "mspb", "espb", "other"):
                await volume.mkdir(name)
            await volume.create("dspb/file")
            await _apart(
                volume, "dspb/file",
                lambda volume: volume.write("dspb/file", b"abc"), lambda volume: volume.write("dspb/file", b"def"),
            )  # fmt: skip
            await _apart(
                volume, "mspb", lambda volume: volume.chmod("mspb", 0o757), lambda volume: volume.chmod("mspb", 0o747)
            )
            await _apart(volume, "espb", lambda volume: volume.create("espb/a"), lambda volume: volume.mkdir("espb/a"))
            # pending, but no split-brain: names of both sides that do not clash
            await _apart(
                volume, "other", lambda volume: volume.create("other/a"), lambda volume: volume.create("other/b")
            )
            await volume.remount(self_heal_daemon="off")
            if healed_before:
                await volume.replicate.healer.sweep()
            for row in await info(volume.replicate.healer):
                split = sorted(entry["path"] for entry in row["entries"] if entry["split_brain"])
                assert split == ["/dspb/file", "/espb", "/mspb"]

    trio.run(main)


# -- resolve.t -------------------------------------------------------------------------------------------------------


def _replace_disk(volume: Volume, brick: int) -> None:
    shutil.rmtree(volume.bricks[brick].path)
    prepare.prepare(volume.bricks[brick].path, VOLUME_ID)


def test_resolve() -> None:
    """Somebody sits five directories deep when a brick comes back empty: making and reading files there works.

    He is the inodes that he has open: what he asks names no path.
    """

    async def main() -> None:
        async with volume_of() as volume:
            path = "a"
            for name in ("a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e"):
                await volume.mkdir(name)
                path = name
            await volume.create(f"{path}/g", b"abc")
            cwd, old = await volume.inode(path), await volume.inode(f"{path}/g")
            await volume.bricks[0].kill()
            _replace_disk(volume, 0)
            await volume.bricks[0].start()
            gfid = volume.process.new_gfid()
            fd = volume.graph.itable.fd(volume.graph.itable.link(gfid, 0o100000), os.O_RDWR)
            await volume.top.create(volume.tick(), cwd, b"f", os.O_RDWR, 0o644, gfid, fd)
            await volume.close(fd)
            assert (await volume.top.lookup(volume.reader, cwd, b"f")).gfid == gfid
            fd = volume.graph.itable.fd(old, os.O_RDONLY)
            await volume.top.open(volume.reader, old, os.O_RDONLY, fd)
            assert bytes(await volume.top.readv(volume.reader, fd, 10, 0)) == b"abc"
            await volume.close(fd)
            assert (await volume.top.lookup(volume.reader, cwd, b"g")).size == 3

    trio.run(main)


def test_resolve_of_a_file_made_again_through_another_mount() -> None:
    """While a brick was away, and the blame was erased: reading it fails rather than giving either content."""

    async def main() -> None:
        async with volume_of() as volume:
            await volume.create("b", b"ghi")
            await volume.lookup("b")
            other = Graph(volume.sections({}), volume.process)
            await other.start()
            async with without(volume, 0):
                here, volume.graph = volume.graph, other
                await volume.unlink("b")
                await volume.create("b", b"jkl")
                volume.graph = here
                await other.stop()
                volume.set_mark(1, "/", "client-0", None)
            for _ in range(2):
                with refused(EIO):
                    await volume.lookup("b")
            assert [Path(volume.at(brick, "b")).read_bytes() for brick in (0, 1)] == [b"ghi", b"jkl"]

    trio.run(main)
