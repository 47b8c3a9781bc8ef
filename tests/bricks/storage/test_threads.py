"""Lookups on a disk hold no lock: whatever another thread does in the middle of one, it neither lies nor damages the brick."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from fusemux.bricks.storage.posix.lookup import GFID_LESS
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Iatt, Xdata
from tests.bricks.checking import faults
from tests.bricks.serving import Place, Volume, run

Change = Callable[[Volume, Inode], None]


class Disturbed:
    """While this is entered, `change` happens in another thread before the `nth` call that this one makes into C."""

    def __init__(self, nth: int, change: Callable[[], None]) -> None:
        self.left = nth
        self.change = change

    def __enter__(self) -> Disturbed:
        sys.setprofile(self._seen)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    @property
    def happened(self) -> bool:
        return self.left <= 0

    def _seen(self, frame: FrameType, event: str, what: object) -> None:
        if event != "c_call" or not frame.f_globals["__name__"].startswith("fusemux."):
            return
        self.left -= 1
        if self.left == 0:
            other = threading.Thread(target=self.change)
            other.start()
            other.join()


def remove(volume: Volume, inode: Inode, name: bytes = b"name") -> None:
    fop = volume.store.rmdir if inode.type == stat.S_IFDIR else volume.store.unlink
    fop(volume.frame(), volume.root, name, inode)


def move(volume: Volume, inode: Inode, name: bytes = b"name", newname: bytes = b"other") -> None:
    volume.store.rename(volume.frame(), volume.root, name, volume.root, newname, inode, None, 0)


def move_and_back(volume: Volume, inode: Inode) -> None:
    move(volume, inode)
    move(volume, inode, b"other", b"name")


def look(volume: Volume, xdata: Xdata) -> Iatt | None:
    """What lies at the name, None when nothing does."""
    try:
        return volume.store.lookup(volume.frame(), volume.root, b"name", xdata)
    except FileNotFoundError:
        return None


@pytest.mark.parametrize("asked", [None, {GFID_LESS: b"1"}], ids=["plain", "in order to heal"])
@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("change", [remove, move, move_and_back])
def test_a_change_in_the_middle_of_a_lookup_is_seen_or_not(
    tmp_path: Path, kind: str, change: Change, asked: Xdata
) -> None:
    if os.geteuid() != 0:
        pytest.skip("trusted.* attributes need root")
    brick = Place(tmp_path / "brick", {"io-mode": "pool"}).prepare()
    gone = change is not move_and_back

    async def scenario(volume: Volume) -> None:
        nth = 0
        happened = True
        while happened:
            nth += 1
            made = await (volume.mkdir(b"name") if kind == "directory" else volume.file(b"name"))
            volume.store.drop_dir(made.gfid)
            with Disturbed(nth, partial(change, volume, made)) as disturbed:
                found = look(volume, asked)
            happened = disturbed.happened
            assert found is None or found.gfid == made.gfid
            after = look(volume, asked)
            assert (after is None) == (happened and gone)
            assert found is not None or after is None
            for name in await volume.names():
                remove(volume, made, name)
            assert faults(brick) == []
        assert nth > 3, "a lookup makes more calls than that"

    run(brick, scenario)
