"""Locks between transactions."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusemux.graph.cluster.replicate import locks
from fusemux.graph.cluster.replicate.locks import Locks, Span

A, B = b"a" * 16, b"b" * 16


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        (locks.data(), locks.data(5, 6), True),
        (locks.data(0, 5), locks.data(5, 9), False),
        (locks.data(0, 6), locks.data(5, 9), True),
        (locks.data(), locks.metadata(), False),
        (locks.metadata(), locks.metadata(), True),
        (locks.name(b"x"), locks.name(b"x"), True),
        (locks.name(b"x"), locks.name(b"y"), False),
        (locks.name(None), locks.name(b"y"), True),
        (locks.name(b"x"), locks.data(), False),
    ],
)
def test_which_locks_conflict(one: Span, other: Span, conflict: bool) -> None:
    assert one.conflicts(other) is other.conflicts(one) is conflict


def test_locks_are_granted_in_the_order_they_were_asked_for() -> None:
    async def main() -> None:
        table = Locks()
        order: list[str] = []

        async def take(label: str, span: Span) -> None:
            grant = await table.acquire(A, span)
            order.append(label)
            await trio.sleep(1)
            table.release(grant)

        async with trio.open_nursery() as nursery:
            for label, span in [
                ("low", locks.data(0, 10)), ("high", locks.data(10, 20)), ("all", locks.data()), ("low again", locks.data(0, 5)),
            ]:  # fmt: skip
                nursery.start_soon(take, label, span)
                await wait_all_tasks_blocked()
        assert order == ["low", "high", "all", "low again"]
        assert table.held == {}

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_caller_that_is_cancelled_while_it_waits_leaves_no_trace() -> None:
    async def main() -> None:
        table = Locks()
        first = await table.acquire(A, locks.name(b"x"))
        with trio.move_on_after(0) as scope:
            await table.acquire_all([(B, locks.name(b"y")), (A, locks.name(None))])
        assert scope.cancelled_caught
        assert list(table.held) == [A]
        table.release(first)
        table.release(await table.acquire(A, locks.name(b"x")))
        assert table.held == {}

    trio.run(main)


def test_a_lock_on_all_names_stands_for_the_callers_other_names_there() -> None:
    async def main() -> None:
        table = Locks()
        grants = await table.acquire_all([(A, locks.name(b"x")), (A, locks.name(None)), (B, locks.name(b"y"))])
        assert [(grant.gfid, grant.span.name) for grant in grants] == [(A, None), (B, b"y")]
        table.release(*grants)
        assert table.held == {}

    trio.run(main)


def test_two_renames_in_opposite_directions_do_not_wait_for_each_other() -> None:
    async def main() -> None:
        table = Locks()

        async def rename(source: bytes, target: bytes) -> None:
            for _ in range(10):
                grants = await table.acquire_all([(source, locks.name(b"n")), (target, locks.name(b"n"))])
                await trio.lowlevel.checkpoint()
                table.release(*grants)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rename, A, B)
                nursery.start_soon(rename, B, A)

    trio.run(main)
