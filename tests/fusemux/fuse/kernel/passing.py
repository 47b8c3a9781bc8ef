"""A volume that is mounted in the test's own process, for scenes about what the kernel reads and writes by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from fusemux.bricks.brick import Brick
from fusemux.fuse.binding import MountOptions, MountPoint
from fusemux.fuse.bridge import BridgeOptions
from fusemux.fuse.kernel import KernelBinding
from fusemux.graph.framework.process import Process
from fusemux.serve.volume import ServedVolume
from fusemux.volume.source import DefinedSource
from fusemux.volume.spec import read_short


def passthrough_works() -> bool:
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    return os.geteuid() == 0 and release >= (6, 9)


class Mounted:
    def __init__(self, volume: ServedVolume, binding: KernelBinding, path: Path) -> None:
        self.volume, self.binding, self.path = volume, binding, path
        self.loop = trio.lowlevel.current_trio_token()

    @property
    def _session(self) -> dict[str, Any]:
        (session,) = trio.from_thread.run_sync(self.binding.statistics, trio_token=self.loop).values()
        return session

    @property
    def passed(self) -> int:
        return int(self._session["passed"])

    def bypassing(self) -> set[int]:
        return trio.from_thread.run_sync(self.binding.bypassing, str(self.path))

    def revoke(self, nodes: set[int]) -> int:
        return trio.from_thread.run(self.binding.revoke, str(self.path), nodes, trio_token=self.loop)

    @property
    def requests(self) -> int:
        return int(self._session["requests"])

    @property
    def brick(self) -> Brick:
        return self.volume.bricks[0]


def mounted(
    tmp_path: Path, spec: str, scene: Callable[[Mounted], Any], io_mode: str = "inline", **options: Any
) -> None:
    """Serve and mount `spec`, and run `scene` in a thread: it may make any call on the mount."""
    if not passthrough_works():
        pytest.skip("needs root and Linux 6.9")
    path = tmp_path / "fusemux"
    path.mkdir()

    async def main() -> None:
        async with Process() as process:
            source = DefinedSource(read_short(f"{spec},size=64M", tmp_path / "ramdisks"), {"storage.io-mode": io_mode})
            volume = ServedVolume(process, source, options=BridgeOptions(writeback_cache=False, sole_writer=True))
            await volume.start()
            binding = KernelBinding()
            try:
                await binding.mount([MountPoint(volume.bridge, str(path), "v", MountOptions(**options))])
                with trio.fail_after(60):
                    await trio.to_thread.run_sync(scene, Mounted(volume, binding, path))
            finally:
                await binding.stop()
                await volume.stop()

    trio.run(main)
