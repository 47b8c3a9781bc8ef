"""Split-brain as a client settles it, with xattrs that only answer for that: split-brain-resolution.t."""

from __future__ import annotations

import errno
import os
from errno import EIO
from typing import Any

import pytest
import trio
import trio.testing

from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.translator import Event, Translator
from tests.graph.cluster.replicate.healing import healed, volume_of, without
from tests.graph.cluster.replicate.volume import Volume, refused

NOT_IN_SPLIT_BRAIN = b"The file is not under data or metadata split-brain"


async def _asked(volume: Volume, path: str, what: str = "status") -> bytes:
    """As getfattr -n replica.split-brain-WHAT."""
    name = f"replica.split-brain-{what}".encode()
    return bytes((await volume.top.getxattr(volume.reader, await volume.inode(path), name))[name])


async def _both_kinds_split(volume: Volume) -> None:
    """`data` is in data split-brain, `metadata` in metadata split-brain, `fine` in none."""
    for name in ("data", "metadata", "fine"):
        await volume.create(name, b"old")
    for brick, text in ((0, b"first"), (1, b"the second")):
        async with without(volume, 1 - brick):
            await volume.write("data", text)
            await volume.setxattr("metadata", b"user.side", text)
            await volume.chmod("metadata", 0o600 + brick)


async def _set(volume: Volume, path: str, what: str, value: bytes) -> None:
    await volume.setxattr(path, f"replica.split-brain-{what}".encode(), value)


def test_split_brain_resolution_tells_the_state_and_the_choices() -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await _both_kinds_split(volume)
            choices = b"    Choices:v-client-0,v-client-1"
            assert await _asked(volume, "data") == b"data-split-brain:yes    metadata-split-brain:no" + choices
            assert await _asked(volume, "metadata") == b"data-split-brain:no    metadata-split-brain:yes" + choices
            assert await _asked(volume, "fine") == await _asked(volume, "/") == NOT_IN_SPLIT_BRAIN
            with refused(errno.ENODATA):
                await _asked(volume, "data", "something")

    trio.run(main)


@pytest.mark.parametrize("brick", [0, 1])
def test_split_brain_resolution_lets_the_chosen_copy_be_read(brick: int) -> None:
    """Contents, size and attributes come from it, and nothing is changed; `none` ends that."""

    async def main() -> None:
        async with volume_of() as volume:
            await _both_kinds_split(volume)
            side = (b"first", b"the second")[brick]
            inode = await volume.inode("metadata")
            for path in ("data", "metadata"):
                await _set(volume, path, "choice", f"v-client-{brick}".encode())
            assert await volume.read("data") == side
            assert (await volume.lookup("data")).size == len(side)
            assert (await volume.top.stat(volume.reader, await volume.inode("data"))).size == len(side)
            assert await volume.top.getxattr(volume.reader, inode, b"user.side") == {b"user.side": side}
            assert (await volume.top.stat(volume.reader, inode)).mode & 0o777 == 0o600 + brick
            assert (await volume.lookup("metadata")).mode & 0o777 == 0o600 + brick
            for change in (lambda: volume.write("data", b"x"), lambda: volume.truncate("data", 1)):
                with refused(EIO):
                    await change()
            for path in ("data", "metadata"):
                await _set(volume, path, "choice", b"none")
            with refused(EIO):
                await volume.read("data")
            with refused(EIO):
                await volume.top.getxattr(volume.reader, inode, b"user.side")

    trio.run(main)


def test_split_brain_resolution_forgets_a_choice_after_a_time() -> None:
    """The kernel hears of it, which may have kept what it read."""

    async def main() -> None:
        async with volume_of() as volume:
            await _both_kinds_split(volume)
            ear = _Ear(volume)
            await _set(volume, "data", "choice-timeout", b"1")
            await _set(volume, "data", "choice", b"v-client-0")
            assert ear.heard == [(await volume.lookup("data")).gfid]
            await trio.sleep(59)
            assert await volume.read("data") == b"first"
            await trio.sleep(2)
            with refused(EIO):
                await volume.read("data")
            assert len(ear.heard) == 2
            ear.close()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class _Ear(Translator):
    """Hears which inodes look different from before."""

    type = "test/ear"

    def __init__(self, volume: Volume) -> None:
        super().__init__("ear", {}, volume.process)
        self.heard: list[bytes] = []
        self._parents = volume.top.translator.parents
        self._parents.append(self)

    def close(self) -> None:
        self._parents.remove(self)

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        if event is Event.UPCALL and isinstance(data, Inode):
            self.heard.append(data.gfid)


@pytest.mark.parametrize(
    ("path", "what", "value"),
    [
        ("data", "choice", b"v-client-7"),
        ("data", "choice", b""),
        ("fine", "choice", b"v-client-0"),
        ("/", "choice", b"v-client-0"),
        ("fine", "heal-finalize", b"v-client-0"),
        ("data", "heal-finalize", b"none"),
        ("data", "choice-timeout", b"soon"),
        ("data", "choice-timeout", b"0"),
        ("data", "status", b"yes"),
    ],
)
def test_split_brain_resolution_refuses_what_makes_no_sense(path: str, what: str, value: bytes) -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await _both_kinds_split(volume)
            with refused(errno.EINVAL):
                await _set(volume, path, what, value)
            with refused(EIO):
                await volume.read("data")

    trio.run(main)


@pytest.mark.parametrize("brick", [0, 1])
def test_split_brain_resolution_heals_from_the_copy_that_is_named(brick: int) -> None:
    async def main() -> None:
        async with volume_of() as volume:
            await _both_kinds_split(volume)
            side = (b"first", b"the second")[brick]
            await _set(volume, "data", "choice", f"v-client-{1 - brick}".encode())
            for path in ("data", "metadata"):
                await _set(volume, path, "heal-finalize", f"v-client-{brick}".encode())
                assert await _asked(volume, path) == NOT_IN_SPLIT_BRAIN
            await healed(volume)
            assert await volume.read("data") == volume.content(0, "data") == volume.content(1, "data") == side
            assert os.getxattr(volume.at(0, "metadata"), "user.side") == side
            assert (await volume.lookup("metadata")).mode & 0o777 == 0o600 + brick

    trio.run(main)
