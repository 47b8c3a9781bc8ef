"""The whole store of one brick: all fops together."""

from __future__ import annotations

from fusemux.bricks.storage.posix.landfill import Landfill

__all__ = ["Store"]


class Store(Landfill):
    """See base.py for how it works; each layer of it is a module of its own."""

    def leaks(self) -> dict[str, int]:
        """What is still held: all zero after the brick was detached."""
        return {"files": len(self.opened), "streams": len(self.streams), "directories": len(self.dirs)}
