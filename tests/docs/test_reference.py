"""The option references are what the code says now."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_option_pages_are_current() -> None:
    outdated = runpy.run_path(str(ROOT / "docs" / "generate.py"))["outdated"]()
    assert [path.name for path in outdated] == [], "run python docs/generate.py"
