"""The note of how a brick's last run ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusemux.bricks.features import run
from fusemux.bricks.features.run import Run
from fusemux.graph.framework.process import Past


def again(folder: Path) -> Past:
    return Run(str(folder), durable=True).past


def test_a_brick_without_a_note_does_not_know_its_past(tmp_path: Path) -> None:
    assert again(tmp_path) is Past.NEW


def test_a_run_that_ended_well_was_clean(tmp_path: Path) -> None:
    Run(str(tmp_path), durable=True).end()
    assert again(tmp_path) is Past.CLEAN


def test_a_run_that_did_not_end_has_crashed(tmp_path: Path) -> None:
    Run(str(tmp_path), durable=True)
    assert again(tmp_path) is Past.CRASHED


def test_another_boot_or_a_power_cut_may_have_rolled_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Run(str(tmp_path), durable=False).lose()
    assert again(tmp_path) is Past.ROLLED_BACK
    Run(str(tmp_path), durable=False).vouch()
    monkeypatch.setattr(run, "_boot", lambda: b"another")
    assert again(tmp_path) is Past.ROLLED_BACK


def test_an_unclean_end_is_remembered_over_clean_runs_until_the_copies_were_compared(tmp_path: Path) -> None:
    Run(str(tmp_path), durable=False)
    Run(str(tmp_path), durable=False).end()
    assert again(tmp_path) is Past.CRASHED

    compared = Run(str(tmp_path), durable=False)
    compared.vouch()
    compared.end()
    assert again(tmp_path) is Past.CLEAN
