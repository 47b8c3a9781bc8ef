"""Transactions: copies that fail in each phase, or are away, and what is recorded of that."""

from __future__ import annotations

import errno

import pytest
import trio

from fusemux.graph.debug.fault import Fault, place
from tests.graph.cluster.replicate.changes import EACH, Act, fault, prepared
from tests.graph.cluster.replicate.volume import refused, served


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
