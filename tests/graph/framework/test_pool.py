"""The thread pool: bounded, fair between bricks, and never leaves a system call half done."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from fusemux.graph.framework.pool import Pool


class Gate:
    """Calls that are in the pool wait here; `running` says whose they are, in the order they began."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.finished: list[str] = []
        self._passes = threading.Semaphore(0)

    def call(self, brick: str) -> str:
        self.running.append(brick)
        self._passes.acquire()
        self.finished.append(brick)
        return brick

    def let(self, count: int) -> None:
        for _ in range(count):
            self._passes.release()

    async def wait_running(self, count: int) -> None:
        """Until `count` calls have begun and no more can."""
        with trio.fail_after(10):
            while len(self.running) < count:
                await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()


def run(body: Callable[[Pool, Gate, trio.Nursery], Awaitable[None]], *, threads: int) -> None:
    async def main() -> None:
        pool, gate = Pool(threads), Gate()
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await body(pool, gate, nursery)
                finally:
                    gate.let(1000)
        finally:
            pool.close()

    trio.run(main)


def test_a_call_returns_its_result_or_its_error() -> None:
    async def body(pool: Pool, gate: Gate, nursery: trio.Nursery) -> None:
        assert await pool.run("a", lambda: 42) == 42
        with pytest.raises(ZeroDivisionError):
            await pool.run("a", lambda: 1 // 0)

    run(body, threads=2)


def test_one_brick_occupies_at_most_half_of_the_threads() -> None:
    async def body(pool: Pool, gate: Gate, nursery: trio.Nursery) -> None:
        for _ in range(10):
            nursery.start_soon(pool.run, "slow", gate.call, "slow")
        await gate.wait_running(2)
        assert gate.running == ["slow"] * 2
        nursery.start_soon(pool.run, "other", gate.call, "other")
        await gate.wait_running(3)
        assert gate.running[2] == "other"

    run(body, threads=4)


def test_no_more_calls_run_than_there_are_threads() -> None:
    async def body(pool: Pool, gate: Gate, nursery: trio.Nursery) -> None:
        for brick in "abcdef":
            for _ in range(3):
                nursery.start_soon(pool.run, brick, gate.call, brick)
        await gate.wait_running(4)
        assert len(gate.running) == 4

    run(body, threads=4)


def test_a_brick_with_a_long_queue_does_not_go_before_one_that_waits_for_its_first_turn() -> None:
    async def body(pool: Pool, gate: Gate, nursery: trio.Nursery) -> None:
        for _ in range(50):
            nursery.start_soon(pool.run, "busy", gate.call, "busy")
        await gate.wait_running(1)
        nursery.start_soon(pool.run, "also", gate.call, "also")
        await gate.wait_running(2)
        nursery.start_soon(pool.run, "late", gate.call, "late")
        await trio.testing.wait_all_tasks_blocked()
        gate.let(1)
        await gate.wait_running(3)
        assert gate.running[2] == "late"

    run(body, threads=2)


def test_a_pool_of_one_thread_serves_every_brick() -> None:
    async def body(pool: Pool, gate: Gate, nursery: trio.Nursery) -> None:
        assert [await pool.run(brick, str.upper, brick) for brick in "abc"] == ["A", "B", "C"]

    run(body, threads=1)


def test_growing_lets_more_calls_begin_at_once() -> None:
    async def body(pool: Pool, gate: Gate, nursery: trio.Nursery) -> None:
        for brick in "aabb":
            nursery.start_soon(pool.run, brick, gate.call, brick)
        await gate.wait_running(2)
        assert len(gate.running) == 2
        pool.resize(4)
        await gate.wait_running(4)

    run(body, threads=2)


def test_shrinking_waits_for_the_calls_that_run() -> None:
    async def body(pool: Pool, gate: Gate, nursery: trio.Nursery) -> None:
        for brick in "abcd":
            nursery.start_soon(pool.run, brick, gate.call, brick)
        await gate.wait_running(4)
        pool.resize(1)
        nursery.start_soon(pool.run, "e", gate.call, "e")
        await trio.testing.wait_all_tasks_blocked()
        assert len(gate.running) == 4
        gate.let(4)
        await gate.wait_running(5)

    run(body, threads=4)


def test_cancelling_a_call_that_runs_waits_for_its_end() -> None:
    async def body(pool: Pool, gate: Gate, nursery: trio.Nursery) -> None:
        scope = trio.CancelScope()

        async def cancellable() -> None:
            with scope:
                await pool.run("a", gate.call, "a")

        nursery.start_soon(cancellable)
        await gate.wait_running(1)
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert gate.finished == []
        gate.let(1)
        with trio.fail_after(10):
            while not gate.finished:
                await trio.testing.wait_all_tasks_blocked()

    run(body, threads=2)


def test_cancelling_a_call_that_waits_never_runs_it_and_frees_its_place() -> None:
    async def body(pool: Pool, gate: Gate, nursery: trio.Nursery) -> None:
        nursery.start_soon(pool.run, "a", gate.call, "first")
        await gate.wait_running(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.run("a", gate.call, "never")
        assert scope.cancelled_caught
        gate.let(2)
        assert await pool.run("a", gate.call, "second") == "second"
        assert gate.running == ["first", "second"]

    run(body, threads=2)


def test_a_dropped_brick_leaves_nothing_behind() -> None:
    async def body(pool: Pool, gate: Gate, nursery: trio.Nursery) -> None:
        for brick in range(100):
            await pool.run(brick, int)
            pool.drop(brick)
        pool.drop("never seen")
        assert pool._keys == {}

    run(body, threads=2)
