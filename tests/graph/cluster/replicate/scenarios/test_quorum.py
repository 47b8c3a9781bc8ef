"""Quorum: which fops work with which bricks away, and that what fails, fails as a whole."""

from __future__ import annotations

import fcntl
from errno import ENOTCONN
from pathlib import Path

import pytest
import trio

from fusemux.graph.cluster.replicate import Replicate
from fusemux.graph.framework.errors import OptionError
from fusemux.graph.framework.types import Flock
from fusemux.testing.graph import GraphVolume
from tests.graph.cluster.replicate.healing import down, up
from tests.graph.cluster.replicate.volume import refused, served

WORKS, FAILS = True, False


# -- quorum.t ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "options", "away", "works"),
    [
        (2, {"quorum_type": "fixed", "quorum_count": "2"}, [0], FAILS),
        (2, {"quorum_type": "fixed", "quorum_count": "2"}, [1], FAILS),
        (2, {"quorum_type": "auto"}, [0], FAILS),
        (2, {"quorum_type": "auto"}, [1], WORKS),
        (2, {"quorum_type": "none"}, [0], WORKS),
        (2, {}, [0], WORKS),
        (2, {}, [1], WORKS),
        (3, {"quorum_type": "fixed", "quorum_count": "3"}, [2], FAILS),
        (3, {"quorum_type": "auto"}, [1], WORKS),
        (3, {"quorum_type": "auto"}, [0, 1], FAILS),
        (3, {"quorum_type": "none"}, [0, 1], WORKS),
        (3, {}, [2], WORKS),
        (3, {}, [1, 2], FAILS),
        (2, {}, [0, 1], FAILS),
    ],
)
def test_quorum(count: int, options: dict[str, str], away: list[int], works: bool) -> None:
    """Reads and writes work with a quorum of copies and fail without; up again they work again."""

    async def main() -> None:
        async with served(count, **options) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            await down(volume, *away)
            for act in (
                lambda: volume.create("new"), lambda: volume.write("f", b"x"), lambda: volume.read("f"),
                lambda: volume.top.writev(volume.tick(), fd, b"y", 0), lambda: volume.top.readv(volume.reader, fd, 1, 0),
                lambda: volume.chmod("f", 0o600), lambda: volume.names_in("/"), lambda: volume.top.fsync(volume.tick(), fd, False),
                lambda: volume.top.statfs(volume.reader, fd.inode), lambda: volume.top.stat(volume.reader, fd),
            ):  # fmt: skip
                if works:
                    await act()
                else:
                    with refused(ENOTCONN):
                        await act()
            await up(volume, *away)
            await volume.write("f", b"z")
            await volume.close(fd)

    trio.run(main)


def test_quorum_can_be_changed_while_the_volume_runs() -> None:
    async def main() -> None:
        async with served(3) as volume:
            await volume.create("f", b"hello")
            await down(volume, 1, 2)
            with refused(ENOTCONN):
                await volume.write("f", b"x")
            volume.reconfigure(quorum_type="none")
            await volume.write("f", b"x")
            volume.reconfigure(quorum_type="fixed", quorum_count="2")
            with refused(ENOTCONN):
                await volume.write("f", b"y")

    trio.run(main)


def test_quorum_of_an_unknown_kind_is_refused() -> None:
    """An empty type is none, too; what held before goes on."""

    async def main() -> None:
        async with served(3) as volume:
            for kind in ("", "some"):
                with pytest.raises(OptionError, match="quorum-type"):
                    volume.reconfigure(quorum_type=kind)
            await down(volume, 1, 2)
            with refused(ENOTCONN):
                await volume.create("f")

    trio.run(main)


