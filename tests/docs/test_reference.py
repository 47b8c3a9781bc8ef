"""The pages that docs/generate.py makes are what the code says now."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from tests import scenarios

ROOT = Path(__file__).resolve().parents[2]


def test_the_generated_pages_are_current() -> None:
    outdated = runpy.run_path(str(ROOT / "docs" / "generate.py"))["outdated"]()
    assert [path.name for path in outdated] == [], "run python docs/generate.py"


def test_every_wanted_scenario_of_glusterfs_is_played_by_a_test() -> None:
    played = scenarios.played()
    wanted = {row.file for rows in scenarios.tables().values() for row in rows if row.mark == "L"}
    assert {file for file in wanted if not played[file]} == set()


def test_every_test_on_the_page_of_scenarios_exists() -> None:
    page = (ROOT / "docs" / "afr-scenarios.md").read_text()
    shown = re.findall(r"`([^`\s]+\.py::\w+)`", page)
    assert shown
    assert set(shown) <= {str(test) for test in scenarios.tests()}
