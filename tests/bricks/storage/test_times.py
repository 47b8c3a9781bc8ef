"""Times: stamped by the caller and the same for all copies, or else the backing store's own."""

from __future__ import annotations

import os
import stat
import time

import pytest

from fusemux.bricks.storage.posix import mdata
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Iatt, SetAttr
from tests.bricks.serving import STEP_NS, Place, Volume, run


async def times(volume: Volume, inode: Inode) -> tuple[int, int, int]:
    """Change, modification and access time."""
    iatt: Iatt = await volume.top.stat(volume.frame(stamped=False), inode, None)
    return iatt.ctime_ns, iatt.mtime_ns, iatt.atime_ns


def recorded(place: Place, path: str) -> mdata.Times | None:
    value = place.stored(path, b"trusted.glusterfs.mdata")
    return None if value is None else mdata.unpack(value)


def test_each_fop_moves_the_times_that_posix_says(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        top, root = volume.top, volume.root
        inode, fd, _ = await volume.create(b"f")
        born = volume.now
        assert await times(volume, inode) == (born, born, born)
        await top.writev(volume.frame(), fd, b"x", 0, None)
        written = volume.now
        assert await times(volume, inode) == (written, written, born)
        await top.setattr(volume.frame(), inode, SetAttr(mode=0o600), None)
        assert await times(volume, inode) == (volume.now, written, born)
        await top.link(volume.frame(), inode, root, b"g", None)
        assert await times(volume, inode) == (volume.now, written, born)
        assert (await times(volume, root))[:2] == (volume.now, volume.now)
        await volume.unlink(b"g", inode)
        assert await times(volume, inode) == (volume.now, written, born)
        assert (await times(volume, root))[:2] == (volume.now, volume.now)
        await top.readv(volume.frame(), fd, 1, 0, None)
        assert (await times(volume, inode))[2] == volume.now, "a stamped read moves the access time"
        await top.release(volume.frame(), fd, None)
        assert recorded(brick, "f") == await times(volume, inode)
        await top.syncfs(volume.frame(), root, None)
        assert recorded(brick, ".") == await times(volume, root)

    run(brick, scenario)


@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "fifo"])
def test_times_are_set_to_the_nanosecond(brick: Place, kind: str) -> None:
    async def scenario(volume: Volume) -> None:
        match kind:
            case "file":
                inode = await volume.file(b"x")
            case "directory":
                inode = await volume.mkdir(b"x")
            case "symlink":
                inode = await volume.symlink(b"x", b"nowhere")
            case _:
                inode = await volume.mknod(b"x", stat.S_IFIFO | 0o600)
        _, mtime, _ = await times(volume, inode)
        await volume.top.setattr(volume.frame(), inode, SetAttr(atime_ns=1_234_567_891), None)
        assert await times(volume, inode) == (volume.now, mtime, 1_234_567_891)
        await volume.top.setattr(volume.frame(), inode, SetAttr(mtime_ns=-5_000_000_001), None)
        assert await times(volume, inode) == (volume.now, -5_000_000_001, 1_234_567_891)
        later = 4_294_967_299 * 10**9 + 7
        await volume.top.setattr(volume.frame(), inode, SetAttr(atime_ns=later, mtime_ns=later, ctime_ns=3), None)
        assert await times(volume, inode) == (3, later, later)
        assert recorded(brick, "x") == (3, later, later)
        backing = os.lstat(brick.path / "x")
        assert (backing.st_mtime_ns, backing.st_atime_ns) == (later, later)

    run(brick, scenario)


