"""File handles (open_by_handle_at(2), what NFS servers name files by) outlive what kernel and server remember."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mounting import Place
from tests.parity import libc

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may open by handle"),
]
KINDS = {"one brick": (1, 1), "distribute": (2, 1), "2x2": (4, 2)}


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def by_handle(where: Path, handle: libc.Handle) -> Iterator[int]:
    with opened(where) as mount:
        fd = libc.open_by_handle(mount, handle)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", KINDS)
def test_handles_lead_to_files_and_directories_after_another_mount(volume_place: Place, kind: str) -> None:
    bricks, copies = KINDS[kind]
    paths = [volume_place.root / f"b{n}" for n in range(bricks)]
    volume_place.fusemux("volume", "create", "web", *(["replica", str(copies)] if copies > 1 else []), *paths)
    where = volume_place.mount("web")
    (where / "a/b").mkdir(parents=True)
    (where / "a/b/file").write_text("found")
    (where / "gone").touch()
    file, above, below, gone = (libc.file_handle(os.fsencode(where / n)) for n in ("a/b/file", "a", "a/b", "gone"))
    (where / "gone").unlink()
    volume_place.umount(where)

    where = volume_place.mount("web", point=where)
    with by_handle(where, below) as fd:
        assert os.listdir(fd) == ["file"]
        assert os.readlink(f"/proc/self/fd/{fd}") == str(where / "a/b")  # it has a parent, and so on up to the root
    with by_handle(where, file) as fd:
        assert os.read(fd, 100) == b"found"
    os.rename(where / "a", where / "moved")
    with by_handle(where, above) as fd:
        assert os.readlink(f"/proc/self/fd/{fd}") == str(where / "moved")
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)), by_handle(where, gone):
        pass
    volume_place.umount(where)
