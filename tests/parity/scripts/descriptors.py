"""Open files that are no longer where they were: unlinked, renamed, replaced, shared between processes."""

from __future__ import annotations

import os
from os import O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY

from tests.parity.scripts.table import content, file, script
from tests.parity.world import World


@script
def an_unlinked_open_file_lives_until_it_is_closed(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.write(fd, b"before")
    w.unlink(b"f")
    w.listdir(b".")
    w.fstat(fd)
    w.write(fd, b" after")
    w.pread(fd, 100, 0)
    w.ftruncate(fd, 3)
    w.fchmod(fd, 0o600)
    w.step("fsetxattr", lambda: os.setxattr(fd, b"user.x", b"1"))
    w.step("fgetxattr", lambda: os.getxattr(fd, b"user.x"))
    w.step("futime", lambda: os.utime(fd, ns=(1_000_000_001, 2_000_000_002)))
    w.step("times", lambda: (os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns))
    w.fstat(fd)
    w.fsync(fd)
    w.linkat(fd, b"again")
    w.stat(b"f")
    w.close(fd)
    w.snapshot()


@script
def an_unlinked_open_fifo_lives_until_it_is_closed(w: World) -> None:
    """The file system is not asked to open it, and is still asked what it is."""
    w.mkfifo(b"p", 0o644)
    w.mkfifo(b"q", 0o644)
    w.link(b"q", b"q2")
    for name in (b"p", b"q"):
        fd = w.open(name, O_RDWR | os.O_NONBLOCK)
        w.unlink(name)
        w.fstat(fd)
        w.write(fd, b"through the pipe")
        w.read(fd, 100)
        w.fchmod(fd, 0o600)
        w.fstat(fd)
        w.close(fd)
    w.snapshot()


@script
def what_is_held_without_being_open_lives_on_too(w: World) -> None:
    """O_PATH."""
    file(w, b"f", b"content")
    w.symlink(b"text", b"l")
    held = [w.open(name, os.O_PATH | os.O_NOFOLLOW) for name in (b"f", b"l")]
    w.unlink(b"f")
    w.unlink(b"l")
    w.fstat(held[0])
    w.step("open it again", lambda: os.read(os.open(b"/proc/self/fd/%d" % held[0], O_RDONLY), 10))
    w.step("readlink", lambda: os.readlink(b"", dir_fd=held[1]))


@script
def a_name_can_be_used_again_while_its_old_file_is_open(w: World) -> None:
    file(w, b"f", b"old")
    old = w.open(b"f", O_RDWR)
    w.unlink(b"f")
    file(w, b"f", b"newer")
    w.fstat(old)
    w.stat(b"f")
    w.write(old, b"OLDEST")
    w.pread(old, 10, 0)
    content(w, b"f")
    w.close(old)
    content(w, b"f")
    w.snapshot()


@script
def a_replaced_open_file_lives_until_it_is_closed(w: World) -> None:
    file(w, b"a", b"aaaa")
    file(w, b"b", b"bb")
    a, b = w.open(b"a", O_RDWR), w.open(b"b", O_RDWR)
    w.rename(b"a", b"b")
    w.fstat(a)
    w.fstat(b)
    w.write(b, b"still b")
    w.pread(b, 10, 0)
    w.pread(a, 10, 0)
    content(w, b"b")
    w.close(a)
    w.close(b)
    w.snapshot()


@script
def a_renamed_open_file_goes_on(w: World) -> None:
    w.mkdir(b"d", 0o755)
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.write(fd, b"one ")
    w.rename(b"f", b"d/g")
    w.write(fd, b"two ")
    w.rename(b"d", b"e")
    w.write(fd, b"three")
    w.fstat(fd)
    w.close(fd)
    content(w, b"e/g")
    w.snapshot()


@script
def one_of_two_links_is_removed_while_open(w: World) -> None:
    file(w, b"a", b"content")
    w.link(b"a", b"b")
    fd = w.open(b"a", O_RDWR)
    w.unlink(b"a")
    w.fstat(fd)
    w.stat(b"b")
    w.write(fd, b"CON")
    w.close(fd)
    content(w, b"b")
    w.snapshot()


@script
def a_removed_directory_can_still_be_looked_at_but_not_used(w: World) -> None:
    w.mkdir(b"d", 0o755)
    fd = w.open(b"d", O_RDONLY)
    w.rmdir(b"d")
    w.fstat(fd)
    w.step("list", lambda: os.listdir(fd))
    w.step("create in it", lambda: os.open(b"x", O_WRONLY | O_CREAT, dir_fd=fd))
    w.step("mkdir in it", lambda: os.mkdir(b"x", dir_fd=fd))
    w.step("stat in it", lambda: os.stat(b"x", dir_fd=fd).st_size)
    w.mkdir(b"d", 0o700)
    w.step("still empty", lambda: os.listdir(fd))
    w.close(fd)
    w.snapshot()


@script
def a_removed_working_directory_is_nowhere(w: World) -> None:
    w.mkdir(b"d", 0o755)
    w.chdir(b"d")
    w.rmdir(b"../d")
    w.step("getcwd", lambda: os.getcwdb() and b"somewhere")
    w.open(b"x", O_WRONLY | O_CREAT)
    w.listdir(b".")
    w.stat(b".")


@script
def descriptors_are_shared_by_a_child(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.write(fd, b"parent ")

    def child(w: World) -> None:
        w.write(fd, b"child ")
        w.unlink(b"f")
        w.close(fd)

    w.child(child)
    w.lseek(fd, 0, os.SEEK_CUR)
    w.write(fd, b"parent again")
    w.pread(fd, 100, 0)
    w.close(fd)
    w.snapshot()


@script
def a_file_truncated_by_its_name_is_short_for_its_readers(w: World) -> None:
    file(w, b"f", b"x" * 10_000)
    fd = w.open(b"f", O_RDONLY)
    w.read(fd, 5000)
    w.truncate(b"f", 100)
    w.read(fd, 5000)
    w.close(w.open(b"f", O_WRONLY | O_TRUNC))
    w.pread(fd, 100, 0)
    w.fstat(fd)
    w.close(fd)


@script
def relative_calls_work_from_an_open_directory(w: World) -> None:
    w.mkdir(b"d", 0o755)
    fd = w.open(b"d", O_RDONLY)
    w.step("mkdirat", lambda: os.mkdir(b"sub", dir_fd=fd))
    w.step("symlinkat", lambda: os.symlink(b"sub", b"link", dir_fd=fd))
    w.rename(b"d", b"e")
    w.step("mkdirat after rename", lambda: os.mkdir(b"more", dir_fd=fd))
    w.step("renameat", lambda: os.rename(b"more", b"less", src_dir_fd=fd, dst_dir_fd=fd))
    w.fchdir(fd)
    w.listdir(b".")
    w.step("list", lambda: sorted(os.listdir(fd)))
    w.close(fd)