def test_a_time_set_into_the_future_yields_to_the_next_write(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f")
        await volume.top.setattr(volume.frame(), inode, SetAttr(mtime_ns=volume.now + 86_400 * 10**9), None)
        fd = await volume.open(inode)
        await volume.top.writev(volume.frame(), fd, b"x", 0, None)
        assert (await times(volume, inode))[1] == volume.now
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_what_arrives_out_of_order_does_not_turn_time_back(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode, fd, _ = await volume.create(b"f")
        early, late = volume.frame(), volume.frame()
        assert late.time_ns - early.time_ns == STEP_NS < mdata.WINDOW_NS
        await volume.top.writev(late, fd, b"x", 0, None)
        await volume.top.writev(early, fd, b"x", 1, None)
        assert (await times(volume, inode))[:2] == (late.time_ns, late.time_ns)
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)


def test_without_stamps_the_backing_store_keeps_the_times(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        frame = volume.frame(stamped=False)
        before = time.time_ns() - 10**9
        inode, fd, _ = await volume.create(b"f", frame=frame)
        await volume.top.writev(frame, fd, b"x", 0, None)
        await volume.top.release(frame, fd, None)
        assert recorded(brick, "f") is None
        assert recorded(brick, ".") is None
        st = os.stat(brick.path / "f")
        assert await times(volume, inode) == (st.st_ctime_ns, st.st_mtime_ns, st.st_atime_ns)
        assert all(time_ns > before for time_ns in await times(volume, inode))
        await volume.top.setattr(frame, inode, SetAttr(mtime_ns=77), None)
        assert (await times(volume, inode))[1] == 77

    run(brick, scenario)


def test_times_once_recorded_are_kept_true_without_stamps_too(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode = await volume.file(b"f")
        old = await times(volume, inode)
        frame, before = volume.frame(stamped=False), time.time_ns()
        fd = await volume.open(inode)
        await volume.top.writev(frame, fd, b"x", 0, None)
        await volume.top.release(frame, fd, None)
        ctime, mtime, atime = await times(volume, inode)
        assert min(ctime, mtime) >= before
        assert atime == old[2]
        await volume.top.link(frame, inode, volume.root, b"g", None)
        assert (await times(volume, volume.root))[1] >= before

    run(brick, scenario)


def test_the_first_stamp_on_an_old_object_takes_the_rest_from_the_backing_store(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        inode, fd, _ = await volume.create(b"f", frame=volume.frame(stamped=False))
        await volume.top.release(volume.frame(stamped=False), fd, None)
        st = os.stat(brick.path / "f")
        await volume.top.setattr(volume.frame(), inode, SetAttr(mode=0o600), None)
        assert await times(volume, inode) == (volume.now, st.st_mtime_ns, st.st_atime_ns)

    run(brick, scenario)


def test_a_file_that_is_open_and_its_name_answer_the_same_times(brick: Place) -> None:
    async def scenario(volume: Volume) -> None:
        _, fd, _ = await volume.create(b"f")
        await volume.top.writev(volume.frame(), fd, b"x", 0, None)
        by_fd = await volume.top.stat(volume.frame(stamped=False), fd, None)
        by_name = await volume.lookup(b"f")
        listed = (await volume.list(plus=True))[0].iatt
        assert by_fd == by_name == listed
        await volume.top.release(volume.frame(), fd, None)
        assert await volume.lookup(b"f") == by_name

    run(brick, scenario)


@pytest.mark.parametrize("change", ["truncate", "fallocate"])
def test_what_the_brick_changes_itself_is_not_taken_for_a_write_of_the_kernel(brick: Place, change: str) -> None:
    """A file that is passed through has the times that its last change has answered, until it is written again."""

    async def scenario(volume: Volume) -> None:
        inode, fd, _ = await volume.create(b"f")
        assert volume.top.backing(fd) is not None
        frame = volume.frame()
        frame.time_ns = time.time_ns() + 1_000_000  # later than the kernel's clock
        if change == "truncate":
            answered = await volume.top.truncate(frame, inode, 2, None)
        else:
            answered = await volume.top.fallocate(frame, fd, 0, 0, 8192, None)
        found = await volume.top.stat(volume.frame(), inode, None)
        assert (found.ctime_ns, found.mtime_ns) == (answered.ctime_ns, answered.mtime_ns) == (frame.time_ns,) * 2
        with open(f"/proc/self/fd/{volume.top.backing(fd)}", "wb") as file:
            file.write(b"as the kernel does")
        assert (await volume.top.stat(volume.frame(), inode, None)).mtime_ns > answered.mtime_ns
        await volume.top.release(volume.frame(), fd, None)

    run(brick, scenario)
