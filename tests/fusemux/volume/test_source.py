"""Volfiles, cut into the client's graph and the graphs of its bricks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusemux.graph.framework import volfile
from fusemux.graph.framework.errors import FusemuxError
from fusemux.volume.source import VolfileSource, cut

CAPTURED = Path(__file__).parents[2] / "data" / "volfiles"

LOCAL = """
volume p0
    type storage/posix
    option directory /b/0
end-volume
volume l0
    type features/locks
    subvolumes p0
end-volume
volume p1
    type storage/posix
    option directory /b/1
end-volume
volume l1
    type features/locks
    subvolumes p1
end-volume
volume web-replicate-0
    type cluster/afr
    subvolumes l0 l1
end-volume
volume web
    type features/utime
    subvolumes web-replicate-0
end-volume
"""


def source(text: str, top: str | None = None) -> VolfileSource:
    return cut(volfile.parse(text, "web.vol"), "web.vol", top)


def test_a_graph_over_posix_is_cut_above_the_bricks_own_translators() -> None:
    found = source(LOCAL)
    assert [(s.name, s.type, s.subvolumes) for s in found.client_graph()] == [
        ("l0", "protocol/client", []),
        ("l1", "protocol/client", []),
        ("web-replicate-0", "cluster/afr", ["l0", "l1"]),
        ("web", "features/utime", ["web-replicate-0"]),
    ]
    assert [s.options["remote-subvolume"] for s in found.client_graph()[:2]] == ["/b/0", "/b/1"]
    assert [b.path for b in found.bricks] == ["/b/0", "/b/1"]
    assert [s.name for s in found.brick_graph(1, 1)] == ["p1", "l1"]
    assert found.name == "web"


def test_the_leaf_keeps_its_line_for_messages() -> None:
    assert source(LOCAL).client_graph()[0].line == 6


def test_a_generated_client_volfile_gets_generated_bricks() -> None:
    found = source((CAPTURED / "gvd2r2.tcp-fuse.vol").read_text())
    assert found.name == "gvd2r2"
    assert [b.path for b in found.bricks] == [f"/srv/bricks/gvd2r2/b{i}" for i in range(4)]
    bottom, *_, top = found.brick_graph(2, 1)
    assert (bottom.type, bottom.options["directory"]) == ("storage/posix", "/srv/bricks/gvd2r2/b2")
    assert (
        bottom.options["volume-id"] == "f26fe426-990c-48a4-ba63-c70273468cbb"
    )  # replicate's, so no other brick is taken
    assert top.type == "protocol/server"


def test_a_volume_without_sets_does_not_tell_its_id_so_the_bricks_own_is_taken() -> None:
    found = source((CAPTURED / "gvd1.tcp-fuse.vol").read_text())
    assert "volume-id" not in found.brick_graph(0, 1)[0].options


def test_generated_bricks_are_as_the_translator_above_wants_them() -> None:
    arbiter = source((CAPTURED / "gvarb.tcp-fuse.vol").read_text())
    assert [any(s.type == "features/arbiter" for s in arbiter.brick_graph(i, 1)) for i in range(3)] == [
        False,
        False,
        True,
    ]
    disperse = source((CAPTURED / "gvec42.tcp-fuse.vol").read_text())
    index = next(s for s in disperse.brick_graph(0, 1) if s.type == "features/index")
    assert index.options["xattrop64-watchlist"] == "trusted.ec.dirty"


def test_a_generated_brick_volfile_is_one_brick_and_its_leaf() -> None:
    found = source((CAPTURED / "gvd2r2.localhost.srv-bricks-gvd2r2-b0.vol").read_text())
    assert [s.type for s in found.client_graph()] == ["protocol/client"]
    assert len(found.brick_graph(0, 1)) == 18
    assert found.brick_graph(0, 1)[0].options["volume-id"] == "f26fe426-990c-48a4-ba63-c70273468cbb"


def test_another_top_leaves_out_what_is_not_below_it() -> None:
    found = source(LOCAL, "l1")
    assert [b.path for b in found.bricks] == ["/b/1"]
    assert [s.name for s in found.client_graph()] == ["l1"]


@pytest.mark.parametrize(
    ("text", "top", "message"),
    [
        (LOCAL, "wbe", "there is no volume 'wbe' in it, did you mean 'web'"),
        (LOCAL.replace("/b/0", "b/0"), None, r"line 6: 'l0' needs the absolute path of its brick.*got 'b/0'"),
        (LOCAL.replace("option directory /b/0", ""), None, "needs the absolute path"),
        ("volume web\ntype features/utime\nend-volume", None, "no brick in it"),
        (
            (CAPTURED / "gvarb.tcp-fuse.vol").read_text().replace("option volume-id 7", "option volume-id x"),
            None,
            r"'gvarb-replicate-0': option volume-id 'x.*' is no UUID",
        ),
        (
            (CAPTURED / "gvd1.tcp-fuse.vol")
            .read_text()
            .replace("remote-host localhost", "remote-host far.example.org"),
            None,
            "is on 'far.example.org'; only bricks of this machine",
        ),
    ],
)
def test_what_cannot_be_mounted_from_here_is_refused_with_its_line(text: str, top: str | None, message: str) -> None:
    with pytest.raises(FusemuxError, match=message):
        source(text, top)
