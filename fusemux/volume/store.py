"""The store of volume definitions, laid out as GlusterFS does: `vols/NAME/info`, `vols/NAME/bricks/*`.

A volume appears whole or not at all: a new one is written beside the others under a name that no volume can have and
renamed into place; a change replaces `info` by rename; a deleted one is renamed away first.  Every file is synced
before the rename that makes it count.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from fusemux.graph.framework.options import nearest
from fusemux.volume import info
from fusemux.volume.definition import Volume, VolumeError, validate
from fusemux.volume.places import state_dir

__all__ = ["VolumeStore"]


class VolumeStore:
    """The definitions below `root` (default: `places.state_dir()`)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = state_dir() if root is None else root
        self.vols = self.root / "vols"

    def names(self) -> list[str]:
        """All volumes by name."""
        try:
            return sorted(name for name in os.listdir(self.vols) if name[0] != "." and (self.vols / name).is_dir())
        except FileNotFoundError:
            return []

    def has(self, name: str) -> bool:
        return "/" not in name and not name.startswith(".") and (self.vols / name / "info").is_file()

    def load(self, name: str) -> Volume:
        """Raises VolumeError: there is none of that name, or its files are damaged."""
        if "/" in name or name.startswith(".") or not (self.vols / name).is_dir():
            raise VolumeError(
                f"there is no volume {name!r}{nearest(name, self.names())}; `fusemux volume list` shows what there is"
            )
        path = self.vols / name / "info"
        try:
            files = [file for file in os.listdir(path.parent / "bricks") if file[0] != "."]
            bricks = {file: self._brick(path.parent / "bricks" / file) for file in files}
        except FileNotFoundError:
            raise VolumeError(
                f"{path.parent}: the folder 'bricks' is missing; the volume's definition is damaged"
            ) from None
        return info.read_info(name, _read(path), str(path), bricks)

    def _brick(self, path: Path) -> info.StoredBrick:
        return info.brick_value(_read(path), str(path))

    def create(self, volume: Volume) -> None:
        """Store a new volume.  Raises VolumeError when there is one of that name."""
        validate(volume)
        with self._new_folder(volume.name) as folder:
            (folder / "bricks").mkdir()
            for name, text in info.brick_files(volume).items():
                _write(folder / "bricks" / name, text)
            _write(folder / "info", info.info_text(volume))
            _sync(folder / "bricks")
            _sync(folder)
            try:
                os.rename(folder, self.vols / volume.name)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise VolumeError(
                    f"volume {volume.name!r} already exists; choose another name or delete it first"
                ) from None
            _sync(self.vols)

    @contextlib.contextmanager
    def _new_folder(self, name: str) -> Iterator[Path]:
        try:
            self.vols.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{name[:32]}.", dir=self.vols))
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _unwritable(self, error: OSError) -> VolumeError:
        return VolumeError(
            f"volumes cannot be stored in {self.vols}: {error.strerror}; "
            "become root, or name a folder of yours in FUSEMUX_STATE_DIR"
        )

    def change(self, name: str, edit: Callable[[Volume], Volume]) -> Volume:
        """Replace the definition by `edit(definition)`; changes of two processes never mix.  Returns what is now stored."""
        with self._locked(name):
            before = self.load(name)
            after = edit(before)
            if after == before:
                return before
            after = replace(after, version=before.version + 1)
            validate(after)
            folder = self.vols / name
            files = info.brick_files(after)
            if after.bricks != before.bricks:  # files that `info` does not name are nobody's
                for file, text in files.items():
                    _replace(folder / "bricks" / file, text)
            _replace(folder / "info", info.info_text(after))
            for file in info.brick_files(before).keys() - files.keys():
                (folder / "bricks" / file).unlink(missing_ok=True)
            return after

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        if not self.has(name):
            self.load(name)  # raises, and says what there is
        try:
            fd = os.open(self.vols / name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)
        except PermissionError as error:
            raise self._unwritable(error) from None

    def delete(self, name: str) -> None:
        """Forget the definition.  The bricks stay as they are."""
        if not (self.vols / name).is_dir() or "/" in name or name.startswith("."):
            self.load(name)  # raises, and says what there is
        doomed = Path(tempfile.mkdtemp(prefix=f".{name[:32]}.", dir=self.vols))
        os.rename(self.vols / name, doomed / "deleted")
        _sync(self.vols)
        shutil.rmtree(doomed)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise VolumeError(f"{path} is missing; the volume's definition is damaged") from None
    except OSError as error:
        raise VolumeError(f"{path}: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(".tmp")  # one writer at a time: the definition is locked
    _write(fresh, text)
    os.rename(fresh, path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
