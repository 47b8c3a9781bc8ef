"""`fusemux bench` itself: its JSON, its tables, its exit status, its view of processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusemux.bench import main
from fusemux.bench.accounting import cpu_of, memory_of
from fusemux.bench.targets import plain


@pytest.fixture
def directories(tmp_path: Path) -> list[str]:
    made = [tmp_path / f"vol{n}" for n in range(2)]
    for path in made:
        path.mkdir()
    return [str(path) for path in made]


def mux(directories: list[str], *more: str) -> list[str]:
    return ["mux", "--files", "40", "--threads", "4", *more, "--dir", *directories]


def test_mux_prints_one_json_object_with_what_is_judged(
    directories: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(mux(directories, "--json", "--pid", str(os.getpid()))) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["errors"] == 0
    assert answer["files_per_s"] == answer["variants"]["cycle"]["per_s"] > 0
    assert min(answer["rss_rest_bytes"], answer["rss_after_bytes"], answer["pss_rest_bytes"]) > 1_000_000
    assert answer["cpu_s"] >= 0
    for variant in ("cycle", "phased"):
        assert answer["variants"][variant]["operations"] == 40
        for call in ("create", "write", "close", "unlink"):
            assert (
                0
                < answer["variants"][variant]["calls"][call]["p50_us"]
                <= answer["variants"][variant]["calls"][call]["p99_us"]
            )


def test_mux_prints_a_table_with_the_ratio_to_a_reference(
    directories: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(mux(directories, "--reference", "tmpfs", "--repeat", "3")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "median of 3" in lines[0]
    row = next(line.split() for line in lines if line.startswith("cycle tmpfs"))
    assert row[3] == "1.00"
    assert any(line.startswith("phased given") for line in lines)


def test_failed_calls_make_the_status_1_and_are_named(
    directories: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(directories[0]) / "t000-f0000000").touch()
    assert main(mux(directories, "--variant", "cycle")) == 1
    assert "first error: create" in capsys.readouterr().out


def test_a_directory_that_is_not_there_is_named_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mux", "--dir", "/nonexistent/there"]) == 2
    assert "/nonexistent/there is no directory" in capsys.readouterr().err


def test_a_process_that_died_is_an_error_and_no_figure(
    directories: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert main(mux(directories, "--pid", str(gone.pid))) == 2
    assert "died" in capsys.readouterr().err


def test_help_imports_neither_trio_nor_pyfuse3() -> None:
    code = (
        "import sys; from fusemux.bench import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'trio', 'pyfuse3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_the_cost_of_a_process_is_seen_from_outside() -> None:
    code = (
        "import time\nbusy = bytearray(50_000_000)\nwhile time.process_time() < 0.2: pass\nprint(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert cpu_of([process.pid]).cpu_s >= 0.2
        memory = memory_of([process.pid])
        assert memory.rss >= 50_000_000
        assert 50_000_000 <= memory.pss <= memory.rss
        assert memory.threads == 1
        process.communicate(b"\n")


def test_the_scratch_of_a_reference_is_gone_afterwards() -> None:
    with plain(2) as target:
        home = target.directories[0].parent
        assert [d.is_dir() for d in target.directories] == [True, True]
        (target.directories[0] / "file").write_bytes(b"x")
    assert not home.exists()
    assert str(home) not in Path("/proc/self/mounts").read_text()
