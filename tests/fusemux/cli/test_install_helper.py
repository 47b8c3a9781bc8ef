"""The links by which mount(8) finds the helper."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.mounting import FUSEMUX

INSTALL = (*FUSEMUX, "install-helper")
LINKS = ("mount.fusemux", "mount.fuse.fusemux")


def install(prefix: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [*INSTALL, "--prefix", str(prefix), "--target", "/bin/true", *words]
    return subprocess.run(command, capture_output=True, text=True, check=check)


def test_both_links_are_made_and_it_says_so(tmp_path: Path) -> None:
    done = install(tmp_path)
    assert [os.readlink(tmp_path / "sbin" / name) for name in LINKS] == ["/bin/true"] * 2
    assert done.stdout.splitlines() == [f"{tmp_path}/sbin/{name} -> /bin/true: made" for name in LINKS]


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    install(tmp_path)
    before = [os.lstat(tmp_path / "sbin" / name).st_ino for name in LINKS]
    links = json.loads(install(tmp_path, "--json").stdout)["links"]
    assert set(links.values()) == {"was there already"}
    assert [os.lstat(tmp_path / "sbin" / name).st_ino for name in LINKS] == before


def test_an_old_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/mount.fusemux").symlink_to("/elsewhere")
    assert "replaced" in install(tmp_path).stdout
    assert os.readlink(tmp_path / "sbin/mount.fusemux") == "/bin/true"


def test_a_file_of_somebody_else_is_left_alone_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/mount.fusemux").write_text("precious")
    done = install(tmp_path, check=False)
    assert done.returncode == 1
    assert "is there and no link" in done.stderr
    assert (tmp_path / "sbin/mount.fusemux").read_text() == "precious"
    install(tmp_path, "--force")
    assert os.readlink(tmp_path / "sbin/mount.fusemux") == "/bin/true"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_without_permission_it_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run([*INSTALL, "--target", "/bin/true"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "run this as root" in done.stderr
