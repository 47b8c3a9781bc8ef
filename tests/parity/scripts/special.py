"""Fifos, sockets and devices in the volume, and the figures of statvfs."""

from __future__ import annotations

import os
import socket
import stat
from os import O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY

from tests.parity.scripts.table import as_root, file, script
from tests.parity.world import World


@script
def every_kind_of_file_that_mknod_makes(w: World) -> None:
    for name, kind in ((b"file", stat.S_IFREG), (b"fifo", stat.S_IFIFO), (b"socket", stat.S_IFSOCK)):
        w.mknod(name, 0o640 | kind)
        w.lstat(name)
        w.mknod(name, 0o640 | kind)
        w.chmod(name, 0o604)
        w.rename(name, name + b"2")
        w.link(name + b"2", name)
    w.mknod(b"dir", 0o755 | stat.S_IFDIR)
    w.mknod(b"missing/x", 0o644 | stat.S_IFREG)
    w.snapshot()


@as_root
def device_numbers_are_kept(w: World) -> None:
    for place, (major, minor) in enumerate(((1, 3), (7, 0), (255, 255), (4095, 1_048_575), (0, 0))):
        w.mknod(b"c%d" % place, 0o644 | stat.S_IFCHR, os.makedev(major, minor))
        w.mknod(b"b%d" % place, 0o644 | stat.S_IFBLK, os.makedev(major, minor))
    w.snapshot()


@script
def a_fifo_carries_what_is_written(w: World) -> None:
    w.mkfifo(b"p", 0o600)
    w.open(b"p", O_WRONLY | O_NONBLOCK)
    reader = w.open(b"p", O_RDONLY | O_NONBLOCK)
    writer = w.open(b"p", O_WRONLY | O_NONBLOCK)
    w.write(writer, b"through the pipe")
    w.read(reader, 100)
    w.read(reader, 100)
    w.close(writer)
    w.read(reader, 100)
    w.close(reader)
    w.stat(b"p")


@script
def a_socket_listens_under_its_name(w: World) -> None:
    server = socket.socket(socket.AF_UNIX)
    w.step("bind", lambda: server.bind(b"s"))
    w.step("bind again", lambda: socket.socket(socket.AF_UNIX).bind(b"s"))
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    w.step("connect", lambda: client.connect(b"s"))
    w.step("send", lambda: client.send(b"hello"))
    w.step("receive", lambda: server.accept()[0].recv(10))
    w.open(b"s", O_RDWR)
    w.lstat(b"s")
    w.rename(b"s", b"t")
    w.step("connect by the new name", lambda: socket.socket(socket.AF_UNIX).connect(b"t"))
    w.unlink(b"t")
    w.step("connect to nothing", lambda: socket.socket(socket.AF_UNIX).connect(b"t"))
    client.close()
    server.close()


@as_root
def a_device_in_the_volume_is_the_device(w: World) -> None:
    w.mknod(b"null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    fd = w.open(b"null", O_RDWR)
    w.write(fd, b"gone")
    w.read(fd, 10)
    w.close(fd)


@script
def statvfs_is_plausible(w: World) -> None:
    figures = os.statvfs(b".")
    w.say("name limit", figures.f_namemax)
    w.say("free is within total", figures.f_bavail <= figures.f_bfree <= figures.f_blocks)
    w.say("files", figures.f_ffree <= figures.f_files)
    w.say("sizes", figures.f_bsize > 0 and figures.f_frsize > 0)
    file(w, b"f", b"x" * (1 << 20))
    fd = w.open(b"f", O_RDWR)
    w.fsync(fd)
    w.close(fd)
    if os.geteuid() == 0:  # others' ramdisks are folders of one tmpfs, where somebody else may free as much
        used = figures.f_bfree - os.statvfs(b".").f_bfree
        w.say("a mebibyte is used", used * figures.f_frsize >= 1 << 20)
    w.say("statvfs of a file", os.statvfs(b"f").f_namemax)
    w.step("statvfs of nothing", lambda: os.statvfs(b"missing"))
