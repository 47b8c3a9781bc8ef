"""What `pip install .` puts into a fresh environment, and what it must not."""

from __future__ import annotations

import collections
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# Everything here runs without the network: the build uses the setuptools of this environment, and the
# fresh environment sees this one's packages for fusemux's requirements.
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Without this process's PYTHON* settings, which would let a module be found that was not installed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env=clean | env, text=True, capture_output=True, timeout=240, check=False)


def checked(*command: str | Path, cwd: Path, **env: str) -> str:
    done = run(*command, cwd=cwd, **env)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("source") / "fusemux"
    ignore = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
    )
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignore)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    checked(sys.executable, *PIP, "wheel", "--no-build-isolation", "--no-deps", "-w", out, source, cwd=out)
    (path,) = out.glob("fusemux-*.whl")
    return path


def fresh_environment(where: Path) -> Path:
    """The interpreter of a new environment that sees this one's requirements, but not its fusemux."""
    venv.create(where, with_pip=False, symlinks=True)
    python = where / "bin" / "python"
    purelib = checked(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=where).strip()
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(purelib, "requirements-of-the-tests.pth").write_text("\n".join(sorted(ours)) + "\n")
    return python


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("venv")
    interpreter = fresh_environment(where)
    checked(
        sys.executable,
        *PIP,
        "--python",
        interpreter,
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--force-reinstall",
        wheel,
        cwd=where,
    )
    return interpreter


def modules_of(source: Path) -> set[str]:
    """The names under which the modules of the three houses are installed."""
    names = {str(path.relative_to(source)) for path in (source / "fusemux").glob("*.py")}
    for folder in sorted((source / "fusemux").iterdir()):
        if folder.is_dir() and not folder.is_symlink():
            names |= {str(path.relative_to(source)) for path in folder.rglob("*.py")}
    for house in ("graph", "bricks"):
        names |= {f"fusemux/{path.relative_to(source)}" for path in (source / house).rglob("*.py")}
    return names


def test_the_wheel_holds_every_module_exactly_once(wheel: Path, source: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")]
    assert [name for name, count in collections.Counter(names).items() if count > 1] == []
    assert set(names) == modules_of(source)


def test_the_wheel_holds_the_typing_marker_and_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "fusemux/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)


def test_the_sdist_holds_every_module_exactly_once(source: Path, tmp_path: Path) -> None:
    script = f"import setuptools.build_meta as b; print(b.build_sdist({str(tmp_path)!r}))"
    name = checked(sys.executable, "-c", script, cwd=source).splitlines()[-1]
    with tarfile.open(tmp_path / name) as archive:
        files = [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]
    modules = [
        name for name in files if name.endswith(".py") and name.partition("/")[0] in ("fusemux", "graph", "bricks")
    ]
    as_installed = [name if name.startswith("fusemux/") else f"fusemux/{name}" for name in modules]
    assert sorted(as_installed) == sorted(modules_of(source))


def test_the_installed_graph_imports_under_its_full_name(python: Path, tmp_path: Path) -> None:
    script = "import fusemux.graph, fusemux.bricks, fusemux.graph.framework.graph; print(fusemux.graph.__file__)"
    assert "site-packages/fusemux/graph" in checked(python, "-c", script, cwd=tmp_path)


@pytest.mark.parametrize("name", ["graph", "bricks"])
def test_an_installed_house_is_not_importable_under_its_short_name(python: Path, tmp_path: Path, name: str) -> None:
    assert "ModuleNotFoundError" in run(python, "-c", f"import {name}", cwd=tmp_path).stderr


@pytest.mark.parametrize("name", ["graph", "bricks"])
def test_in_the_checkout_the_short_name_is_refused_and_the_full_one_named(name: str) -> None:
    done = run(sys.executable, "-c", f"import {name}", cwd=ROOT)
    assert done.returncode == 1
    assert f"import this package as fusemux.{name}" in done.stderr


@pytest.mark.parametrize("command", ["fusemux", "mount.fusemux"])
def test_help_imports_neither_trio_nor_pyfuse3(python: Path, tmp_path: Path, command: str) -> None:
    done = run(python.parent / command, "--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    assert command in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "fusemux" in imported, "the list of imports was not understood"
    assert not imported & {"trio", "pyfuse3"}


def test_the_mount_helper_never_imports_the_command_line(python: Path, tmp_path: Path) -> None:
    done = run(python.parent / "mount.fusemux", "--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert "fusemux.cli" not in done.stderr


def test_an_editable_install_finds_the_checkout(source: Path, tmp_path: Path) -> None:
    python = fresh_environment(tmp_path / "venv")
    checked(
        python, *PIP, "install", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-e", source, cwd=tmp_path
    )
    script = "import fusemux.graph.framework.graph as graph, fusemux.bricks as bricks; print(graph.__file__, bricks.__file__)"
    files = checked(python, "-c", script, cwd=tmp_path).split()
    assert [Path(file).resolve().is_relative_to(source) for file in files] == [True, True]
