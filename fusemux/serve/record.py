"""What a serving process leaves behind for those who must clean up after it.

`RUN_DIR/servers/PID.json` lists the mounts and ramdisks of a server *before* they come into being, and is locked
(flock) as long as the server lives.  A record that can be locked belongs to a dead one: its mounts are stale and its
throw-away ramdisks are left over.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fusemux.graph.framework.errors import FusemuxError
from fusemux.volume.places import run_dir

__all__ = ["Record", "ServerRecord", "all_records", "record_of", "remove_empty", "servers_dir"]


@dataclass(frozen=True)
class Record:
    """One serving process, alive or dead."""

    pid: int
    alive: bool
    mounts: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    ramdisks: tuple[str, ...] = ()  # throw-away ones, to be removed with the server
    folders: tuple[str, ...] = ()  # made for mounts and ramdisks, to be removed when empty

    @property
    def path(self) -> Path:
        return servers_dir() / f"{self.pid}.json"

    @property
    def socket(self) -> Path:
        return servers_dir() / f"{self.pid}.sock"

    def has_ended(self) -> bool:
        """Whether the server is gone."""
        now = _read(self.path)
        return now is None or not now.alive

    def discard(self) -> None:
        """Forget a dead server."""
        self.socket.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        _new(self.path).unlink(missing_ok=True)


def servers_dir() -> Path:
    return run_dir() / "servers"


class ServerRecord:
    """This process's own record; it is gone after `close`."""

    def __init__(self) -> None:
        """Raises FusemuxError when the run directory cannot be written."""
        folder = servers_dir()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._pid = os.getpid()
            self._path = folder / f"{self._pid}.json"
            self._fd = self._put(b"{}")
        except OSError as error:
            raise FusemuxError(
                f"the run directory {folder} cannot be used: {error.strerror}; name another one in FUSEMUX_RUN_DIR"
            ) from None

    def write(
        self, *, mounts: Sequence[str], volumes: Sequence[str], ramdisks: Sequence[str], folders: Sequence[str] = ()
    ) -> None:
        """Say what is, or is about to be, there."""
        record = Record(self._pid, True, tuple(mounts), tuple(volumes), tuple(ramdisks), tuple(folders))
        before, self._fd = self._fd, self._put(json.dumps(asdict(record)).encode())
        os.close(before)

    def _put(self, data: bytes) -> int:
        """Put a file with `data`, locked, in place of the one that is there: who reads finds one of them, whole."""
        new = _new(self._path)
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, data)
        os.replace(new, self._path)
        return fd

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def all_records() -> list[Record]:
    """The records of all servers that this user may see."""
    try:
        paths = sorted(servers_dir().glob("*.json"))
    except OSError:
        return []
    return [record for path in paths if (record := _read(path)) is not None]


def record_of(path: str) -> Record | None:
    """The living server that has a mount at `path` (real and absolute)."""
    return next((record for record in all_records() if record.alive and path in record.mounts), None)


def _new(path: Path) -> Path:
    """Where a record is written that shall replace the one at `path`."""
    return path.with_suffix(".new")


def _read(path: Path) -> Record | None:
    """The record at `path`, None when there is none.  It belongs to a living server as long as that holds a lock on it."""
    try:
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # others may be reading it, too
                alive = False
            except BlockingIOError:
                alive = True
            if not alive and not os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return _read(path)  # another was just put in its place
            data = json.loads(file.read())
    except (OSError, ValueError):
        return None
    lists = {key: tuple(data.get(key, ())) for key in ("mounts", "volumes", "ramdisks", "folders")}
    return Record(int(path.stem), alive, **lists) if path.stem.isdigit() else None


def remove_empty(folders: Sequence[str]) -> None:
    """Remove those of `folders` that are empty and not mounted upon, the innermost first."""
    for folder in sorted(folders, key=len, reverse=True):
        try:
            os.rmdir(folder)
        except OSError:
            pass
