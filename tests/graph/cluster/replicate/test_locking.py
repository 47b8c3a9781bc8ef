"""Locks of users and of the translators above: on a quorum of copies, or on none."""

from __future__ import annotations

import errno
import fcntl
from errno import ENOTCONN

import pytest
import trio

from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Flock
from tests.graph.cluster.replicate.healing import down
from tests.graph.cluster.replicate.volume import refused, served


def test_a_lock_that_one_copy_refuses_is_given_back_on_the_others() -> None:
    async def main() -> None:
        async with served(2, on_bricks=("features/locks",)) as volume:
            await volume.create("f", b"hello")
            fd = await volume.open("f")
            mine, theirs = (Flock(fcntl.F_WRLCK, 0, 0, owner, owner) for owner in (1, 2))
            await volume.replicate.children[1].lk(volume.reader, fd, fcntl.F_SETLK, theirs)
            with refused(errno.EAGAIN):
                await volume.top.lk(volume.reader, fd, fcntl.F_SETLK, mine)
            await volume.replicate.children[0].lk(volume.reader, fd, fcntl.F_SETLK, theirs)
            found = await volume.top.lk(volume.reader, fd, fcntl.F_GETLK, mine)
            assert found.type == fcntl.F_WRLCK
            await volume.close(fd)

    trio.run(main)


@pytest.mark.parametrize("away", [(), (0,), (1, 2)])
def test_internal_locks_are_taken_on_a_quorum_and_let_go(away: tuple[int, ...]) -> None:
    async def main() -> None:
        async with served(3, on_bricks=("features/locks",)) as volume:
            root = volume.graph.itable.root
            await down(volume, *away)
            lock = Flock(fcntl.F_WRLCK, 0, 0, 1, 1)
            unlock = lock._replace(type=fcntl.F_UNLCK)
            for _ in range(2):
                try:
                    await volume.top.inodelk(volume.reader, "dht", root, fcntl.F_SETLK, lock)
                    await volume.top.entrylk(volume.reader, "dht", root, b"n", 2, 1)
                except FopError as error:
                    assert (error.errno, len(away)) == (ENOTCONN, 2)
                    continue
                await volume.top.inodelk(volume.reader, "dht", root, fcntl.F_SETLK, unlock)
                await volume.top.entrylk(volume.reader, "dht", root, b"n", 1, 1)

    trio.run(main)
