"""The folders of one test's volume, which nobody else uses: run and state directories, mount point, log, bricks.

Bricks are directories in memory (/dev/shm), so that they outlive a killed server and nothing has to be unmounted; with
`size` each is a file system of its own, so that it can really be full.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import fusemux
from fusemux.bricks import ramdisk
from fusemux.bricks.prepare import prepare
from fusemux.graph.framework import volfile
from fusemux.testing.wish import Wish
from fusemux.volume.bricks import prepared
from fusemux.volume.definition import BrickSpec, Volume
from fusemux.volume.source import DefinedSource, Source, cut
from fusemux.volume.spec import read_short
from fusemux.volume.store import VolumeStore

__all__ = ["Place", "sets_of"]

NAME = "test"
_MEMORY = "/dev/shm"
_FOLDER = "$BRICKS"


class Place:
    """Where a test's volume is.  `source` is what it is made of, `spec` what a mount would call it."""

    def __init__(self, wish: Wish) -> None:
        """Raises FusemuxError, and then leaves nothing."""
        self.root = Path(tempfile.mkdtemp(prefix="fusemux-pytest-"))
        self._memory = _memory_folder() if not wish.disk else None
        self.bricks = self._memory or self.root / "bricks"
        self.bricks.mkdir(exist_ok=True)
        self.path = self.root / "mnt"
        self.path.mkdir()
        self.log = self.root / "log"
        self.source: Source
        self.spec: str
        try:
            if wish.volfile is None:
                self._define(wish)
            else:
                self._from_volfile(wish.volfile)
        except BaseException:
            self.remove()
            raise

    def _define(self, wish: Wish) -> None:
        drawn = read_short(wish.spec, self.bricks)
        layers = {"debug.trace": "dht", "debug.volatile": "posix" if wish.volatile else "off"}
        if wish.volatile_names:
            layers["debug.volatile-names"] = "on"
        sized = any(brick.ramdisk_bytes for brick in drawn.bricks)
        volume: Volume = replace(
            drawn,
            name=NAME if drawn.name.startswith("tmp-") else drawn.name,
            bricks=tuple(
                BrickSpec(str(self.bricks / f"b{i}"), brick.ramdisk_bytes if sized else None)
                for i, brick in enumerate(drawn.bricks)
            ),
            options={**drawn.options, **layers, **wish.options},
            throwaway=False,
        )
        with prepared(volume, force=False):
            self.store.create(volume)
        self.source, self.spec = DefinedSource(volume), volume.name

    def _from_volfile(self, given: str) -> None:
        """The folder of the bricks stands for $BRICKS in it; directories that are named in there are made."""
        text = Path(given).read_text(encoding="utf-8").replace(_FOLDER, str(self.bricks))
        path = self.root / "test.vol"
        path.write_text(text, encoding="utf-8")
        self.source, self.spec = cut(volfile.parse(text, str(path)), str(path)), str(path)
        for brick in self.source.bricks:
            if Path(brick.path).is_relative_to(self.bricks):
                prepare(brick.path, self.source.volume_id)

    def current(self) -> Source:
        """What the volume is made of now: its bricks may have been replaced."""
        if isinstance(self.source, DefinedSource):
            return DefinedSource(self.store.load(self.source.name))
        return self.source

    @property
    def store(self) -> VolumeStore:
        return VolumeStore(self.root / "state")

    @property
    def environment(self) -> dict[str, str]:
        """For `fusemux` commands about this volume."""
        home = str(Path(fusemux.__file__).resolve().parents[1])
        path = os.environ.get("PYTHONPATH")
        return {
            **os.environ,
            "FUSEMUX_RUN_DIR": str(self.root / "run"),
            "FUSEMUX_STATE_DIR": str(self.root / "state"),
            "PYTHONPATH": f"{home}{os.pathsep}{path}" if path else home,
        }

    def remove(self) -> None:
        """Everything, also what is mounted.  Never raises."""
        remove([self.root, *([self._memory] if self._memory else [])])

    @property
    def folders(self) -> list[Path]:
        return [self.root, *([self._memory] if self._memory else [])]


def remove(folders: Sequence[Path]) -> None:
    """Unmount what lies in `folders`, and remove them with all they hold.  Never raises."""
    from fusemux.serve import mounttable, unmounting

    for folder in folders:
        for entry in sorted(mounttable.read(), key=lambda entry: len(entry.path), reverse=True):
            if entry.path.startswith(f"{folder}/"):
                with contextlib.suppress(Exception):
                    unmounting.unmount(entry.path, lazy=True)
        for path in folder.glob("**/b*") if folder.name == "bricks" or folder.parent == Path(_MEMORY) else ():
            if path.is_symlink():  # an ordinary user's ramdisk
                ramdisk.remove(str(path))
        shutil.rmtree(folder, ignore_errors=True)


def _memory_folder() -> Path | None:
    """A folder in memory, where this user can keep a brick in one."""
    if not os.access(_MEMORY, os.W_OK):
        return None
    folder = Path(tempfile.mkdtemp(prefix="fusemux-pytest-", dir=_MEMORY))
    try:
        os.setxattr(folder, "user.fusemux.probe" if os.geteuid() else "trusted.fusemux.probe", b"1")
        os.removexattr(folder, "user.fusemux.probe" if os.geteuid() else "trusted.fusemux.probe")
    except OSError:
        folder.rmdir()
        return None
    return folder


def sets_of(source: Source) -> list[tuple[list[Path], bool]]:
    """The bricks of each replica set, and whether the last of them is an arbiter."""
    by_name = {section.name: section for section in source.client_graph()}

    def leaf(name: str) -> Path:
        section = by_name[name]
        while section.subvolumes:
            section = by_name[section.subvolumes[0]]
        return Path(section.options["remote-subvolume"])

    return [
        ([leaf(name) for name in section.subvolumes], section.options.get("arbiter-count", "0") != "0")
        for section in by_name.values()
        if section.type in ("cluster/replicate", "cluster/afr")
    ]
