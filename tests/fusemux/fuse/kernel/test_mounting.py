"""Mounting itself: what is refused, and how that is said."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fusemux.fuse.kernel import mounting
from fusemux.graph.framework.errors import FusemuxError


def test_a_missing_mount_point_is_named(tmp_path: Path) -> None:
    with pytest.raises(FusemuxError, match="nowhere does not exist; create"):
        mounting.mount(str(tmp_path / "nowhere"), source="s")


def test_a_file_is_no_mount_point(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(FusemuxError, match="no directory"):
        mounting.mount(str(tmp_path / "f"), source="s")


def test_a_missing_device_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "DEVICE", str(tmp_path / "fuse"))
    with pytest.raises(FusemuxError, match="modprobe fuse"):
        mounting.open_device()


def test_unmounting_nothing_is_no_error(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        mounting.unmount(str(tmp_path))
    assert mounting.mounts_at(str(tmp_path)) == []
    assert not mounting.is_stale(str(tmp_path))


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_odd_sources_and_flags_are_shown(tmp_path: Path) -> None:
    point = tmp_path / "fusemux mount"
    point.mkdir()
    fd = mounting.mount(
        str(point), source="a b,c", subtype="fusemux", words=["ro", "nosuid", "noatime"], max_read=65536
    )
    try:
        (found,) = mounting.mounts_at(str(point))
        assert (found.source, found.type, found.path) == ("a b,c", "fuse.fusemux", str(point))
        with open("/proc/mounts") as lines:
            (options,) = [line.split()[3].split(",") for line in lines if "fusemux\\040mount" in line]
        assert {"ro", "nosuid", "noatime", "default_permissions", "max_read=65536"} <= set(options)
        with pytest.raises(FusemuxError, match="'bogus' is not known"):
            mounting.mount(str(tmp_path), source="s", words=["bogus"])
    finally:
        os.close(fd)
        mounting.unmount(str(point), lazy=True)
    assert mounting.mounts_at(str(point)) == []


@pytest.mark.mount
@pytest.mark.skipif(shutil.which("fusermount3") is None, reason="needs fusermount3")
def test_fusermount_passes_a_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = tmp_path / "fusemux"
    point.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # whoever it is goes through fusermount3
    fd = mounting.mount(str(point), source="s,t", words=["nosuid", "nodev"])
    try:
        (found,) = mounting.mounts_at(str(point))
        assert (found.source, found.type) == ("s,t", "fuse.fusemux")
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
        mounting.unmount(str(point), lazy=True)


@pytest.mark.mount
@pytest.mark.skipif(shutil.which("fusermount3") is None, reason="needs fusermount3")
def test_what_fusermount_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FusemuxError, match="bogus"):
        mounting.mount(str(tmp_path), source="s", words=["bogus"])
