"""The transaction engine: copies that fail in each phase, callers that go away, fops that meet."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.debug.fault import Fault, lift, place
from fusemux.graph.framework.types import SetAttr
from tests.graph.cluster.replicate.volume import Volume, refused, served

Act = Callable[[Volume], Awaitable[None]]


def fault(fop: str, error: int = errno.EIO, **more: int) -> Fault:
    return Fault("error", fops=frozenset({fop}), errno=error, **more)


async def prepared(volume: Volume) -> None:
    await volume.mkdir("d")
    await volume.mkdir("gone")
    await volume.create("f", b"hello")
    await volume.create("g", b"other")


async def set_times(volume: Volume) -> None:
    await volume.top.setattr(volume.tick(), await volume.inode("f"), SetAttr(mtime_ns=5))


async def remove_xattr(volume: Volume) -> None:
    await volume.top.removexattr(volume.tick(), await volume.inode("f"), b"user.k")


async def allocate(volume: Volume) -> None:
    fd = await volume.open("f")
    try:
        await volume.top.fallocate(volume.tick(), fd, 0, 0, 100)
    finally:
        await volume.close(fd)


async def sync(volume: Volume) -> None:
    fd = await volume.open("f")
    try:
        await volume.top.fsync(volume.tick(), fd, False)
    finally:
        await volume.close(fd)


# fop, what the user does, where the changelog lies, which counters one transaction adds
CHANGES: list[tuple[str, Act, str, tuple[int, int, int]]] = [
    ("create", lambda v: v.create("new"), ".", (0, 0, 1)),
    ("mkdir", lambda v: v.mkdir("new"), ".", (0, 0, 1)),
    ("mknod", lambda v: v.mknod("new", 0o010644), ".", (0, 0, 1)),
    ("symlink", lambda v: v.symlink("new", b"f"), ".", (0, 0, 1)),
    ("link", lambda v: v.link("f", "d/new"), "d", (0, 0, 1)),
    ("unlink", lambda v: v.unlink("f"), ".", (0, 0, 1)),
    ("rmdir", lambda v: v.rmdir("gone"), ".", (0, 0, 1)),
    ("rename", lambda v: v.rename("f", "new"), ".", (0, 0, 2)),
    ("rename", lambda v: v.rename("f", "d/new"), "d", (0, 0, 1)),
    ("setattr", lambda v: v.chmod("f", 0o600), "f", (0, 1, 0)),
    ("setattr", set_times, "f", (0, 1, 0)),
    ("setxattr", lambda v: v.setxattr("f", b"user.k", b"v"), "f", (0, 1, 0)),
    ("writev", lambda v: v.write("f", b"HE"), "f", (1, 0, 0)),
    ("truncate", lambda v: v.truncate("f", 2), "f", (1, 0, 0)),
    ("fallocate", allocate, "f", (1, 0, 0)),
    ("fsync", sync, "f", (1, 0, 0)),
]
EACH = pytest.mark.parametrize(("fop", "act", "owner", "counters"), CHANGES, ids=[f"{c[0]}-{c[2]}" for c in CHANGES])


@EACH
@pytest.mark.parametrize("failing", [0, 1])
def test_a_copy_that_fails_is_accused_by_the_other_and_the_caller_notices_nothing(
    fop: str, act: Act, owner: str, counters: tuple[int, int, int], failing: int
) -> None:
    async def main() -> None:
        async with served(2) as volume:
            await prepared(volume)
            injected = fault(fop, times=1)
            place(volume.replicate.children[failing], injected)
            await act(volume)
            assert injected.fired == 1
            assert volume.blames(1 - failing, owner) == {f"client-{failing}": counters}
            assert set(volume.blames(failing, owner)) <= {"dirty"}  # it cannot know what became of it

    trio.run(main)


@EACH
def test_what_no_quorum_has_done_is_an_error_and_accuses_nobody(
    fop: str, act: Act, owner: str, counters: tuple[int, int, int]
) -> None:
    async def main() -> None:
        async with served(3) as volume:
            await prepared(volume)
            for child, error in ((0, errno.EIO), (2, errno.EROFS)):
                place(volume.replicate.children[child], fault(fop, error, times=1))
            with refused(errno.EROFS):
                await act(volume)
            blames = [volume.all_marks(brick) for brick in range(3)]
            assert [set(marks) for brick in blames for marks in brick.values()]
            assert all(set(marks) == {"dirty"} for brick in blames for marks in brick.values())
            assert owner in blames[0]

    trio.run(main)


@EACH
def test_what_all_copies_refuse_alike_leaves_no_trace(
    fop: str, act: Act, owner: str, counters: tuple[int, int, int]
) -> None:
    async def main() -> None:
        async with served(2) as volume:
            await prepared(volume)
            before = volume.tree(0)
            for edge in volume.replicate.children:
                place(edge, fault(fop, errno.EPERM, times=1))
            with refused(errno.EPERM):
                await act(volume)
            await volume.replicate.drain()
            assert volume.all_marks(0) == volume.all_marks(1) == {}
            assert volume.tree(0) == volume.tree(1) == before

    trio.run(main)


@EACH
def test_a_refusal_while_a_copy_is_away_does_not_accuse_that_copy(
    fop: str, act: Act, owner: str, counters: tuple[int, int, int]
) -> None:
    async def main() -> None:
        async with served(3) as volume:
            await prepared(volume)
            await volume.bricks[1].kill()
            for child in (0, 2):
                place(volume.replicate.children[child], fault(fop, errno.EPERM, times=1))
            with refused(errno.EPERM):
                await act(volume)
            await volume.replicate.drain()
            assert volume.all_marks(0) == volume.all_marks(2) == {}

    trio.run(main)


@EACH
def test_a_copy_that_is_away_is_accused_before_the_change_is_made(
    fop: str, act: Act, owner: str, counters: tuple[int, int, int]
) -> None:
    """What GlusterFS records only afterwards: a crash in between must not leave the stale copy unaccused."""

    async def main() -> None:
        async with served(2) as volume:
            await prepared(volume)
            await volume.bricks[1].kill()
            seen: list[dict[str, tuple[int, int, int]]] = []
            child = volume.replicate.children[0]
            original = getattr(child, fop)

            async def watched(*args: object) -> object:
                seen.append(volume.blames(0, owner))
                return await original(*args)

            setattr(child, fop, watched)
            await act(volume)
            if fop == "fsync":
                assert seen[0] == {}  # it changes nothing of what the other has
            else:
                assert seen[0] == {"client-1": counters, "dirty": counters}

    trio.run(main)


@pytest.mark.parametrize("phase", [1, 2])
def test_a_copy_that_cannot_be_marked_takes_no_part_and_is_accused(phase: int) -> None:
    async def main() -> None:
        async with served(3, eager_lock="off") as volume:
            await prepared(volume)
            place(volume.replicate.children[1], fault("xattrop", errno.ENOSPC, nth=phase))
            if phase == 1:
                await volume.write("f", b"HE")
                assert volume.blames(0, "f") == volume.blames(2, "f") == {"client-1": (1, 0, 0)}
                assert volume.content(1, "f") == b"hello"
            else:  # it has the data, and keeps its mark
                await volume.write("f", b"HE")
                assert [volume.blames(brick, "f") for brick in range(3)] == [{}, {"dirty": (1, 0, 0)}, {}]

    trio.run(main)


def test_without_a_quorum_that_can_be_marked_nothing_is_changed_and_nothing_stays_marked() -> None:
    async def main() -> None:
        async with served(3, optimistic_change_log="off") as volume:
            await prepared(volume)
            for act in (
                lambda: volume.write("f", b"HE"),
                lambda: volume.mkdir("new"),
                lambda: volume.chmod("f", 0o600),
            ):
                for child in (1, 2):
                    place(volume.replicate.children[child], fault("xattrop", errno.ENOSPC, times=1))
                with refused(errno.ENOSPC):
                    await act()
                assert [volume.all_marks(brick) for brick in range(3)] == [{}, {}, {}]
            assert await volume.read("f") == b"hello"

    trio.run(main)


@pytest.mark.parametrize(
    ("fop", "act"), [("writev", lambda v: v.write("f", b"HE")), ("mkdir", lambda v: v.mkdir("new"))]
)
def test_the_caller_gets_an_error_when_nobody_could_record_who_failed(fop: str, act: Act) -> None:
    async def main() -> None:
        async with served(2, eager_lock="off") as volume:
            await prepared(volume)
            place(volume.replicate.children[1], fault(fop, times=1))
            place(
                volume.replicate.children[0], fault("xattrop", nth=2)
            )  # the first is for the file, this for who failed
            with refused(errno.ENOTCONN):
                await act(volume)

    trio.run(main)


def test_when_the_last_good_copy_fails_the_write_fails_and_nothing_more_is_recorded() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await prepared(volume)
            await volume.bricks[1].kill()
            await volume.write("f", b"HE")
            await volume.bricks[1].start()
            place(volume.replicate.children[0], fault("writev", times=1))
            with refused(errno.EIO):
                await volume.write("f", b"XX")
            assert volume.blames(0, "f") == {"client-1": (1, 0, 0), "dirty": (1, 0, 0)}
            assert set(volume.blames(1, "f")) == {"dirty"}
            assert await volume.read("f") == b"HEllo"

    trio.run(main)


def test_a_file_that_only_stale_copies_hold_is_not_written() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await prepared(volume)
            for away in (0, 1):
                await volume.bricks[away].kill()
                await volume.write("f", b"%d" % away)
                await volume.bricks[away].start()
                if away == 0:
                    await volume.remount()  # so that the second round does not know of the first
                    volume.graph.itable.root.ctx[volume.replicate.inode_slot] = None
            with refused(errno.EIO):
                await volume.truncate("f", 0)

    trio.run(main)


def test_a_short_write_on_one_copy_is_a_failure_of_that_copy() -> None:
    async def main() -> None:
        async with served(2, strict=False) as volume:
            await prepared(volume)
            place(volume.replicate.children[1], Fault("short", fops=frozenset({"writev"}), times=1))
            await volume.write("f", b"HELLO")
            assert await volume.read("f") == b"HELLO"
            assert volume.blames(0, "f") == {"client-1": (1, 0, 0)}

    trio.run(main)


def test_a_write_that_fills_all_bricks_leaves_its_mark_for_healing_to_compare() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await prepared(volume)
            for edge in volume.replicate.children:
                place(edge, fault("writev", errno.ENOSPC, times=1))
            with refused(errno.ENOSPC):
                await volume.write("f", b"HE")
            assert volume.blames(0, "f") == volume.blames(1, "f") == {"dirty": (1, 0, 0)}
            await volume.write("f", b"HE")
            assert await volume.read("f") == b"HEllo"
            assert volume.blames(0, "f") == {"dirty": (1, 0, 0)}

    trio.run(main)


def test_a_file_created_without_quorum_is_not_left_open_on_the_bricks() -> None:
    async def main() -> None:
        async with served(3) as volume:
            for child in (1, 2):
                place(volume.replicate.children[child], fault("create", times=1))
            with refused(errno.EIO):
                await volume.create("new")
        # leaving `served` checks that no brick holds an open file

    trio.run(main)


def test_what_was_made_while_a_copy_was_away_is_accused_of_everything() -> None:
    async def main() -> None:
        async with served(2, granular_entry_heal="on") as volume:
            await volume.bricks[0].kill()
            await volume.create("file")
            await volume.mkdir("folder")
            await volume.mknod("pipe", 0o010644)
            await volume.symlink("link", b"file")
            found = {path: volume.blames(1, path).get("client-0") for path in ("file", "folder", "pipe", "link")}
            assert found == {"file": (1, 1, 0), "folder": (1, 1, 1), "pipe": (0, 1, 0), "link": None}

    trio.run(main)


# -- callers that go away, and fops that meet -----------------------------------------------------------------------


def slow(volume: Volume, fop: str, child: int = 0) -> Fault:
    injected = Fault("delay", fops=frozenset({fop}), delay_s=10)
    place(volume.replicate.children[child], injected)
    return injected


@EACH
def test_a_transaction_that_has_begun_is_finished_though_its_caller_is_cancelled(
    fop: str, act: Act, owner: str, counters: tuple[int, int, int]
) -> None:
    async def main() -> None:
        async with served(2) as volume:
            await prepared(volume)
            delayed = slow(volume, fop)
            with trio.move_on_after(1):
                await act(volume)
            lift(volume.replicate.children[0], delayed)
            await volume.replicate.drain()
            assert delayed.fired >= 1
            assert volume.all_marks(0) == volume.all_marks(1) == {}
            assert volume.tree(0) == volume.tree(1)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_caller_that_is_cancelled_while_it_waits_for_another_has_changed_nothing() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await prepared(volume)
            slow(volume, "mkdir")
            frame, root = volume.tick(), volume.graph.itable.root
            async with trio.open_nursery() as nursery:
                nursery.start_soon(volume.top.mkdir, frame, root, b"x", 0o755, volume.process.new_gfid())
                await trio.sleep(1)
                with trio.move_on_after(1) as scope:
                    await volume.top.unlink(frame, root, b"x", await volume.inode("f"))
                assert scope.cancelled_caught
            assert await volume.names_in("/") == ["d", "f", "g", "gone", "x"]
            assert not volume.replicate.locks.held

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_two_who_make_the_same_name_get_one_directory_on_all_copies() -> None:
    async def main() -> None:
        async with served(2) as volume:
            slow(volume, "mkdir", 0)
            slow(volume, "mkdir", 1)
            outcomes: list[str] = []

            async def make() -> None:
                frame, root = volume.tick(), volume.graph.itable.root
                try:
                    await volume.top.mkdir(frame, root, b"x", 0o755, volume.process.new_gfid())
                    outcomes.append("made")
                except OSError:
                    raise
                except Exception as error:
                    outcomes.append(errno.errorcode[error.errno])  # type: ignore[attr-defined]

            async with trio.open_nursery() as nursery:
                nursery.start_soon(make)
                nursery.start_soon(make)
            assert outcomes == ["made", "EEXIST"]
            assert volume.tree(0) == volume.tree(1)
            assert volume.all_marks(0) == volume.all_marks(1) == {}

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_writes_that_overlap_happen_in_the_same_order_on_all_copies() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", bytes(100))
            fd = await volume.open("f")
            injected = [
                Fault("delay", fops=frozenset({"writev"}), delay_s=delay, rate=0.5, seed=n)
                for n, delay in enumerate((1, 3))
            ]
            for edge, one in zip(volume.replicate.children, injected, strict=True):
                place(edge, one)
            async with trio.open_nursery() as nursery:
                for n in range(20):
                    nursery.start_soon(volume.top.writev, volume.tick(), fd, bytes([n]) * 30, n * 7 % 70)
            for edge, one in zip(volume.replicate.children, injected, strict=True):
                lift(edge, one)
            await volume.close(fd)
            assert volume.content(0, "f") == volume.content(1, "f")
            assert volume.all_marks(0) == volume.all_marks(1) == {}

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_brick_that_dies_in_the_middle_of_a_write_is_accused() -> None:
    async def main() -> None:
        async with served(2, brick={"io-mode": "pool"}) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            slow(volume, "writev", 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(volume.top.writev, volume.tick(), fd, b"HE", 0)
                await trio.sleep(1)
                await volume.bricks[0].kill()
            await volume.close(fd)
            assert volume.blames(1, "f") == {"client-0": (1, 0, 0)}
            assert await volume.read("f") == b"HEllo"

    trio.run(main, clock=MockClock(autojump_threshold=0.05))


def test_a_file_is_written_on_a_brick_that_came_back_while_it_was_open() -> None:
    async def main() -> None:
        async with served(2) as volume:
            fd = await volume.created("f")
            await volume.top.writev(volume.tick(), fd, b"aaaa", 0)
            await volume.bricks[0].kill()
            await volume.top.writev(volume.tick(), fd, b"bbbb", 4)
            await volume.bricks[0].start()
            await volume.top.writev(volume.tick(), fd, b"cccc", 8)
            await volume.close(fd)
            assert volume.content(0, "f") == b"aaaa\0\0\0\0cccc"  # the middle is for healing
            assert volume.blames(1, "f") == {"client-0": (1, 0, 0)}
            assert await volume.read("f") == b"aaaabbbbcccc"

    trio.run(main)


def test_a_file_opened_while_a_brick_was_away_is_opened_there_before_it_is_written() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"aaaa")
            await volume.bricks[1].kill()
            fd = await volume.open("f", os.O_RDWR)
            await volume.bricks[1].start()
            await volume.top.writev(volume.tick(), fd, b"bb", 1)
            await volume.close(fd)
            assert volume.tree(0) == volume.tree(1)
            assert volume.all_marks(0) == volume.all_marks(1) == {}

    trio.run(main)


def test_many_writers_open_a_file_only_once_on_a_brick_that_came_back() -> None:
    async def main() -> None:
        async with served(2, brick={"io-mode": "pool"}) as volume:
            await volume.create("f", bytes(1000))
            fd = await volume.open("f")
            await volume.bricks[0].kill()
            await volume.bricks[0].start()
            async with trio.open_nursery() as nursery:
                for n in range(10):
                    nursery.start_soon(volume.top.writev, volume.tick(), fd, b"x" * 100, n * 100)
                nursery.start_soon(volume.top.readv, volume.reader, fd, 10, 0)
            await volume.close(fd)
            assert volume.content(0, "f") == volume.content(1, "f") == b"x" * 1000
        # leaving `served` checks that no brick holds an open file

    trio.run(main)


def test_a_fop_waits_for_a_lock_that_healing_holds_and_cannot_be_torn_while_it_ends() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            await volume.top.writev(volume.tick(), fd, b"HE", 0)
            replicate = volume.replicate
            grant = await replicate.locks.acquire(fd.inode.gfid, locks.data())
            done: list[str] = []

            async def flush() -> None:
                with trio.move_on_after(1):
                    await volume.top.flush(volume.tick(), fd)
                    done.append("flushed")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(flush)
                await trio.sleep(2)
                assert not done
                replicate.locks.release(grant)
            assert volume.all_marks(0) == volume.all_marks(1) == {}
            await volume.close(fd)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_lookup_in_the_middle_of_a_rename_waits_instead_of_finding_two_files() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await prepared(volume)
            moved = await volume.lookup("f")
            slow(volume, "rename", 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(volume.rename, "f", "g")
                await trio.sleep(5)
                assert (await volume.lookup("g")).gfid == moved.gfid
            assert volume.all_marks(0) == volume.all_marks(1) == {}

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_lookup_in_the_middle_of_a_write_does_not_take_the_slower_copy_for_a_bad_one() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            delayed = slow(volume, "writev", 1)
            place(volume.replicate.children[0], Fault("delay", fops=frozenset({"lookup"}), delay_s=4))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(volume.top.writev, volume.tick(), fd, b" world", 5)
                await trio.sleep(7)
                await volume.lookup("f")  # one copy answers before the write has come there, the other after
            lift(volume.replicate.children[1], delayed)
            known = await volume.replicate.known(volume.reader, fd.inode)
            assert (known.data, known.metadata) == (0, 0)
            await volume.close(fd)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_file_that_loses_its_name_while_it_is_changed_is_changed_on_all_copies_or_none() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await prepared(volume)
            slow(volume, "setattr", 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(volume.chmod, "f", 0o600)
                await trio.sleep(1)
                await volume.unlink("f")
            assert volume.all_marks(0) == volume.all_marks(1) == {}
            assert volume.tree(0) == volume.tree(1)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("copies", [2, 3])
def test_a_directory_is_not_removed_though_a_stale_copy_of_it_is_empty(copies: int) -> None:
    async def main() -> None:
        async with served(copies) as volume:
            await volume.mkdir("d")
            await volume.bricks[0].kill()
            await volume.create("d/f", b"kept")
            await volume.bricks[0].start()

            with refused(errno.ENOTEMPTY):
                await volume.rmdir("d")

            await volume.replicate.healer.sweep(full=True)
            assert await volume.read("d/f") == b"kept"
            assert [volume.all_marks(brick) for brick in range(copies)] == [{}] * copies

    trio.run(main)
