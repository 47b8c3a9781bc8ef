"""One brick of a mounted test volume."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fusemux.testing.faults import Fault, Faults

__all__ = ["Brick", "beside"]


class Brick:
    """Brick `index`, in volume order.  `path` is its directory: what lies there is what the copy holds."""

    def __init__(
        self, index: int, path: Path, order: Callable[..., Any], faults: Faults, ramdisk_bytes: int | None = None
    ) -> None:
        self.index = index
        self.path = path
        self.faults = faults
        self._order = order
        self._ramdisk_bytes = ramdisk_bytes

    @property
    def up(self) -> bool:
        return bool(self._order("brick-status", brick=str(self.index)))

    def kill(self) -> None:
        """Take it down, as SIGKILL would: open files are lost, calls answer ENOTCONN."""
        self._order("brick-kill", brick=str(self.index))

    def start(self) -> None:
        """Bring it back; thaw it; empty it."""
        self._order("brick-start", brick=str(self.index))

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """The brick is down inside the block."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def freeze(self) -> Fault:
        """Let every call on it wait, until `start` or until the fault is cleared."""
        return self.faults.known(self._order("brick-freeze", brick=str(self.index)))

    def fill(self) -> Fault:
        """Refuse with ENOSPC whatever needs space, until `start` or until the fault is cleared."""
        return self.faults.known(self._order("brick-fill", brick=str(self.index)))

    def tamper(self, path: str | Path) -> int:
        """Flip one bit in the middle of a file on this brick, behind everybody's back; its offset."""
        return int(self._order("brick-corrupt", brick=str(self.index), path=str(path)))

    def power_cut(self) -> None:
        """Take it down; what was written and not synced is gone.  `start` brings it back."""
        self._order("brick-power-cut", brick=str(self.index))

    def replace(self) -> None:
        """Put an empty brick in its place, which is healed from the other copies; `path` is then the new one's."""
        new = [beside(self.path), self._ramdisk_bytes]
        self.path = Path(self._order("brick-replace", old=str(self.index), new=new)[self.index])

    def read_bytes(self, path: str | Path) -> bytes:
        """What this copy holds."""
        return (self.path / str(path).lstrip("/")).read_bytes()

    def __repr__(self) -> str:
        return f"<Brick {self.index} {self.path}>"


def beside(path: Path) -> str:
    """Where the brick that replaces the one at `path` may be."""
    name, dash, count = path.name.rpartition("-")
    return str(path.with_name(f"{name}-{int(count) + 1}" if dash else f"{path.name}-1"))
