"""The load generators, in C and in Python, on a plain directory: what they do, count and answer."""

from pathlib import Path

import pytest

from fusemux.bench.generator import build_load_generator
from fusemux.bench.load import Load, run_load
from fusemux.graph.framework.errors import FusemuxError


@pytest.fixture(params=["c", "python"])
def python(request: pytest.FixtureRequest) -> bool:
    if request.param == "c" and build_load_generator() is None:
        pytest.skip("no C compiler")
    return request.param == "python"


@pytest.fixture
def directories(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"vol{n}" for n in range(3)]
    for path in made:
        path.mkdir()
    return made


@pytest.mark.parametrize("own_directories", [False, True])
@pytest.mark.parametrize("mode", ["cycle", "phased"])
def test_small_files_are_made_written_and_gone(
    directories: list[Path], python: bool, mode: str, own_directories: bool
) -> None:
    load = Load(mode, directories, threads=4, count=30, size=4096, own_directories=own_directories)
    result = run_load(load, python=python)
    assert (result.operations, result.errors, result.first_error) == (30, 0, "")
    assert result.bytes == 30 * 4096
    closes = 60 if mode == "phased" else 30
    counts = {name: result.calls[name].count for name in ("create", "write", "close", "unlink")}
    assert counts == {"create": 30, "write": 30, "close": closes, "unlink": 30}
    assert result.elapsed_s == sum(result.phases.values())
    assert set(result.phases) == ({"cycle"} if mode == "cycle" else {"create", "write_delete"})
    assert [list(directory.iterdir()) for directory in directories] == [[], [], []]


def test_a_file_of_several_blocks_is_written_with_as_many_calls(directories: list[Path], python: bool) -> None:
    result = run_load(Load("cycle", directories, count=2, size=10_000, block=4096), python=python)
    assert result.calls["write"].count == 6
    assert result.bytes == 20_000


def test_a_tree_is_created_looked_at_and_removed(directories: list[Path], python: bool) -> None:
    tree = Load("create", directories, threads=3, count=2500)
    assert run_load(tree, python=python).operations == 2500
    assert sum(len(list(d.glob("*/*"))) for d in directories) == 2500
    looked = run_load(tree.but("stat", passes=2, force_sync=True), python=python)
    assert (looked.calls["stat"].count, looked.errors) == (5000, 0)
    assert run_load(tree.but("remove"), python=python).errors == 0
    assert not any(list(directory.iterdir()) for directory in directories)


def test_a_big_file_is_written_and_read_back_whole(directories: list[Path], python: bool) -> None:
    big = Load("write", directories, threads=2, size=1 << 20, block=1 << 16)
    written = run_load(big, python=python)
    assert (written.bytes, written.calls["fsync"].count, written.errors) == (2 << 20, 2, 0)
    assert [path.stat().st_size for path in sorted(d / f"big.{n}" for n, d in enumerate(directories[:2]))] == [
        1 << 20
    ] * 2
    read = run_load(big.but("read"), python=python)
    assert (read.bytes, read.operations, read.errors) == (2 << 20, 32, 0)
    assert run_load(big.but("randread", block=4096, count=50), python=python).bytes == 50 * 4096
    assert run_load(big.but("randwrite", block=4096, count=50), python=python).errors == 0
    assert run_load(big.but("read"), python=python).errors == 0


def test_failed_calls_are_counted_and_the_first_is_named(directories: list[Path], python: bool) -> None:
    (directories[0] / "t000-f0000000").touch()
    result = run_load(Load("cycle", directories, count=5), python=python)
    assert (result.errors, result.operations, result.calls["create"].errors) == (1, 4, 1)
    assert "f0000000: File exists" in result.first_error


def test_wrong_data_is_an_error(directories: list[Path]) -> None:
    if build_load_generator() is None:
        pytest.skip("the load generator in Python does not check what it reads")
    big = Load("write", directories, size=1 << 16, block=1 << 14)
    run_load(big)
    with open(directories[0] / "big.0", "r+b") as file:
        file.seek(3 * 4096)
        file.write(b"?")
    result = run_load(big.but("read"))
    assert result.errors == 1
    assert result.first_error.endswith("wrong data")


def test_a_load_that_cannot_start_says_why(directories: list[Path]) -> None:
    with pytest.raises(FusemuxError, match="nosuchmode"):
        run_load(Load("nosuchmode", directories))
