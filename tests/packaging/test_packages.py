"""The packages that setup.cfg names are the packages of the tree: a forgotten one would be missing after `pip install`."""

from __future__ import annotations

import configparser
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSES = {"fusemux": ROOT / "fusemux", "fusemux.graph": ROOT / "graph", "fusemux.bricks": ROOT / "bricks"}


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def packages_of(house: str, folder: Path) -> set[str]:
    """Every folder with an `__init__.py` below `folder`; symlinks are other houses' and not followed."""
    found = {house}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and (path / "__init__.py").exists():
            found |= packages_of(f"{house}.{path.name}", path)
    return found


def test_the_packages_list_is_the_tree(setup: configparser.ConfigParser) -> None:
    listed = setup["options"]["packages"].split()
    tree = set().union(*(packages_of(house, folder) for house, folder in HOUSES.items()))
    assert sorted(tree) == sorted(listed)
    assert listed == sorted(listed), "keep the list in order"


def test_every_folder_of_modules_is_a_package() -> None:
    orphans = [
        path.relative_to(ROOT)
        for folder in HOUSES.values()
        for path in folder.rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    ]
    assert orphans == []


@pytest.mark.parametrize("name", ["graph", "bricks"])
def test_the_symlinks_lead_to_the_houses(name: str) -> None:
    link = ROOT / "fusemux" / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / name


def test_every_console_script_exists(setup: configparser.ConfigParser) -> None:
    for line in setup["options.entry_points"]["console_scripts"].split("\n"):
        if line:
            module = line.partition("=")[2].partition(":")[0].strip()
            assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists(), line


def test_pyproject_describes_no_package() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        pyproject = tomllib.load(file)
    assert "project" not in pyproject
    assert "setuptools" not in pyproject["tool"]
