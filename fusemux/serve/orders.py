"""What can be asked of a serving process over its control socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fusemux.graph.debug.trace import Trace
from fusemux.graph.framework.errors import FusemuxError
from fusemux.mount.errors import Exit, MountError
from fusemux.serve import journal, statedump
from fusemux.serve.bricks import BrickChanges
from fusemux.serve.faults import Faults
from fusemux.serve.healing import Healing

if TYPE_CHECKING:
    from fusemux.serve.server import Served, Server

__all__ = ["Orders"]


class Orders:
    """The operations of the control socket; each takes and returns plain values."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def handlers(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        return {
            "status": self.status,
            "statedump": self.statedump,
            "reread": self.reread,
            "unmount": self.unmount,
            "stop": self.stop,
            "log-level": self.log_level,
            "history": self.history,
            **Healing(self.server).handlers(),
            **Faults(self.server).handlers(),
            **BrickChanges.of(self.server).handlers(),
        }

    async def status(self) -> dict[str, Any]:
        """The process and its volumes."""
        return {
            **self.server.facts(),
            "volumes": [self._volume(served) for served in self.server.served if served.volume.serving],
        }

    def _volume(self, served: Served) -> dict[str, Any]:
        volume = served.volume
        up = {brick.path for brick in volume.bricks if brick.up}
        return {
            "name": volume.name,
            "mount": served.plan.path,
            "mounted": served.mounted,
            "source": served.plan.shown,
            "throwaway": volume.source.throwaway,
            "since": served.since,
            "inodes": len(volume.graph.itable),
            "lru_limit": volume.graph.itable.limit,
            "bridge": served.bridge.statistics()._asdict(),
            "connection": self._connection(served),
            "bricks": [
                {"path": spec.path, "up": spec.path in up, "ramdisk": spec.ramdisk_bytes is not None}
                for spec in volume.source.bricks
            ],
        }

    def _connection(self, served: Served) -> dict[str, Any]:
        """What was agreed with the kernel, and counted since, where the binding knows."""
        return self.server.binding.statistics().get(served.plan.path, {})

    async def statedump(self) -> str:
        return statedump.dump(self.server.volumes(), self.server.facts())

    async def history(self, volume: str, count: int = 50) -> list[str]:
        """The last calls that a debug/trace of the volume's client graph has seen."""
        served = [v for v in self.server.volumes() if v.name == volume and v.serving]
        traces = [t for v in served for t in v.graph.translators.values() if isinstance(t, Trace)]
        return [line for trace in traces for line in list(trace.history)[-count:]]

    async def reread(self, volume: str) -> bool:
        """Take the stored options of `volume`; False when they take effect at the next mount."""
        taken = [await self.server.reread(v) for v in self.server.volumes() if v.name == volume]
        if not taken:
            raise FusemuxError(f"volume {volume!r} is not served here")
        return all(taken)

    async def unmount(self, path: str, lazy: bool = False) -> None:
        """Unmount one mount; the others go on."""
        served = next((s for s in self.server.served if s.plan.path == path and s.mounted), None)
        if served is None:
            raise MountError(f"{path} is not mounted by this server")
        try:
            await self.server.binding.unmount(path, lazy=lazy)
        except (FusemuxError, OSError) as error:
            raise MountError(str(error), Exit.FAILURE) from None

    async def stop(self) -> None:
        """Unmount everything and end."""
        self.server._end(1)

    async def log_level(self, level: str) -> None:
        if level not in journal.LEVELS:
            raise FusemuxError(f"log level {level!r}: expected one of {', '.join(journal.LEVELS)}")
        self.server.process.own_log_level = journal.LEVELS[level]
        journal.set_level(level)
