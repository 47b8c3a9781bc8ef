"""Directories for the bricks of many runs: `.glusterfs` with its 256 folders is made once and cleared, not made anew.

A run that failed keeps its directories to itself, and the next gets others.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from fusemux.bricks import prepare
from tests.graph.cluster.replicate.volume import TEMPORARY, VOLUME_ID

__all__ = ["Ground"]


class Ground:
    """Enter it once for many runs; it lies below `base`."""

    def __init__(self, base: str | None = TEMPORARY) -> None:
        self._below = base

    def __enter__(self) -> Ground:
        self._base = tempfile.mkdtemp(prefix="fusemux-simulation-", dir=self._below)
        self._spare: list[str] = []  # cleared .glusterfs
        self._made = 0
        return self

    def __exit__(self, *exc: object) -> None:
        shutil.rmtree(self._base)

    @contextmanager
    def bricks(self, count: int) -> Iterator[list[str]]:
        """The paths of `count` new bricks."""
        self._made += 1
        base = f"{self._base}/{self._made}"
        os.mkdir(base)
        paths = [self._brick(f"{base}/b{place}") for place in range(count)]
        yield paths
        for path in paths:
            self._clear(path)
        shutil.rmtree(base)

    def _brick(self, path: str) -> str:
        if self._spare:
            os.mkdir(path, 0o755)
            os.rename(self._spare.pop(), f"{path}/.glusterfs")
            os.setxattr(path, "trusted.glusterfs.volume-id", bytes(15) + b"\x07")
            os.setxattr(path, "trusted.gfid", bytes(15) + b"\x01")
        else:
            prepare.prepare(path, VOLUME_ID)
        return path

    def _clear(self, path: str) -> None:
        inside = f"{path}/.glusterfs"
        with os.scandir(inside) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                elif len(entry.name) > 2:
                    shutil.rmtree(entry.path)
                elif entry.stat(follow_symlinks=False).st_nlink > 2:
                    self._clear_handles(entry.path)
        self._spare.append(f"{self._base}/spare-{self._made}-{len(self._spare)}")
        os.rename(inside, self._spare[-1])

    @staticmethod
    def _clear_handles(folder: str) -> None:
        for name in os.listdir(folder):
            shutil.rmtree(f"{folder}/{name}")
