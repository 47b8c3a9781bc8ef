"""The process: gfids, requests for what exists once, and background tasks that cannot take it down."""

from __future__ import annotations

import itertools
import logging
import uuid

import pytest
import trio
import trio.testing

from fusemux.graph.framework.gfids import RUN, gfid_of
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import ino_of
from tests.graph.framework.layers import Idle


def test_a_gfid_is_a_version_4_uuid_and_never_comes_twice() -> None:
    process = Process(seed=1)
    gfids = [process.new_gfid() for _ in range(20_000)]
    assert len(set(gfids)) == len(gfids)
    for gfid in gfids[:500]:
        made = uuid.UUID(bytes=gfid)
        assert made.version == 4
        assert made.variant == uuid.RFC_4122


def test_gfids_stay_in_one_handle_folder_for_thousands_and_then_move_on() -> None:
    process = Process(seed=1)
    folders = [process.new_gfid()[:2] for _ in range(20_000)]
    runs = 1 + sum(left != right for left, right in itertools.pairwise(folders))
    assert 1 < runs <= 20_000 // 4096 + 1


def test_a_seed_replays_the_gfids_and_without_one_they_differ() -> None:
    assert Process(seed=7).new_gfid() == Process(seed=7).new_gfid()
    assert Process().new_gfid() != Process().new_gfid()


def test_a_gfid_is_found_by_its_inode_number() -> None:
    process = Process()
    for _ in range(3 * RUN):
        gfid = process.new_gfid()
        assert gfid_of(ino_of(gfid)) == gfid


@pytest.mark.parametrize("ino", [0, 1, 1 << 62, 3 << 62, (1 << 64) - 1])
def test_what_is_no_inode_number_of_ours_has_no_gfid(ino: int) -> None:
    assert gfid_of(ino) is None


def test_a_gfid_of_somebody_else_is_not_mistaken_for_ours() -> None:
    gfid = uuid.UUID("8a1c3f52-7d4e-4b6a-9c0d-1e2f3a4b5c6d").bytes
    found = gfid_of(ino_of(gfid))
    assert found is not None
    assert found != gfid


def test_the_largest_request_for_threads_wins_and_withdrawing_it_gives_way() -> None:
    process = Process(pool_threads=4)
    one, two = Idle("one", {}, process), Idle("two", {}, process)
    seen = []
    for who, value in ((one, 6), (two, 12), (one, 3), (two, None), (one, None)):
        process.request("pool-threads", who, value)
        seen.append(process.pool.threads)
    assert seen == [6, 12, 12, 3, 4]


def test_translators_of_the_same_name_in_two_volumes_do_not_share_a_request() -> None:
    process = Process(pool_threads=4)
    one, two = Idle("posix", {}, process), Idle("posix", {}, process)
    process.request("pool-threads", one, 16)
    process.request("pool-threads", two, 8)
    assert process.pool.threads == 16
    process.withdraw(one)
    assert process.pool.threads == 8


def test_a_request_reaches_the_threads_of_a_pool_that_is_running() -> None:
    async def main() -> None:
        async with Process(pool_threads=1) as process:
            brick, other = Idle("b", {}, process), Idle("o", {}, process)
            gate = trio.Event()
            running = 0

            async def held(key: object) -> None:
                nonlocal running

                def started() -> None:
                    nonlocal running
                    running += 1

                def work() -> None:
                    trio.from_thread.run_sync(started)
                    trio.from_thread.run(gate.wait)

                await process.pool.run(key, work)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(held, brick)
                nursery.start_soon(held, other)
                while running < 1:
                    await trio.testing.wait_all_tasks_blocked()
                assert running == 1
                process.request("pool-threads", brick, 2)
                while running < 2:
                    await trio.testing.wait_all_tasks_blocked()
                gate.set()

    trio.run(main)


def test_the_last_request_for_a_log_level_wins() -> None:
    process = Process()
    log = logging.getLogger("fusemux")
    before = log.level
    one, two = Idle("one", {}, process), Idle("two", {}, process)
    try:
        process.request("log-level", one, "DEBUG")
        process.request("log-level", two, "ERROR")
        assert log.level == logging.ERROR
        process.request("log-level", one, "DEBUG")
        assert log.level == logging.DEBUG
        process.withdraw(one)
        assert log.level == logging.ERROR
    finally:
        log.setLevel(before)


def test_a_setting_that_does_not_exist_is_refused() -> None:
    process = Process()
    with pytest.raises(KeyError, match="event-threads"):
        process.request("event-threads", Idle("one", {}, process), 2)


def test_a_background_task_that_fails_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Process() as process:
            done = trio.Event()

            async def failing() -> None:
                raise OSError("the disk is on fire")

            async def working() -> None:
                done.set()

            process.spawn(failing)
            await trio.testing.wait_all_tasks_blocked()
            process.spawn(working)
            with trio.fail_after(5):
                await done.wait()

    trio.run(main)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the disk is on fire" in caplog.text


def test_background_tasks_end_with_the_process_or_with_their_scope() -> None:
    ended: list[str] = []

    async def task(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(name)

    async def main() -> None:
        async with Process() as process:
            scope = process.spawn(task, "first")
            process.spawn(task, "second")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert ended == ["first"]
        assert ended == ["first", "second"]

    trio.run(main)


def test_nothing_runs_in_the_background_of_a_process_that_was_not_entered() -> None:
    with pytest.raises(RuntimeError, match="not entered"):
        Process().spawn(trio.sleep_forever)


def test_an_error_leaves_the_process_as_it_is_and_not_in_a_group() -> None:
    async def main() -> None:
        async with Process() as process:
            process.spawn(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        trio.run(main)


@pytest.mark.parametrize(("text", "strict"), [("", False), ("0", False), ("1", True)])
def test_strict_mode_comes_from_the_environment_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch, text: str, strict: bool
) -> None:
    monkeypatch.setenv("FUSEMUX_STRICT", text)
    assert Process().strict is strict
    assert Process(strict=not strict).strict is not strict
