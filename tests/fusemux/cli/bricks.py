"""What tests of the commands that change bricks need: files to heal, a file that stays open, a volume that is not mounted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusemux.testing.copies import compare
from fusemux.testing.volume import Volume
from fusemux.volume.store import VolumeStore
from tests.fusemux.cli.conftest import Done
from tests.mounting import Place

__all__ = ["Stored", "done_well", "fill", "identical", "new", "open_file", "pair", "paths_of"]

pair = pytest.mark.fusemux(replica=2, options={"cluster.quorum-type": "none"})


def new(volume: Volume, name: str = "new") -> str:
    """Where a new brick may be: beside the others."""
    return str(volume.brick(0).path.parent / name)


def fill(folder: Path) -> None:
    (folder / "dir/sub").mkdir(parents=True)
    for name in ("file", "dir/file", "dir/sub/file"):
        (folder / name).write_bytes(name.encode() * 1000)
    os.symlink("file", folder / "link")
    os.link(folder / "file", folder / "dir/hard")
    os.setxattr(folder / "file", "user.kept", b"value")


def paths_of(volume: Volume) -> list[Path]:
    stored = VolumeStore(Path(volume.env["FUSEMUX_STATE_DIR"])).load(volume.name)
    return [Path(brick.path) for brick in stored.bricks]


def identical(volume: Volume) -> bool:
    """Also after a new mount with the definition as it is now."""
    volume.remount()
    alike = volume.bricks_identical()
    assert alike, alike
    return True


def done_well(done: Done) -> None:
    assert (done.status, done.err) == (0, "")


@contextmanager
def open_file(volume: Volume) -> Iterator[int]:
    """A file that stays open, is written to before and after what the block does, and read back."""
    fd = os.open(volume.path / "open", os.O_CREAT | os.O_RDWR)
    try:
        os.write(fd, b"before ")
        yield fd
        os.write(fd, b"after")
        assert os.pread(fd, 100, 0) == b"before after"
    finally:
        os.close(fd)


class Stored:
    """A volume of a test that is mounted only now and then."""

    def __init__(self, place: Place, *words: str) -> None:
        self.place = place
        self.bricks = place.root / "bricks"
        self.bricks.mkdir()
        self("create", *words)

    def at(self, brick: str) -> Path:
        return self.bricks / brick

    def __call__(self, command: str, *words: str, status: int = 0) -> str:
        """`fusemux volume COMMAND web ...`, where words that begin with a slash are bricks."""
        given = [f"{self.bricks}{word}" if word.startswith("/") else word for word in words]
        done = self.place.fusemux("volume", command, "web", *given, check=False)
        assert done.returncode == status, done
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        where = self.place.mount("web")
        try:
            yield where
        finally:
            self.place.umount(where)

    def wait_healed(self) -> None:
        while '"total": 0' not in (text := self("heal", "info", "summary", "--json")) or self.pending(text):
            self("heal")

    @staticmethod
    def pending(text: str) -> bool:
        return any(row["total"] for row in json.loads(text))

    def identical(self, *bricks: str, arbiter: bool = False) -> bool:
        alike = compare([([self.at(brick) for brick in bricks], arbiter)])
        assert alike, alike
        return True
