"""mmap(2), shared and private, against reads and writes of the same file."""

from __future__ import annotations

import mmap
import os
from os import O_CREAT, O_RDONLY, O_RDWR

from tests.parity.scripts.table import content, file, script
from tests.parity.world import World

PAGE = mmap.PAGESIZE


def mapping(w: World, fd: int, length: int, *, shared: bool = True, write: bool = True) -> mmap.mmap | None:
    flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
    label = f"mmap {length} {'shared' if shared else 'private'} {'rw' if write else 'r'}"
    made: list[mmap.mmap] = []
    w.step(label, lambda: made.append(mmap.mmap(fd, length, flags, protection)))
    return made[0] if made else None


@script
def stores_into_a_shared_mapping_are_in_the_file(w: World) -> None:
    file(w, b"f", b"x" * (3 * PAGE))
    fd = w.open(b"f", O_RDWR)
    view = mapping(w, fd, 3 * PAGE)
    assert view is not None
    view[0:5] = b"first"
    view[PAGE + 10 : PAGE + 16] = b"second"
    w.pread(fd, 20, 0)
    w.pread(fd, 20, PAGE)
    view.flush()
    content(w, b"f")
    view[2 * PAGE :] = b"z" * PAGE
    view.close()
    w.close(fd)
    w.snapshot()


@script
def stores_into_a_private_mapping_are_not(w: World) -> None:
    file(w, b"f", b"x" * PAGE)
    fd = w.open(b"f", O_RDONLY)
    view = mapping(w, fd, PAGE, shared=False)
    assert view is not None
    view[0:4] = b"mine"
    w.say("view", view[0:8])
    w.pread(fd, 8, 0)
    view.close()
    w.close(fd)
    w.snapshot()


@script
def a_mapping_sees_what_is_written(w: World) -> None:
    file(w, b"f", b"x" * 2 * PAGE)
    fd = w.open(b"f", O_RDWR)
    view = mapping(w, fd, 2 * PAGE)
    assert view is not None
    w.say("before", view[0:4])
    w.pwrite(fd, b"new!", 0)
    w.say("after a write", view[0:4])
    append = w.open(b"f", O_RDWR | os.O_APPEND)
    w.pwrite(append, b"more", 0)
    w.close(append)
    w.fstat(fd)
    view.close()
    w.close(fd)


@script
def a_mapping_outlives_its_descriptor_and_its_name(w: World) -> None:
    file(w, b"f", b"x" * PAGE)
    w.link(b"f", b"other-name")
    fd = w.open(b"f", O_RDWR)
    view = mapping(w, fd, PAGE)
    assert view is not None
    w.close(fd)
    w.unlink(b"f")
    view[0:6] = b"stored"
    view.flush()
    view.close()
    content(w, b"other-name")
    w.snapshot()


@script
def two_processes_share_a_mapping(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.ftruncate(fd, PAGE)
    view = mapping(w, fd, PAGE)
    assert view is not None

    def child(w: World) -> None:
        mine = w.open(b"f", O_RDWR)
        theirs = mapping(w, mine, PAGE)
        assert theirs is not None
        theirs[0:5] = b"child"
        theirs.close()
        w.close(mine)

    w.child(child)
    w.say("parent sees", view[0:5])
    view.close()
    w.close(fd)
    w.snapshot()


@script
def the_last_page_ends_in_zeros_and_is_cut_at_the_end(w: World) -> None:
    file(w, b"f", b"short")
    fd = w.open(b"f", O_RDWR)
    view = mapping(w, fd, PAGE) if os.fstat(fd).st_size >= PAGE else None
    w.say("mapped beyond the end", view is not None)
    whole = mapping(w, fd, 5)
    assert whole is not None
    whole[0:5] = b"SHORT"
    whole.close()
    w.fstat(fd)
    w.ftruncate(fd, 100)
    w.pread(fd, 100, 0)
    w.close(fd)


@script
def mapping_needs_the_matching_access(w: World) -> None:
    file(w, b"f", b"x" * PAGE)
    for flags in (O_RDONLY, os.O_WRONLY):
        fd = w.open(b"f", flags)
        for shared in (True, False):
            for write in (True, False):
                view = mapping(w, fd, PAGE, shared=shared, write=write)
                if view is not None:
                    view.close()
        w.close(fd)
    empty = w.open(b"empty", O_RDWR | O_CREAT)
    w.step("mmap of a directory", lambda: mmap.mmap(os.open(b".", O_RDONLY), PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ))
    w.close(empty)


@script
def stores_change_the_times_once_they_are_flushed(w: World) -> None:
    file(w, b"f", b"x" * PAGE)
    fd = w.open(b"f", O_RDWR)
    view = mapping(w, fd, PAGE)
    assert view is not None
    w.times(b"f")
    w.tick()
    view[0:3] = b"new"
    view.flush()
    w.times(b"f")
    view.close()
    w.fsync(fd)
    w.close(fd)
    content(w, b"f")


@script
def a_cut_file_shows_zeros_when_it_grows_again_under_a_mapping(w: World) -> None:
    file(w, b"f", b"x" * 3 * PAGE)
    fd = w.open(b"f", O_RDWR)
    view = mapping(w, fd, 3 * PAGE)
    assert view is not None
    w.say("page 2", view[2 * PAGE : 2 * PAGE + 3])
    w.ftruncate(fd, PAGE + 5)
    w.ftruncate(fd, 3 * PAGE)
    w.say("page 1", view[PAGE : PAGE + 10])
    w.say("page 2 again", view[2 * PAGE : 2 * PAGE + 3])
    view.close()
    w.close(fd)
    w.snapshot()
