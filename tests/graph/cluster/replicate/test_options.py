"""Every option of the write path, the reads and quorum, set on a running volume and seen at work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from fusemux.graph.cluster.replicate import Replicate
from fusemux.graph.debug.fault import Fault, place
from fusemux.graph.framework.errors import FusemuxError, OptionError
from tests.graph.cluster.replicate.volume import Volume, served

Probe = Callable[[Volume], Awaitable[object]]


async def marked_after_a_write(volume: Volume) -> object:
    """Whether the dirty mark outlives a write."""
    fd = await volume.created("probe")
    await volume.top.writev(volume.tick(), fd, b"x", 0)
    marked = bool(volume.blames(0, "probe"))
    await volume.close(fd)
    await volume.unlink("probe")
    return marked


async def mark_after(volume: Volume, seconds: float) -> bool:
    fd = await volume.created("probe")
    await volume.top.writev(volume.tick(), fd, b"x", 0)
    await trio.sleep(seconds)
    marked = bool(volume.blames(0, "probe"))
    await volume.close(fd)
    await volume.unlink("probe")
    return marked


async def writes_at_once(volume: Volume) -> object:
    """How long two writes to different places take when each takes ten seconds."""
    fd = await volume.created("probe")
    slow = Fault("delay", fops=frozenset({"writev"}), delay_s=10, times=2)
    place(volume.replicate.children[0], slow)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(volume.top.writev, volume.tick(), fd, b"x", 0)
        nursery.start_soon(volume.top.writev, volume.tick(), fd, b"x", 100)
    took = trio.current_time() - began
    await volume.close(fd)
    await volume.unlink("probe")
    return took


async def mkdir_leaves_a_zero_mark(volume: Volume) -> object:
    """A mark that was set and cleared stays as zeros."""
    await volume.mkdir("probe")
    marked = "dirty" in volume.marks(0, "/")
    await volume.rmdir("probe")
    return marked


async def syncs_of_an_overwrite(volume: Volume) -> object:
    await volume.create("probe", bytes(10))
    synced = Fault("error", fops=frozenset({"fsync"}))
    place(volume.replicate.children[1], synced)
    await volume.write("probe", b"x")
    return synced.fired


async def full_heal_mark_of_a_new_directory(volume: Volume) -> object:
    await volume.bricks[1].kill()
    await volume.mkdir("probe")
    return volume.blames(0, "probe")["client-1"]


async def serves_with_one(volume: Volume) -> object:
    await volume.bricks[0].kill()
    return volume.replicate.members.serving


async def read_child(volume: Volume) -> object:
    """The child that a file is read from, told by which of two different contents comes."""
    await volume.create("probe", b"?")
    for brick in range(len(volume.bricks)):
        Path(volume.at(brick, "probe")).write_bytes(b"%d" % brick)
    return int(await volume.read("probe"))


async def listed_attributes(volume: Volume) -> object:
    for n in range(12):
        await volume.create(f"f{n}")
    return all(entry.iatt is not None for entry in await volume.listing("/", plus=True))


OPTIONS: list[tuple[str, str, object, str, object, Probe, dict[str, str]]] = [
    # option, one value, what is seen then, another value, what is seen then, how it is seen, options besides
    ("eager-lock", "on", True, "off", False, marked_after_a_write, {}),
    ("post-op-delay-secs", "1", True, "0", False, marked_after_a_write, {}),
    ("post-op-delay-secs", "2", False, "10", True, lambda volume: mark_after(volume, 4), {}),
    ("full-lock", "yes", 20.0, "no", 10.0, writes_at_once, {"eager_lock": "off"}),
    ("optimistic-change-log", "on", False, "off", True, mkdir_leaves_a_zero_mark, {}),
    ("ensure-durability", "off", 0, "on", 1, syncs_of_an_overwrite, {}),
    ("granular-entry-heal", "off", (0, 1, 1), "on", (1, 1, 1), full_heal_mark_of_a_new_directory, {}),
    ("quorum-type", "none", True, "auto", False, serves_with_one, {}),
    ("quorum-count", "1", True, "2", False, serves_with_one, {"quorum_type": "fixed"}),
    ("read-subvolume-index", "0", 0, "1", 1, read_child, {}),
    ("read-subvolume", "v-client-0", 0, "v-client-1", 1, read_child, {}),
    ("consistent-metadata", "no", True, "yes", False, listed_attributes, {"choose_local": "off"}),
]


@pytest.mark.parametrize(
    ("name", "one", "seen", "other", "seen_then", "probe", "besides"),
    OPTIONS,
    ids=lambda v: v if isinstance(v, str) else "",
)
@pytest.mark.parametrize("live", [False, True], ids=["from the start", "live"])
def test_an_option_is_seen_at_work(
    name: str, one: str, seen: object, other: str, seen_then: object, probe: Probe, besides: dict[str, str], live: bool
) -> None:
    async def look(value: str, before: str) -> object:
        key = name.replace("-", "_")
        async with served(2, **{**besides, key: before}) as volume:
            if live:
                volume.reconfigure(**{**besides, key: value})
            return await probe(volume)

    async def main() -> None:
        assert await look(one, other if live else one) == seen
        assert await look(other, one if live else other) == seen_then

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("live", [False, True], ids=["from the start", "live"])
def test_reads_are_spread_by_gfid_unless_the_first_local_copy_is_preferred(live: bool) -> None:
    async def children(**options: str) -> set[int]:
        async with served(2, **({} if live else options)) as volume:
            if live:
                volume.reconfigure(**options)
            found = set()
            for n in range(16):
                await volume.create(f"f{n}", b"?")
                for brick in (0, 1):
                    Path(volume.at(brick, f"f{n}")).write_bytes(b"%d" % brick)
                found.add(int(await volume.read(f"f{n}")))
            return found

    async def main() -> None:
        assert await children(choose_local="on") == {0}
        assert await children(choose_local="off") == {0, 1}
        assert await children(choose_local="off", read_hash_mode="0") == {0}
        assert await children(choose_local="off", read_hash_mode="2") == {0, 1}

    trio.run(main)


def test_the_names_in_the_changelog_are_those_of_the_volfile() -> None:
    async def main() -> None:
        async with served(
            2, afr_pending_xattr="v-client-7,v-client-8", afr_dirty_xattr="trusted.afr.unclean"
        ) as volume:
            await volume.bricks[1].kill()
            await volume.create("f")
            assert volume.marks(0, "/") == {"client-8": (0, 0, 1), "unclean": (0, 0, 0)}

    trio.run(main)


def test_as_many_names_are_needed_as_there_are_children() -> None:
    async def main() -> None:
        with pytest.raises(FusemuxError, match="names 1 children, there are 2"):
            async with served(2, afr_pending_xattr="v-client-0"):
                pass

    trio.run(main)


def test_a_child_that_does_not_exist_cannot_be_read_and_the_old_choice_stays() -> None:
    async def main() -> None:
        async with served(2, read_subvolume_index="1") as volume:
            with pytest.raises(OptionError, match="children 0 to 1"):
                volume.reconfigure(read_subvolume_index="2")
            assert await read_child(volume) == 1

    trio.run(main)


def test_the_keys_are_glusterfss() -> None:
    known = {row.key: row.default for row in Replicate.options if row.key}

    assert known["cluster.eager-lock"] == "on"
    assert known["cluster.post-op-delay-secs"] == "1"
    assert known["cluster.quorum-type"] is None
    assert known["cluster.read-hash-mode"] == "1"
    assert all(key.startswith("cluster.") for key in known)
