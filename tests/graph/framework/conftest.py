"""Fixtures for the framework's tests."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.graph.framework import layers

LAYERS = (
    layers.Leaf,
    layers.Idle,
    layers.Switch,
    layers.Around,
    layers.Fan,
    layers.Failing,
    layers.Stubborn,
    layers.Broken,
)


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the translators of `layers` did, in order."""
    entries: list[tuple[str, ...]] = []
    monkeypatch.setattr(layers.Recorded, "journal", entries)
    return entries


@pytest.fixture
def testing_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: list[tuple[str, ...]]) -> None:
    """The translators of `layers` as another project would bring them: installed, with entry points."""
    info = tmp_path / "site" / "layers-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: layers\nVersion: 1.0\n")
    lines = [f"{cls.type} = tests.graph.framework.layers:{cls.__name__}" for cls in LAYERS]
    (info / "entry_points.txt").write_text("\n".join(["[fusemux.translators]", *lines, ""]))
    monkeypatch.syspath_prepend(str(info.parent))
    importlib.invalidate_caches()
