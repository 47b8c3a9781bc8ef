"""features/arbiter: contents stop here, names and attributes do not."""

from __future__ import annotations

import errno
import os

import pytest
import trio

from fusemux.graph.framework.errors import FopError
from tests.graph.cluster.replicate.volume import served


def test_what_changes_contents_succeeds_and_what_reads_them_does_not() -> None:
    async def main() -> None:
        async with served(3, arbiter_count="1") as volume:
            await volume.create("f", b"hello")
            arbiter = volume.replicate.children[2]
            fd = await volume.open("f")
            frame = volume.tick()
            assert await arbiter.writev(frame, fd, b"x" * 100, 0) == 100
            assert (await arbiter.truncate(frame, fd, 50)).size == 0
            assert (await arbiter.truncate(frame, fd.inode, 50)).size == 0
            assert (await arbiter.fallocate(frame, fd, 0, 0, 50)).size == 0
            assert await arbiter.copy_file_range(frame, fd, 0, fd, 10, 5, 0) == 5
            for read in (
                arbiter.readv(frame, fd, 10, 0),
                arbiter.seek(frame, fd, 0, os.SEEK_DATA),
                arbiter.rchecksum(frame, fd, 0, 10),
            ):
                with pytest.raises(FopError) as refused:
                    await read
                assert refused.value.errno == errno.ENOTCONN
            await volume.close(fd)
            assert volume.content(2, "f") == b""

    trio.run(main)
