"""Every option is observed where it is used; most of them after a live change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from fusemux.graph.cluster.distribute import Distribute
from fusemux.graph.cluster.distribute.options import OPTIONS, RebalanceSettings
from fusemux.graph.framework import volfile
from fusemux.graph.framework.errors import OptionError
from fusemux.graph.framework.options import parse_options

from .test_scenarios import file_at
from .volume import Volume, brick_directories, served

HERE = Path(__file__).parent
# Observed by a test of another file of this folder that has the option's name in it.
ELSEWHERE = {
    "lookup-unhashed", "lookup-optimize", "rmdir-optimize", "unhashed-sticky-bit", "use-readdirp",
    "readdir-optimize", "assert-no-child-down", "weighted-rebalance",
}  # fmt: skip
HERE_TESTED = {
    "min-free-disk", "min-free-inodes", "directory-layout-spread", "decommissioned-bricks", "rsync-hash-regex",
    "extra-hash-regex", "randomize-hash-range-by-gfid", "xattr-name", "rebal-throttle", "lock-migration",
    "force-migration", "ensure-durability", "rebalance-stats",
}  # fmt: skip


def set_live(v: Volume, **options: str) -> None:
    """As `volume set` does: a new volfile with the same topology."""
    sections = volfile.parse(volfile.write(v.graph.sections))
    sections[-1].options.update({key.replace("_", "-"): value for key, value in options.items()})
    v.graph.reconfigure(sections)


def test_every_option_is_observed_by_some_test() -> None:
    assert {option.name for option in OPTIONS} == ELSEWHERE | HERE_TESTED
    texts = "".join(path.read_text() for path in HERE.glob("test_*.py") if path.name != "test_options.py")
    for name in ELSEWHERE:
        assert name.replace("-", "_") in texts, name


def test_the_keys_are_those_of_volume_set() -> None:
    assert {option.key for option in OPTIONS if option.key} == {
        "cluster.lookup-unhashed", "cluster.lookup-optimize", "cluster.rmdir-optimize", "cluster.min-free-disk",
        "cluster.min-free-inodes", "cluster.rebalance-stats", "cluster.subvols-per-directory",
        "cluster.readdir-optimize", "cluster.rsync-hash-regex", "cluster.extra-hash-regex", "cluster.dht-xattr-name",
        "cluster.randomize-hash-range-by-gfid", "cluster.rebal-throttle", "cluster.lock-migration",
        "cluster.force-migration", "cluster.weighted-rebalance", "dht.force-readdirp", "rebalance.ensure-durability",
    }  # fmt: skip


def test_min_free_disk_and_min_free_inodes_decide_live_where_new_files_go() -> None:
    async def main() -> None:
        with brick_directories(2, 8 << 20) as paths:
            async with served(paths) as v:
                await v.create(v.name_for(0, start="big"), bytes(3 << 20))
                for n, (options, elsewhere) in enumerate(
                    [({"min_free_disk": "90%"}, True), ({"min_free_disk": "7MB"}, True), ({"min_free_disk": "4MB"}, False),
                     ({"min_free_inodes": "100%"}, True), ({"min_free_inodes": "1%"}, False)]):  # fmt: skip
                    set_live(v, **{"min_free_disk": "0", "min_free_inodes": "0", **options})
                    name = v.name_for(0, start=f"n{n}-")
                    for brick in range(2):  # brick 0 has one file more, and so fewer free inodes than 100 %
                        assert os.statvfs(paths[brick]).f_ffree < os.statvfs(paths[brick]).f_files
                    await v.create(name)
                    filled = v.dht.statedump()["filled"]
                    assert bool(filled) is elsewhere, options
                    if "min_free_disk" in options:
                        assert (1 in v.where(name)) is elsewhere, options

    trio.run(main)


def test_directory_layout_spread_limits_live_how_many_share_a_new_directory() -> None:
    async def main() -> None:
        async with served(4) as v:
            for spread, wanted in (("2", 2), ("9", 4), ("1", 1)):
                set_live(v, directory_layout_spread=spread)
                await v.mkdir(f"dir{spread}")
                shares = v.shares(f"dir{spread}")
                assert sum(share != bytes(16).hex() for share in shares) == wanted

    trio.run(main)


def test_decommissioned_bricks_get_neither_shares_nor_files_any_more() -> None:
    async def main() -> None:
        async with served(3) as v:
            set_live(v, decommissioned_bricks="v-client-1")
            await v.mkdir("dir")
            assert v.shares("dir")[1] == bytes(16).hex()
            for n in range(20):
                await v.create(f"dir/f{n}")
                assert 1 not in v.where(f"dir/f{n}")
            with pytest.raises(OptionError, match="subvolumes are v-client-0"):
                set_live(v, decommissioned_bricks="nobody")
            assert v.dht.opt.decommissioned_bricks == ("v-client-1",)

    trio.run(main)


@pytest.mark.parametrize(
    ("options", "name", "hashed_as"),
    [
        ({}, ".final.XyZ123", "final"),
        ({"rsync_hash_regex": "none"}, ".final.XyZ123", ".final.XyZ123"),
        ({"rsync_hash_regex": r"^(.+)~$"}, "final~", "final"),
        ({"extra_hash_regex": r"^tmp-(.*)$"}, "tmp-final", "final"),
    ],
)
def test_rsync_hash_regex_and_extra_hash_regex_place_temporary_names_like_final_ones(
    options: dict[str, str], name: str, hashed_as: str
) -> None:
    async def main() -> None:
        async with served(4) as v:
            set_live(v, **options)
            for n in range(10):
                temporary, final = name.replace("final", f"final{n}"), hashed_as.replace("final", f"final{n}")
                await v.create(temporary)
                if temporary != final:
                    await v.create(final)
                assert v.where(temporary) == v.where(final)
            with pytest.raises(OptionError, match="no regular expression"):
                set_live(v, extra_hash_regex="(")

    trio.run(main)


def test_randomize_hash_range_by_gfid_rotates_by_gfid_and_not_by_path() -> None:
    async def main() -> None:
        async with served(4) as v:
            for rotated, wanted in (("off", 1), ("on", 4)):
                set_live(v, randomize_hash_range_by_gfid=rotated)
                seen = set()
                for _ in range(40):
                    await v.mkdir("same")
                    seen.add(tuple(v.shares("same")))
                    await v.rmdir("same")
                assert len(seen) == wanted

    trio.run(main)


def test_weighted_rebalance_gives_larger_bricks_larger_shares() -> None:
    async def main() -> None:
        with brick_directories(2, [4 << 20, 12 << 20]) as paths:
            async with served(paths) as v:
                for weighted in ("on", "off"):
                    set_live(v, weighted_rebalance=weighted)
                    await v.mkdir(weighted)
                    sizes = [int(s[24:], 16) - int(s[16:24], 16) for s in v.shares(weighted) if s]
                    ratio = sizes[1] / sizes[0]
                    assert abs(ratio - (3 if weighted == "on" else 1)) < 0.001

    trio.run(main)


def test_xattr_name_names_all_of_distributes_xattrs() -> None:
    async def main() -> None:
        async with served(2, xattr_name="trusted.example") as v:
            await v.mkdir("dir")
            assert {len(v.xattr(b, "dir", "trusted.example") or b"") for b in range(2)} == {16}
            assert {v.xattr(b, "dir", "trusted.example.mds") for b in range(2)} == {bytes(4), None}
            origin, name = v.name_for(0), v.name_for(1)
            await v.create(origin)
            await v.rename(origin, name)
            assert v.xattr(1, name, "trusted.example.linkto") == b"v-client-0\0"

    trio.run(main)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (2, False, False, True, False)),
        ({"rebal-throttle": "lazy"}, (1, False, False, True, False)),
        ({"rebal-throttle": "aggressive"}, (4, False, False, True, False)),
        ({"lock-migration": "on"}, (2, True, False, True, False)),
        ({"force-migration": "on"}, (2, False, True, True, False)),
        ({"ensure-durability": "off"}, (2, False, False, False, False)),
        ({"rebalance-stats": "on"}, (2, False, False, True, True)),
    ],
)
def test_the_options_of_a_rebalance_become_its_settings(options: dict[str, str], expected: tuple[object, ...]) -> None:
    opt, unknown = parse_options(OPTIONS, options)
    assert not unknown
    assert RebalanceSettings.of(opt, processors=2) == expected


def test_a_rebalance_uses_half_of_the_processors_beyond_four() -> None:
    opt, _ = parse_options(OPTIONS, {})
    assert RebalanceSettings.of(opt, processors=24).files_at_once == 10


def test_the_settings_of_a_rebalance_follow_a_live_change() -> None:
    async def main() -> None:
        async with served(2) as v:
            set_live(v, rebal_throttle="lazy", lock_migration="on")
            told = v.dht.statedump()["rebalance"]
            assert (told["files_at_once"], told["with_locks"]) == (1, True)

    trio.run(main)


def test_a_refused_option_leaves_all_others_as_they_were() -> None:
    async def main() -> None:
        async with served(2) as v:
            before = v.dht.opt, v.dht.hash, v.dht.limits
            for bad in ({"min_free_disk": "200%"}, {"lookup_unhashed": "perhaps"}, {"xattr_name": "user.x"}):
                with pytest.raises(OptionError):
                    set_live(v, **bad)
                assert (v.dht.opt, v.dht.hash, v.dht.limits) == before
            name = await file_at(v, 0, 1, "name", b"data")
            assert await v.read(name) == b"data"

    trio.run(main)


def test_the_type_and_its_options_are_found_by_name() -> None:
    from fusemux.graph.framework import registry

    assert registry.find("cluster/dht") is registry.find("cluster/distribute") is Distribute
