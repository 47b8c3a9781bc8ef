"""The benchmarks on real volumes: tiny runs of each, with what they must tell, and nothing left mounted."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fusemux.bench import main
from fusemux.bench.requests import per_cycle
from fusemux.bench.volumes import sized, volumes
from fusemux.graph.framework.errors import FusemuxError
from tests import mounting

pytestmark = pytest.mark.mount


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    """`answer(words...)`: the JSON object that the benchmark prints; it ends well and leaves no mount."""

    def run(*words: str) -> dict[str, Any]:
        before = set(mounting.mounts_below("/"))
        assert main([*words, "--json"]) == 0
        assert set(mounting.mounts_below("/")) <= before
        return dict(json.loads(capsys.readouterr().out))

    return run


def test_mux_serves_all_volumes_from_one_process(answer: Any) -> None:
    told = answer("mux", "--files", "60", "--volumes", "3", "--volume", "2x2", "--threads", "6")
    assert told["errors"] == 0
    assert told["files_per_s"] > 0
    assert 10_000_000 < told["rss_rest_bytes"] <= told["rss_after_bytes"] + 5_000_000
    assert told["cpu_s"] > 0


def test_memory_tells_what_things_hold(answer: Any) -> None:
    told = answer("memory", "--volume", "1", "--volumes", "2", "--files", "1000", "--open", "50", "--passes", "0")
    assert told["bytes_per_volume"] < 5_000_000
    assert told["rss_rest_bytes"] > 10_000_000


def test_graph_measures_every_call_of_a_cycle(answer: Any) -> None:
    told = answer("graph", "--volume", "2x2", "--count", "50", "--profile")
    assert {"lookup", "create", "write", "flush", "release", "unlink", "forget"} <= told["calls"].keys()
    assert {"storage/posix", "cluster/replicate", "cluster/distribute"} <= told["layers_us"].keys()


def test_requests_are_counted_by_name(answer: Any) -> None:
    told = answer("requests", "--files", "30", "--volumes", "1", "--volume", "1", "--threads", "2")
    assert told["requests"]["CREATE"]["per_cycle"] == 1
    assert told["requests"]["UNLINK"]["us_each"] > 0
    assert told["requests"]["LOOKUP"]["per_cycle"] == 1
    assert 0 < told["requests"]["LOOKUP"]["errors"]["ENOENT"] < 30, "the others were answered from memory"


def test_counts_become_figures_per_cycle() -> None:
    count = {"count": 20, "ns": 40_000, "errors": {"2": 5, "99999": 1}}
    assert per_cycle(count, 10) == {
        "per_cycle": 2,
        "us_each": 2,
        "us_per_cycle": 4,
        "errors": {"ENOENT": 5, "99999": 1},
    }


def test_a_server_that_cannot_start_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FusemuxError, match="ended with status"), volumes(["nosuchvolume"]):
        pass
    assert "there is no volume 'nosuchvolume'" in capfd.readouterr().err


def test_bricks_have_room_for_what_is_written_unless_the_spec_says_otherwise() -> None:
    assert sized("2x2", 1 << 30) == "2x2,size=1280M"
    assert sized("2x2,size=1G", 1 << 30) == "2x2,size=1G"


def test_the_run_directory_is_gone_afterwards() -> None:
    with volumes(["1"]) as target:
        base = target.directories[0].parents[1]
        (target.directories[0] / "file").write_bytes(b"x")
    assert not base.exists()
    assert not Path(f"/proc/{target.pids[0]}").exists()


def test_a_server_that_was_killed_leaves_no_mount(capfd: pytest.CaptureFixture[str]) -> None:
    with volumes(["1", "2"]) as target:
        os.kill(target.pids[0], signal.SIGKILL)
    assert mounting.mounts_below(str(target.directories[0].parents[1])) == []


def test_a_heal_is_told_next_to_reading_both_copies(answer: Any) -> None:
    told = answer("heal", "--size", str(3 << 20), "--repeat", "2")
    assert told["heals"].keys() == {"diff", "full"}
    for heal in told["heals"].values():
        assert heal["heal_s"] > 0 < heal["read_s"]
        assert len(heal["of_reading_all"]) == 2


def test_what_has_no_copies_cannot_be_healed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["heal", "--size", "1048576", "--volume", "1"]) == 2
    assert "1 has no copies to heal; give --volume one that is replicated" in capsys.readouterr().err