# -- lk-quorum.t ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "options", "away", "works"),
    [
        (2, {}, [0], WORKS),
        (2, {}, [1], WORKS),
        (2, {"quorum_type": "fixed", "quorum_count": "2"}, [1], FAILS),
        (2, {"quorum_type": "fixed", "quorum_count": "1"}, [0], WORKS),
        (2, {"quorum_type": "auto"}, [0], FAILS),
        (2, {"quorum_type": "auto"}, [1], WORKS),
        (2, {"quorum_type": "auto"}, [], WORKS),
        (3, {}, [0], WORKS),
        (3, {}, [1], WORKS),
        (3, {}, [2], WORKS),
        (3, {}, [0, 1], FAILS),
        (3, {}, [0, 2], FAILS),
        (3, {}, [1, 2], FAILS),
        (2, {}, [0, 1], FAILS),
        (3, {}, [0, 1, 2], FAILS),
    ],
)
def test_lk_quorum(count: int, options: dict[str, str], away: list[int], works: bool) -> None:
    """The same table for locks on a file that is open, of which a volume's flock(2) is one."""

    async def main() -> None:
        async with served(count, on_bricks=("features/locks",), **options) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            await down(volume, *away)
            lock = Flock(fcntl.F_WRLCK, 0, 0, 1, 77)
            if works:
                await volume.top.lk(volume.reader, fd, fcntl.F_SETLK, lock)
                await volume.top.lk(volume.reader, fd, fcntl.F_SETLK, lock._replace(type=fcntl.F_UNLCK))
            else:
                with refused(ENOTCONN):
                    await volume.top.lk(volume.reader, fd, fcntl.F_SETLK, lock)
            await up(volume, *away)
            await volume.close(fd)

    trio.run(main)


# -- inodelk.t -----------------------------------------------------------------------------------------------------


def _shown(volume: GraphVolume, name: str) -> list[int]:
    """The bricks that have a name in the root."""
    return [brick.index for brick in volume.bricks if Path(brick.path, name).exists()]


@pytest.mark.fusemux(distribute=2, replica=3, arbiter=1, backend="graph")
@pytest.mark.parametrize("first", [0, 3])
def test_inodelk(fusemux_volume: GraphVolume, first: int) -> None:
    """Renaming a directory while either set has no quorum fails as a whole; with all up it works, again and again."""

    async def scenario(volume: GraphVolume) -> None:
        everywhere = list(range(6))
        await volume.mkdir("/old")
        for away in ((first, first + 1), (first + 1, first + 2), (first, first + 2)):
            for brick in away:
                await volume.brick(brick).kill()
            with refused(ENOTCONN):
                await volume.rename("/old", "/new")
            assert (_shown(volume, "old"), _shown(volume, "new")) == (everywhere, [])
            for brick in away:
                await volume.brick(brick).start()
        with trio.fail_after(10):  # locks that were not let go would be waited for
            for turn in range(4):
                await volume.rename(*(("/old", "/new") if turn % 2 == 0 else ("/new", "/old")))
            await volume.rename("/old", "/new")
        assert (_shown(volume, "old"), _shown(volume, "new")) == ([], everywhere)

    fusemux_volume.run(scenario)


@pytest.mark.fusemux("2x2", backend="graph")
@pytest.mark.parametrize("away", [(0,), (3,), (1, 2)])
def test_inodelk_of_two_copies(fusemux_volume: GraphVolume, away: tuple[int, ...]) -> None:
    """Without a quorum rule a brick of one set, or of both, may be away."""

    async def scenario(volume: GraphVolume) -> None:
        await volume.mkdir("/old")
        for brick in away:
            await volume.brick(brick).kill()
        for _ in range(2):
            await volume.rename("/old", "/new")
            assert _shown(volume, "new") == [brick for brick in range(4) if brick not in away]
            await volume.rename("/new", "/old")
        await volume.rename("/old", "/new")
        for brick in away:
            await volume.brick(brick).start()
        await volume.wait_healed()
        assert (_shown(volume, "old"), _shown(volume, "new")) == ([], [0, 1, 2, 3])
        assert volume.bricks_identical()

    fusemux_volume.run(scenario)


# -- afr-up.t ------------------------------------------------------------------------------------------------------


def _serving(volume: GraphVolume) -> list[bool | None]:
    """What each set has told the translators above it."""
    sets = [t for t in volume.served.graph.translators.values() if isinstance(t, Replicate)]
    return [one.members.serving for one in sorted(sets, key=lambda one: one.name)]


@pytest.mark.fusemux(distribute=2, replica=3, backend="graph")
def test_afr_up(fusemux_volume: GraphVolume) -> None:
    """A set without quorum counts as down, another one does not; up again, both serve."""

    async def scenario(volume: GraphVolume) -> None:
        assert _serving(volume) == [True, True]
        await volume.brick(0).kill()
        assert _serving(volume) == [True, True]
        await volume.brick(1).kill()
        assert _serving(volume) == [False, True]
        await volume.brick(1).start()
        assert _serving(volume) == [True, True]
        await volume.brick(0).start()
        assert _serving(volume) == [True, True]

    fusemux_volume.run(scenario)
