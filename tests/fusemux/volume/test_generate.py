"""The generated graphs against those that GlusterFS 10.3 generated for the same volumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fusemux.graph.framework import volfile
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.process import Process
from fusemux.volume import generate, info
from fusemux.volume.definition import BrickSpec, Volume

CAPTURED = Path(__file__).parents[2] / "data" / "volfiles"


def captured(name: str) -> Volume:
    text = (CAPTURED / f"{name}.info").read_text()
    paths = [f"/srv/bricks/{name}/b{i}" for i in range(6)]
    stored = {f"localhost:{path.replace('/', '-')}": info.StoredBrick(BrickSpec(path), None) for path in paths}
    return info.read_info(name, text, "info", stored)


@pytest.mark.parametrize("name", ["gvd1", "gvd2r2", "gvarb", "gvec42"])
def test_client_graph_is_what_glusterfs_generates(name: str) -> None:
    assert volfile.write(generate.client_graph(captured(name))) == (CAPTURED / f"{name}.tcp-fuse.vol").read_text()


@pytest.mark.parametrize(
    ("name", "index", "shared"), [("gvd1", 0, 1), ("gvd2r2", 0, 4), ("gvarb", 0, 3), ("gvarb", 2, 3), ("gvec42", 0, 6)]
)
def test_brick_graph_is_what_glusterfs_generates(name: str, index: int, shared: int) -> None:
    text = (CAPTURED / f"{name}.localhost.srv-bricks-{name}-b{index}.vol").read_text()
    assert volfile.write(generate.brick_graph(captured(name), index, shared=shared)) == text


def test_only_the_last_brick_of_a_set_is_the_arbiter() -> None:
    volume = replace(captured("gvarb"), bricks=tuple(BrickSpec(f"/b/{i}") for i in range(6)))
    with_arbiter = [i for i in range(6) if any(s.type == "features/arbiter" for s in generate.brick_graph(volume, i))]
    assert with_arbiter == [2, 5]


def with_options(name: str, **options: str) -> Volume:
    volume = captured(name)
    return replace(
        volume, options={**volume.options, **{k.replace("__", ".").replace("_", "-"): v for k, v in options.items()}}
    )


@pytest.mark.parametrize("key", ["performance.write-behind", "performance.stat-prefetch", "features.ctime"])
def test_a_layer_that_is_switched_off_is_left_out(key: str) -> None:
    volume = captured("gvd2r2")
    before = [s.type for s in generate.client_graph(volume)]
    after = [s.type for s in generate.client_graph(replace(volume, options={**volume.options, key: "off"}))]
    gone = {"performance.write-behind": "performance/write-behind", "performance.stat-prefetch": "performance/md-cache"}
    before.remove(gone.get(key, "features/utime"))
    assert after == before


def test_a_layer_that_is_switched_on_takes_its_place_in_glusterfs_order() -> None:
    volume = with_options("gvd2r2", performance__io_cache="on", performance__read_ahead="on")
    types = [s.type for s in generate.client_graph(volume)]
    start = types.index("performance/write-behind")
    assert types[start : start + 4] == [
        f"performance/{w}" for w in ("write-behind", "read-ahead", "io-cache", "open-behind")
    ]


def test_a_volume_option_reaches_every_translator_that_has_a_row_for_it() -> None:
    sections = generate.client_graph(with_options("gvd2r2", ctime__noatime="off"))
    assert next(s for s in sections if s.type == "features/utime").options["noatime"] == "off"


def test_debug_translators_stand_above_the_one_they_were_asked_for() -> None:
    volume = with_options("gvd2r2", debug__error_gen="posix", debug__error_failure="50")
    first, second, third, *_ = generate.brick_graph(volume, 0)
    assert (second.type, second.subvolumes, third.subvolumes) == ("debug/error-gen", [first.name], [second.name])
    assert second.options["failure"] == "50"


def test_a_translator_that_does_not_exist_is_named_by_the_graph() -> None:
    process = Process()
    with pytest.raises(FusemuxError, match=r"there is no translator 'features/shard'"):
        Graph(generate.client_graph(with_options("gvd1", features__shard="on")), process)


def test_a_brick_keeps_its_name_in_graph_and_changelog_when_bricks_before_it_go() -> None:
    volume = replace(captured("gvd2r2"), numbers=(1, 4, 2, 5))
    graph = generate.client_graph(volume)
    assert [s.name for s in graph if s.type == "protocol/client"] == [f"gvd2r2-client-{n}" for n in (1, 4, 2, 5)]
    sets = [s.options["afr-pending-xattr"] for s in graph if s.type == "cluster/replicate"]
    assert sets == ["gvd2r2-client-1,gvd2r2-client-4", "gvd2r2-client-2,gvd2r2-client-5"]
