"""What changed while a brick was away is on it after the heal: contents, attributes, types, links, and nothing goes backwards."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.graph.cluster.replicate.healing import healed, up, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused

MIB = 1 << 20
Act = Callable[[Volume], Awaitable[None]]

# -- self-heal.t: its rounds, what is there before, what happens while a brick is away, what must be on that brick then --


async def _tree(volume: Volume) -> None:
    for name in ("abc", "abc/def", "abc/ghi"):
        await volume.mkdir(name)
    for name, size in (("abc/file", 2), ("abc/def/one", 2), ("abc/def/two", 3), ("abc/ghi/file", 4)):
        await volume.create(name, os.urandom(size * MIB))


async def _changes(volume: Volume) -> None:
    await volume.truncate("abc/def/one", 0)
    await volume.chown("abc/def/two", 36, 36)
    await volume.unlink("abc/ghi/file")
    await volume.rmdir("abc/ghi")
    for name in ("def", "def/ghi", "jkl", "jkl/mno"):
        await volume.mkdir(name)
    for name, size in (("def/ghi/one", 2), ("def/ghi/two", 3), ("jkl/mno/file", 4)):
        await volume.create(name, os.urandom(size * MIB))
    await volume.chown("def/ghi/two", 36, 36)


def _changed(volume: Volume, brick: int) -> None:
    assert all(volume.has(brick, name) for name in ("def/ghi/one", "def/ghi/two", "jkl/mno/file"))
    assert not volume.has(brick, "abc/ghi")
    assert volume.content(brick, "abc/def/one") == b""
    for name in ("abc/def/two", "def/ghi/two"):
        found = os.stat(volume.at(brick, name))
        assert (found.st_uid, found.st_gid, found.st_size) == (36, 36, 3 * MIB)


async def _file(volume: Volume) -> None:
    await volume.create("file", b"write1")
    await volume.chmod("file", 0o666)
    await volume.setxattr("file", b"user.one", b"1")
    await volume.setxattr("file", b"user.two", b"2")
    await volume.link("file", "link-to-file")


async def _becomes_a_directory(volume: Volume) -> None:
    await volume.unlink("file")
    await volume.mkdir("file")
    await volume.create("file/inside", b"x")


def _is_a_directory(volume: Volume, brick: int) -> None:
    assert volume.content(brick, "file/inside") == b"x"


async def _mode(volume: Volume) -> None:
    await volume.chmod("file", 0o777)


def _has_mode(volume: Volume, brick: int) -> None:
    assert os.stat(volume.at(brick, "file")).st_mode == 0o100777


async def _owner(volume: Volume) -> None:
    await volume.chown("file", 36, 36)


def _has_owner(volume: Volume, brick: int) -> None:
    found = os.stat(volume.at(brick, "file"))
    assert (found.st_uid, found.st_gid) == (36, 36)


async def _append(volume: Volume) -> None:
    await volume.append("file", b"write2" * 50000)


def _is_longer(volume: Volume, brick: int) -> None:
    assert volume.content(brick, "file") == b"write1" + b"write2" * 50000


async def _made_again(volume: Volume) -> None:
    await volume.unlink("file")
    await volume.create("file", b"another")


def _is_the_newer(volume: Volume, brick: int) -> None:
    assert volume.content(brick, "file") == b"another"
    assert volume.gfid(brick, "file") != volume.gfid(brick, "link-to-file")


async def _links(volume: Volume) -> None:
    await volume.unlink("link-to-file")
    await volume.symlink("link-to-file", b"file")
    await volume.link("file", "hard-link-to-file")


def _has_links(volume: Volume, brick: int) -> None:
    assert os.readlink(volume.at(brick, "link-to-file")) == "file"
    assert os.path.samefile(volume.at(brick, "hard-link-to-file"), volume.at(brick, "file"))


async def _xattrs(volume: Volume) -> None:
    await volume.setxattr("file", b"user.one", b"1 changed")
    await volume.setxattr("file", b"user.three", b"3")


def _has_xattrs(volume: Volume, brick: int) -> None:
    names = ("user.one", "user.two", "user.three")
    assert [os.getxattr(volume.at(brick, "file"), name) for name in names] == [b"1 changed", b"2", b"3"]


ROUNDS: list[tuple[Act, Act, Callable[[Volume, int], None]]] = [
    (_tree, _changes, _changed), (_file, _becomes_a_directory, _is_a_directory), (_file, _mode, _has_mode),
    (_file, _owner, _has_owner), (_file, _append, _is_longer), (_file, _made_again, _is_the_newer), (_file, _links, _has_links),
    (_file, _xattrs, _has_xattrs),
]  # fmt: skip


async def _round(volume: Volume, change: Act, away: int) -> None:
    async with without(volume, away):
        await change(volume)
    wanted = volume.tree(1 - away)
    assert await volume.replicate.healer.listed()
    await healed(volume)
    assert {path: _seen(shape) for path, shape in volume.tree(away).items()} == {
        path: _seen(shape) for path, shape in wanted.items()
    }


def _seen(shape: tuple[object, ...]) -> tuple[object, ...]:
    """Without the xattrs, in which a brick keeps its own times."""
    return shape[:4] + shape[5:]


@pytest.mark.parametrize("away", [0, 1])
@pytest.mark.parametrize(("before", "change", "check"), ROUNDS, ids=lambda act: act.__name__.strip("_"))
def test_self_heal(before: Act, change: Act, check: Callable[[Volume, int], None], away: int) -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await before(volume)
            await _round(volume, change, away)
            check(volume, away)

    trio.run(main)


def test_self_heal_in_rounds_one_after_the_other() -> None:
    """On one volume, always with the first brick away."""

    async def main() -> None:
        async with volume_of() as volume:
            await _tree(volume)
            await _file(volume)
            for _, change, check in (*ROUNDS[:1], *ROUNDS[2:7], ROUNDS[1]):
                await _round(volume, change, 0)
                check(volume, 0) if change is not _append else None

    trio.run(main)


def test_self_heal_of_changes_on_both_sides_in_turn() -> None:
    """Appended to without the first brick, healed, cut to nothing without the second right after: empty on both."""

    async def main() -> None:
        async with volume_of() as volume:
            await _file(volume)
            async with without(volume, 0):
                await _append(volume)
            await volume.replicate.healer.sweep()
            async with without(volume, 1):
                await volume.truncate("file", 0)
            await healed(volume)
            assert [volume.content(brick, "file") for brick in (0, 1)] == [b"", b""]

    trio.run(main)


def test_self_heal_of_three_with_changes_on_both_sides_in_turn() -> None:
    """With a third copy that has seen both there need not be a heal in between."""

    async def main() -> None:
        async with volume_of(3) as volume:
            await _file(volume)
            async with without(volume, 0):
                await _append(volume)
            async with without(volume, 1):
                await volume.truncate("file", 0)
            await healed(volume)
            assert [volume.content(brick, "file") for brick in range(3)] == [b"", b"", b""]

    trio.run(main)


async def _renames(volume: Volume) -> None:
    await volume.rename("file", "abc/moved")
    await volume.rename("abc", "elsewhere")
    await volume.mknod("fifo", stat.S_IFIFO | 0o644)


@pytest.mark.parametrize("away", [0, 1])
def test_self_heal_of_renames(away: int) -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await _tree(volume)
            await _file(volume)
            await _round(volume, _renames, away)

    trio.run(main)


# -- metadata-self-heal.t --------------------------------------------------------------------------------------------


def test_metadata_self_heal() -> None:
    """Mode, owner and xattrs of one side, then, with the other brick away, an xattr changed and one removed."""

    async def main() -> None:
        async with volume_of() as volume:
            await volume.create("a")
            async with without(volume, 0):
                await volume.chmod("a", 0o777)
                await volume.chown("a", 100, 100)
                await volume.setxattr("a", b"trusted.abc", b"abc")
                await volume.setxattr("a", b"trusted.def", b"def")
            await healed(volume)
            for brick in (0, 1):
                found = os.stat(volume.at(brick, "a"))
                assert (found.st_mode, found.st_uid, found.st_gid) == (0o100777, 100, 100)
                assert os.getxattr(volume.at(brick, "a"), "trusted.def") == b"def"
            assert await volume.getxattr("a", b"trusted.abc") == b"abc"
            async with without(volume, 1):
                await volume.setxattr("a", b"trusted.abc", b"def")
                await volume.removexattr("a", b"trusted.def")
            await healed(volume)
            assert [os.getxattr(volume.at(brick, "a"), "trusted.abc") for brick in (0, 1)] == [b"def", b"def"]
            assert not any("trusted.def" in os.listxattr(volume.at(brick, "a")) for brick in (0, 1))
            with refused(errno.ENODATA):
                await volume.getxattr("a", b"trusted.def")

    trio.run(main)


async def _split_metadata(volume: Volume) -> None:
    """Two files with another mode on one side and another owner on the other."""
    for name in ("b", "c"):
        await volume.create(name)
    async with without(volume, 0):
        for name in ("b", "c"):
            await volume.chmod(name, 0o777)
    await volume.bricks[1].kill()
    await volume.remount(self_heal_daemon="off")
    for name in ("b", "c"):
        await volume.chown(name, 100, 100)
    await up(volume, 1)


def test_metadata_self_heal_of_both_sides_changed() -> None:
    """With the blame kept nothing is healed, also not by a full heal; without, what differs is made equal."""

    async def main() -> None:
        async with volume_of() as volume:
            await _split_metadata(volume)
            for brick in (0, 1):
                volume.set_mark(brick, "c", f"client-{1 - brick}", None)
            await volume.remount(self_heal_daemon="off")
            progress = await volume.replicate.healer.sweep(full=True)
            assert progress.split_brain > 0
            shapes = [
                [os.stat(volume.at(brick, name)) for brick in (0, 1)] for name in ("b", "c")
            ]  # fmt: skip
            (b0, b1), (c0, c1) = [[(s.st_mode, s.st_uid, s.st_gid) for s in pair] for pair in shapes]
            assert (b0, b1) == ((0o100644, 100, 100), (0o100777, 0, 0))
            assert c0 == c1
            assert [volume.blames(brick, "b") for brick in (0, 1)] == [{"client-1": (0, 1, 0)}, {"client-0": (0, 1, 0)}]
            assert [volume.blames(brick, "c") for brick in (0, 1)] == [{}, {}]

    trio.run(main)
