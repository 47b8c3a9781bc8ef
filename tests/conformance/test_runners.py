"""The conformance runners themselves: fsx finds what is wrong and replays it, TAP is read right."""

import os
import random
from pathlib import Path

import pytest

from tests.conformance.fsx import WEIGHTS, Difference, Exercised, exercise, main
from tests.conformance.pjdfstest import Outcome, differences, parse_tap


def run(directory: Path, seed: int, ops: int = 800) -> None:
    exercise(directory, seed=seed, ops=ops, seconds=None, files=2, max_size=64 * 1024)


def test_fsx_finds_no_difference_on_a_plain_directory_and_leaves_nothing(tmp_path: Path) -> None:
    for seed in range(3):
        run(tmp_path, seed)
    assert list(tmp_path.iterdir()) == []


def test_fsx_does_every_operation(tmp_path: Path) -> None:
    done, unsupported = exercise(tmp_path, seed=7, ops=2000, seconds=None, files=1, max_size=64 * 1024)
    assert done.keys() | unsupported == WEIGHTS.keys()


class Forgetful(Exercised):
    """A file system that loses the last byte of every fifth write."""

    writes = 0

    def write(self, offset: int, length: int) -> None:
        super().write(offset, length)
        Forgetful.writes += 1
        if Forgetful.writes % 5 == 0:
            os.pwrite(self.fd, b"\0", offset + length - 1)


def test_fsx_finds_a_lost_byte_and_says_how_to_replay_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.conformance.fsx.Exercised", Forgetful)
    assert main([str(tmp_path), "--seed", "5", "--ops", "2000"]) == 1
    said = capsys.readouterr().err
    assert "bytes differ from" in said
    assert "operations that named" in said
    assert f"replay: fsx.py {tmp_path} --seed 5 --files 1" in said


def test_fsx_sees_a_file_that_another_process_cut(tmp_path: Path) -> None:
    one = Exercised(tmp_path / "file", random.Random(1), 64 * 1024, WEIGHTS)
    one.write(0, 10_000)
    one.check()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Difference):
        one.check()
    one.close()


def test_a_seed_draws_the_same_operations_again(tmp_path: Path) -> None:
    drawn = []
    for _ in range(2):
        one = Exercised(tmp_path / "file", random.Random("3/0"), 64 * 1024, WEIGHTS)
        for number in range(300):
            one.step(number)
        drawn.append([str(operation) for _, operation in one.history])
        one.close()
    assert drawn[0] == drawn[1]


def test_tap_is_read_with_its_plan_and_its_excuses() -> None:
    text = "1..4\nok 1\nnot ok 2 - tried 'mkdir', expected 0, got EPERM\nnot ok 3 # TODO later\nnoise\n"
    assert parse_tap(text) == {
        1: Outcome(True, ""),
        2: Outcome(False, "tried 'mkdir', expected 0, got EPERM"),
        3: Outcome(True, "# TODO later"),
        4: Outcome(False, "did not run"),
    }


def test_only_what_passes_on_the_reference_is_a_difference() -> None:
    good, bad = Outcome(True, ""), Outcome(False, "expected 0, got EIO")
    reference = {("a.t", 1): good, ("a.t", 2): bad, ("a.t", 3): good, ("b.t", 1): good}
    found = {("a.t", 1): bad, ("a.t", 2): bad, ("b.t", 1): good, ("b.t", 2): good}
    assert differences(reference, found) == [
        "a.t 1: expected 0, got EIO",
        "a.t 3: missing",
        "b.t: has more assertions here than on the reference",
    ]
