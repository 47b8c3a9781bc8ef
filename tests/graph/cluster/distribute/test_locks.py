"""FIFO locks: one holder a key, turns in order, nothing left behind by the cancelled."""

from __future__ import annotations

import trio
import trio.testing

from fusemux.graph.cluster.distribute.locks import Locks

A, B = (b"dir", b"a"), (b"dir", b"b")


def test_a_lock_that_nobody_holds_is_taken_without_waiting() -> None:
    async def main() -> None:
        locks = Locks()
        with trio.testing.assert_no_checkpoints():
            keys = await locks.take(B, A, B)
        assert keys == [A, B]
        assert set(locks.held) == {A, B}
        locks.give(keys)
        assert not locks.held

    trio.run(main)


def test_waiters_get_their_turn_in_the_order_they_came() -> None:
    async def main() -> None:
        locks, order = Locks(), []
        first = await locks.take(A)

        async def user(n: int) -> None:
            keys = await locks.take(A)
            order.append(n)
            await trio.lowlevel.checkpoint()
            locks.give(keys)

        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(user, n)
                await trio.testing.wait_all_tasks_blocked()
            locks.give(first)
        assert order == list(range(5))
        assert not locks.held

    trio.run(main)


def test_several_keys_are_taken_in_one_order_so_that_nobody_waits_in_a_circle() -> None:
    async def main() -> None:
        locks = Locks()

        async def user(*keys: tuple[bytes, bytes]) -> None:
            for _ in range(20):
                held = await locks.take(*keys)
                await trio.lowlevel.checkpoint()
                locks.give(held)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(user, A, B)
                nursery.start_soon(user, B, A)
                nursery.start_soon(user, B)
        assert not locks.held

    trio.run(main)


def test_a_waiter_that_is_cancelled_gives_back_what_it_had_and_the_turn_it_was_just_given() -> None:
    async def main() -> None:
        locks = Locks()
        b = await locks.take(B)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(locks.take, A, B)
            await trio.testing.wait_all_tasks_blocked()
            assert set(locks.held) == {A, B}
            nursery.cancel_scope.cancel()
        assert set(locks.held) == {B}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(locks.take, A, B)
            await trio.testing.wait_all_tasks_blocked()
            locks.give(b)  # granted, but cancelled before it could run
            nursery.cancel_scope.cancel()
        assert not locks.held or set(locks.held) == {A, B}
        if locks.held:  # it had run after all: then it holds both
            locks.give([A, B])
        assert not locks.held

    trio.run(main)
