"""The plugin as pytest sees it: marker, seed, report, skips, and what is left when a run is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusemux.testing.wish import Wish, WishError, wish_of
from tests.mounting import ROOT, mounts_below

SUITE = """
import os
import pytest

@pytest.mark.fusemux("1", backend="graph")
def test_passes(fusemux_volume):
    print("seed", fusemux_volume.seed)

@pytest.mark.fusemux(replica=2, backend="graph")
def test_fails(fusemux_volume):
    async def scenario(volume):
        await volume.faults.error(fop="mkdir", errno="EROFS")
        await volume.write("/file", b"data")
        await volume.mkdir("/dir")
    fusemux_volume.run(scenario)
"""


def run(folder: Path, suite: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """pytest in a project of its own, whose temporary files lie in `folder`."""
    (folder / "test_suite.py").write_text(suite)
    return subprocess.run(command(*words), cwd=folder, env=environment(folder, **env), capture_output=True, text=True)


def command(*words: str) -> list[str]:
    plugins = ["-p", "fusemux.testing.plugin", "-p", "no:cacheprovider"]
    return [sys.executable, "-m", "pytest", "--strict-markers", "-W", "error", *plugins, *words]


def environment(folder: Path, **env: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder), **env}


def test_a_failure_shows_faults_calls_and_graph(tmp_path: Path) -> None:
    done = run(tmp_path, SUITE)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    report = done.stdout.partition("fusemux volume")[2]
    assert "EROFS on mkdir at mount: matched 1, fired 1" in report
    assert re.search(r"writev\(.*data=b'data'", report)
    assert "type cluster/replicate" in report
    assert "--fusemux-seed=" in report
    assert not list(tmp_path.glob("fusemux-pytest-*"))


def test_the_seed_is_printed_and_accepted(tmp_path: Path) -> None:
    first = run(tmp_path, SUITE, "-s", "-k", "passes")
    (seed,) = re.findall(r"--fusemux-seed=(\d+)", first.stdout)
    again = run(tmp_path, SUITE, "-s", "-k", "passes", f"--fusemux-seed={seed}")
    other = run(tmp_path, SUITE, "-s", "-k", "passes", "--fusemux-seed=1")
    seeds = [re.findall(r"seed (\d+)", done.stdout) for done in (first, again, other)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_nothing_heavy_is_imported_before_the_fixture_is_used(tmp_path: Path) -> None:
    suite = """
import sys

def test_imports():
    assert not {"trio", "pyfuse3", "msgpack", "fusemux.graph", "fusemux.serve", "fusemux.volume"} & sys.modules.keys()
"""
    assert run(tmp_path, suite, "-p", "no:trio").returncode == 0


def test_what_is_not_there_yet_is_skipped_with_the_reason(tmp_path: Path) -> None:
    from fusemux.graph.framework import registry

    if registry.find("cluster/disperse") is not None:
        pytest.skip("cluster/disperse is there")
    suite = """
import pytest

@pytest.mark.fusemux(disperse="4+2", backend="graph")
def test_dispersed(fusemux_volume): ...
"""
    assert "SKIPPED [1] " in (shown := run(tmp_path, suite, "-rs").stdout)
    assert "no cluster/disperse yet" in shown


def test_without_dev_fuse_the_test_is_skipped_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        """
import fusemux.mount.preflight as preflight
preflight.check_fuse.__kwdefaults__["device"] = "/dev/there-is-none"
"""
    )
    shown = run(tmp_path, "def test_mounts(fusemux_volume): ...", "-rs").stdout
    assert "1 skipped" in shown
    assert "there is no /dev/there-is-none" in shown


def test_a_marker_that_makes_no_sense_fails_the_test_with_the_way_out(tmp_path: Path) -> None:
    suite = """
import pytest

@pytest.mark.fusemux(replicas=3)
def test_typo(fusemux_volume): ...

@pytest.mark.fusemux("2by2", backend="graph")
def test_spec(fusemux_volume): ...

@pytest.mark.fusemux(volatile="name")
def test_volatile(fusemux_volume): ...
"""
    shown = run(tmp_path, suite).stdout
    assert "3 errors" in shown
    assert "unknown word 'replicas'; known are" in shown
    assert "'2by2' is no shape" in shown
    assert "volatile 'name'; known are True, False and 'names'" in shown


@pytest.mark.parametrize(
    ("args", "words", "spec"),
    [
        ((), {}, "replica=3"),
        (("2x2",), {}, "2x2"),
        (("2x2",), {"size": "64M"}, "2x2,size=64M"),
        ((), {"replica": 3, "arbiter": 1, "distribute": 2}, "distribute=2,replica=3,arbiter=1"),
        ((), {"disperse": "4+2"}, "disperse=4+2"),
    ],
)
def test_the_marker_reads_as_a_spec(args: tuple[str, ...], words: dict[str, object], spec: str) -> None:
    assert wish_of(args, words) == Wish(spec)


@pytest.mark.parametrize(
    ("args", "words"),
    [(("2x2", "3"), {}), ((3,), {}), (("2x2",), {"volfile": "x"}), ((), {"backend": "nfs"}), ((), {"replic": 2})],
)
def test_what_the_marker_refuses(args: tuple[object, ...], words: dict[str, object]) -> None:
    with pytest.raises(WishError):
        wish_of(args, words)


VOLFILE = """
volume one
    type storage/posix
    option directory $BRICKS/one
end-volume
volume two
    type storage/posix
    option directory $BRICKS/two
end-volume
volume both
    type cluster/replicate
    subvolumes one two
end-volume
"""


def test_a_volfile_is_served_with_the_directories_it_names(tmp_path: Path) -> None:
    (tmp_path / "pair.vol").write_text(VOLFILE)
    suite = """
import pytest

@pytest.mark.fusemux(volfile="pair.vol", backend="graph")
def test_pair(fusemux_volume):
    async def scenario(volume):
        await volume.write("/file", b"data")
        assert [brick.read_bytes("/file") for brick in volume.bricks] == [b"data"] * 2
        assert volume.bricks_identical()
    fusemux_volume.run(scenario)
"""
    done = run(tmp_path, suite)
    assert done.returncode == 0, done.stdout


@pytest.mark.mount
def test_a_run_that_is_killed_leaves_no_mount_no_process_and_no_file(tmp_path: Path) -> None:
    suite = """
import time

def test_waits(fusemux_volume):
    print(fusemux_volume.pid, fusemux_volume.path, fusemux_volume.brick(0).path.parent, flush=True)
    time.sleep(60)
"""
    (tmp_path / "test_suite.py").write_text(suite)
    child = subprocess.Popen(
        command("-s", "-q"), cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    pid, path, bricks = next(line for line in child.stdout if line.count("/") > 3).split()
    server = os.pidfd_open(int(pid))
    assert mounts_below(path)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    import select

    assert select.select([server], [], [], 30)[0], "the server goes on"
    os.close(server)
    assert not mounts_below(path)
    assert not Path(path).exists()
    assert not Path(bricks).exists()


@pytest.mark.mount
def test_workers_of_xdist_do_not_meet(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    suite = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_alone(fusemux_volume, number):
    assert list(fusemux_volume.path.iterdir()) == []
    (fusemux_volume.path / "file").write_text(str(number))
    fusemux_volume.crash()
    assert [path.name for path in fusemux_volume.path.iterdir()] == ["file"]
"""
    done = run(tmp_path, suite, "-n", "2", "-p", "xdist")
    assert "4 passed" in done.stdout, done.stdout
    assert not list(tmp_path.glob("fusemux-pytest-*"))
