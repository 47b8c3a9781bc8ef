"""open(2): flags, modes, what may be opened how."""

from __future__ import annotations

import itertools
import os
from os import (
    O_APPEND,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOFOLLOW,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_TMPFILE,
    O_TRUNC,
    O_WRONLY,
)

from tests.parity.scripts.table import content, file, script
from tests.parity.world import World

TARGETS = (
    b"file",
    b"empty",
    b"dir",
    b"to-file",
    b"to-dir",
    b"dangling",
    b"loop",
    b"missing",
    b"missing/x",
    b"file/x",
    b"fifo",
)


def targets(w: World) -> None:
    """One of everything that a path can lead to."""
    file(w, b"file", b"content")
    file(w, b"empty")
    w.mkdir(b"dir", 0o755)
    w.symlink(b"file", b"to-file")
    w.symlink(b"dir", b"to-dir")
    w.symlink(b"nowhere", b"dangling")
    w.symlink(b"loop", b"loop")
    w.mkfifo(b"fifo", 0o644)


@script
def every_combination_of_open_flags_on_every_kind_of_target(w: World) -> None:
    targets(w)
    for access in (O_RDONLY, O_WRONLY, O_RDWR):
        for more in itertools.product((0, O_CREAT), (0, O_EXCL), (0, O_TRUNC), (0, O_DIRECTORY), (0, O_NOFOLLOW)):
            flags = access | sum(more)
            if flags & O_CREAT and flags & O_DIRECTORY:
                continue  # the kernel's answer changed between versions
            if flags & O_EXCL and not flags & O_CREAT:
                continue  # undefined
            for target in TARGETS:
                fd = w.open(target, flags | os.O_NONBLOCK)
                if fd >= 0:
                    w.fstat(fd)
                    w.close(fd)
            for made in (b"missing", b"nowhere"):
                w.unlink(made)
            file(w, b"file", b"content")
    w.snapshot()


@script
def a_directory_in_the_middle_of_a_path_must_be_one(w: World) -> None:
    targets(w)
    for path in (
        b"file/x",
        b"to-file/x",
        b"dangling/x",
        b"loop/x",
        b"missing/x",
        b"to-dir/x",
        b"dir/../file",
        b"file/..",
        b"./file/",
    ):
        w.open(path, O_RDONLY)
        w.stat(path)
        w.mkdir(path, 0o755)


@script
def opening_for_writing_truncates_only_when_asked(w: World) -> None:
    for flags in (O_WRONLY, O_WRONLY | O_TRUNC, O_WRONLY | O_CREAT, O_WRONLY | O_CREAT | O_TRUNC, O_RDONLY | O_TRUNC):
        file(w, b"f", b"0123456789")
        fd = w.open(b"f", flags)
        w.fstat(fd)
        w.close(fd)
        content(w, b"f")


@script
def appending_goes_to_the_end_whoever_else_writes(w: World) -> None:
    file(w, b"f", b"start")
    append = w.open(b"f", O_WRONLY | O_APPEND)
    other = w.open(b"f", O_RDWR)
    w.write(append, b"-a")
    w.pwrite(other, b"----------", 20)
    w.write(append, b"-b")
    w.lseek(append, 0, os.SEEK_CUR)
    w.lseek(append, 0, os.SEEK_SET)
    w.write(append, b"-c")
    w.ftruncate(other, 3)
    w.write(append, b"-d")
    w.pwrite(append, b"-e", 0)  # Linux appends here too
    w.pread(other, 100, 0)
    w.close(append)
    w.close(other)
    w.snapshot()


@script
def two_descriptors_that_append_interleave_without_loss(w: World) -> None:
    one, two = w.open(b"log", O_WRONLY | O_CREAT | O_APPEND), w.open(b"log", O_WRONLY | O_APPEND)
    for place in range(20):
        w.write(one, b"one %d\n" % place)
        w.write(two, b"two %d\n" % place)
    w.close(one)
    w.close(two)
    w.snapshot()


@script
def a_new_file_has_the_mode_that_umask_leaves(w: World) -> None:
    for umask in (0, 0o022, 0o077, 0o777, 0o027):
        w.umask(umask)
        for mode in (0o777, 0o666, 0o600, 0o7777, 0, 0o444):
            name = b"%o-%o" % (umask, mode)
            w.close(w.open(name, O_WRONLY | O_CREAT, mode))
            w.mkdir(name + b"-dir", mode)
            w.mkfifo(name + b"-fifo", mode)
    w.umask(0o022)
    w.snapshot()


@script
def a_file_made_without_permissions_can_be_written_by_its_maker(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT | O_EXCL, 0)
    w.write(fd, b"secret")
    w.pread(fd, 10, 0)
    w.close(fd)
    w.stat(b"f")


@script
def an_exclusive_create_sees_every_kind_of_name(w: World) -> None:
    targets(w)
    for name in (b"file", b"dir", b"to-file", b"dangling", b"loop", b"fifo", b"new"):
        w.close(w.open(name, O_WRONLY | O_CREAT | O_EXCL))
    w.snapshot()


@script
def creating_through_a_dangling_link_makes_its_target(w: World) -> None:
    w.symlink(b"target", b"link")
    file(w, b"link", b"through")
    w.lstat(b"link")
    content(w, b"target")
    w.symlink(b"no/such", b"deeper")
    w.open(b"deeper", O_WRONLY | O_CREAT)


@script
def a_path_descriptor_can_be_looked_at_but_not_read(w: World) -> None:
    targets(w)
    for target in (b"file", b"dir", b"to-file"):
        fd = w.open(target, O_PATH | O_NOFOLLOW)
        w.fstat(fd)
        w.read(fd, 1)
        w.write(fd, b"x")
        w.fchmod(fd, 0o600)
        w.close(fd)


@script
def a_temporary_file_has_no_name_until_it_is_given_one(w: World) -> None:
    fd = w.open(b".", O_TMPFILE | O_RDWR, 0o640)
    if fd >= 0:
        w.fstat(fd)
        w.write(fd, b"unnamed")
        w.listdir(b".")
        w.linkat(fd, b"named")
        w.fstat(fd)
        w.close(fd)
        content(w, b"named")
    exclusive = w.open(b".", O_TMPFILE | O_RDWR | O_EXCL, 0o640)
    if exclusive >= 0:
        w.linkat(exclusive, b"never")
        w.close(exclusive)
    w.open(b"file", O_TMPFILE | O_RDWR)
    w.snapshot()


@script
def direct_io_reads_what_was_written_either_way(w: World) -> None:
    file(w, b"f", bytes(range(256)) * 64)
    fd = w.open(b"f", O_RDWR | os.O_DIRECT)
    if fd >= 0:
        import mmap

        page = mmap.mmap(-1, 4096)
        page.write(b"D" * 4096)
        w.step("write direct", lambda: os.pwrite(fd, page, 4096))
        w.step("read direct", lambda: os.preadv(fd, [page], 8192))
        w.say("page", bytes(page))
        w.close(fd)
    other = w.open(b"f", O_RDONLY)
    w.pread(other, 8192, 2048)
    w.close(other)
    w.snapshot()


@script
def synchronous_writes_are_there_at_once(w: World) -> None:
    for name, flags in ((b"sync", os.O_SYNC), (b"dsync", os.O_DSYNC)):
        fd = w.open(name, O_WRONLY | O_CREAT | flags)
        w.write(fd, b"now")
        content(w, name)
        w.fsync(fd)
        w.fdatasync(fd)
        w.close(fd)
