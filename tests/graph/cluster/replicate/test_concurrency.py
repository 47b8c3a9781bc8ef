"""Fops that meet, also with a heal, and callers that go away."""

from __future__ import annotations

import errno

import trio
from trio.testing import MockClock

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.debug.fault import Fault, lift, place
from tests.graph.cluster.replicate.changes import EACH, Act, prepared, slow
from tests.graph.cluster.replicate.volume import served


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
