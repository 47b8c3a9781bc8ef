"""What every binding is: the thing that feeds FUSE requests of mounts to their bridges.

A binding serves several mounts of one process.  Two exist behind the same bridge: our own wire (`kernel/`) and pyfuse3
(`pyfuse3_binding.py`); a server picks one and then knows only this protocol.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fusemux.fuse.bridge import Bridge

__all__ = ["FOREVER", "Binding", "MountOptions", "MountPoint"]

FOREVER = float("inf")


@dataclass(frozen=True)
class MountOptions:
    """How one volume is mounted.  Timeouts are seconds; without end is right while this process is the only writer."""

    read_only: bool = False
    allow_other: bool = True
    default_permissions: bool = True
    dev: bool = True
    suid: bool = True
    exec: bool = True
    sync: bool = False
    dirsync: bool = False
    atime: bool = True
    diratime: bool = True
    strictatime: bool = False
    entry_timeout: float = FOREVER
    attr_timeout: float = FOREVER
    negative_timeout: float = FOREVER
    writeback_cache: bool = False
    passthrough: bool = True  # the kernel reads and writes the bricks' files itself, where that is possible at all
    shared: bool = False  # the volume is mounted at other places of this process, too
    locks: bool = False  # users' locks come to us, and the bricks keep them
    posix_acl: bool = True  # the kernel evaluates ACLs; without it they are only stored
    max_read: int = 1 << 20
    max_write: int = 1 << 20
    subtype: str = "fusemux"
    fsname: str | None = None  # None: the mount point's source

    def words(self) -> list[str]:
        """The generic options as mount(8) writes them, those that are on by default left out."""
        wanted = {
            "ro": self.read_only,
            "nodev": not self.dev,
            "nosuid": not self.suid,
            "noexec": not self.exec,
            "sync": self.sync,
            "dirsync": self.dirsync,
            "noatime": not self.atime,
            "nodiratime": not self.diratime,
            "strictatime": self.strictatime,
        }
        return [word for word, on in wanted.items() if on]


@dataclass(frozen=True)
class MountPoint:
    """One volume at one place."""

    bridge: Bridge
    path: str
    source: str  # what /proc/mounts shows
    options: MountOptions = field(default_factory=MountOptions)

    @property
    def shown(self) -> str:
        return self.options.fsname if self.options.fsname is not None else self.source


class Binding(Protocol):
    """Serves mounts.  `mount` once, then `serve` until the end; `unmount` and `stop` from any other task."""

    name: str

    async def mount(self, mounts: Sequence[MountPoint]) -> None:
        """Mount all and return when every mount serves.

        Raises FusemuxError, which names what is missing, and leaves nothing mounted.
        """

    async def serve(self) -> None:
        """Serve until everything is unmounted or `stop` was called."""

    async def unmount(self, path: str, *, lazy: bool = False) -> None:
        """Unmount one; the others go on."""

    async def stop(self) -> None:
        """Finish what is under way and unmount all."""

    def statistics(self) -> dict[str, dict[str, Any]]:
        """For each mount point what there is to know of its connection."""

    def bypassing(self, path: str) -> set[int]:
        """Nodes of a mount that are open and that the kernel reads and writes past the graph, which would see it by now.

        How is decided at open: what changes in the graph later does not reach what is open.
        """

    async def revoke(self, path: str, nodes: Collection[int]) -> int:
        """Make every call on what is open of `nodes` and passed through fail with EIO; for how many that came true.

        Who opens them anew is seen by the graph.  Raises FusemuxError.
        """
