"""The edges: names, paths, sizes, numbers."""

from __future__ import annotations

import os
from os import O_CREAT, O_RDONLY, O_RDWR, O_WRONLY

from tests.parity.scripts.table import content, file, script
from tests.parity.world import World


@script
def names_of_255_bytes_work_and_of_256_do_not(w: World) -> None:
    for length in (1, 254, 255, 256, 300):
        name = b"n" * length
        w.close(w.open(name, O_WRONLY | O_CREAT))
        w.stat(name)
        w.mkdir(b"d" * length, 0o755)
        w.symlink(b"x", b"s" * length)
        w.mkfifo(b"p" * length, 0o644)
        w.link(b"n", b"l" * length)
        w.rename(b"n" * min(length, 255), b"r" * length)
        w.rename(b"r" * length, b"n" * length)
        w.readlink(b"s" * length)
        w.listdir(b"d" * length)
        w.access(name, os.F_OK)
        w.chmod(name, 0o600)
        w.getxattr(name, b"user.x")
        w.rmdir(b"d" * length)
        w.unlink(b"s" * length)
    w.snapshot()


@script
def a_name_that_is_too_long_is_refused_in_every_place_of_a_path(w: World) -> None:
    long = b"x" * 256
    w.mkdir(b"d", 0o755)
    for path in (long + b"/a", b"d/" + long, b"d/" + long + b"/a", b"missing/" + long):
        w.stat(path)
        w.open(path, O_WRONLY | O_CREAT)
        w.rename(b"d", path)


@script
def names_are_bytes(w: World) -> None:
    names = [b"\xff\xfe\xfd", b"caf\xe9", "caf\u00e9".encode(), b" ", b"  leading", b"trailing ", b"a\nb", b"\t", b"-rf", b"*", b"?", b"\\", b"'",
             b'"', b"$HOME", b"#", b"%s", b"...", b"..x", b".x", b"\x01", b"\x7f", b"a=b,c", "\U0001f600".encode()]  # fmt: skip
    for name in names:
        file(w, name, name)
        w.mkdir(name + b".d", 0o755)
        file(w, name + b".d/" + name)
    w.scandir(b".")
    for name in names:
        content(w, name)
        w.rename(name, name + b".moved")
    w.snapshot()


@script
def names_that_differ_in_case_or_in_composition_are_different(w: World) -> None:
    for name in ("a", "A", "\u00e9", "e\u0301", "\u212b", "\u00c5"):
        file(w, name.encode(), name.encode())
    w.snapshot()


@script
def names_that_glusterfs_uses_inside_belong_to_nobody_outside(w: World) -> None:
    """In a directory of one's own `.glusterfs` is a name like any other; in the root of the volume it is not."""
    for name in (b".glusterfs", b".trashcan", b"indices", b".landfill", b"dht", b"xattrop"):
        w.mkdir(name, 0o755)
        file(w, name + b"/f", name)
        w.rename(name, name + b".moved")
    w.snapshot()


@script
def temporary_names_of_rsync_and_editors(w: World) -> None:
    """The hash of a distributed volume looks through `.name.XXXXXX`: the file must be found under both names."""
    for name in (b"document.txt", b"a.b.c", b"x"):
        for temporary in (b"." + name + b".Ab12Cd", name + b"~", b"." + name + b".swp", b"#" + name + b"#"):
            file(w, temporary, temporary)
            w.rename(temporary, name)
            content(w, name)
            w.stat(temporary)
    w.snapshot()


@script
def a_path_of_path_max_bytes(w: World) -> None:
    part = b"p" * 200
    path = b"."
    while len(path) + len(part) + 1 < 3800:
        path += b"/" + part
        w.step("mkdir", lambda path=path: os.mkdir(path))
    for total in (4094, 4095, 4096, 4097, 5000):
        name = (path + b"/" + b"d" * 255 + b"/").ljust(total, b"x")[:total]
        w.step(f"a path of {total} bytes", lambda name=name: os.stat(name))
    w.step("slashes up to 4095", lambda: os.stat(b"." + b"/" * 4093 + b".").st_mode)
    w.step("slashes up to 4096", lambda: os.stat(b"." + b"/" * 4094 + b".").st_mode)


@script
def deeper_than_any_path_can_name(w: World) -> None:
    """Step by step one gets deeper than PATH_MAX, and back."""
    name = b"q" * 250
    for depth in range(20):
        w.step(f"mkdir at {depth}", lambda: os.mkdir(name))
        w.chdir(name)
    file(w, b"bottom", b"deep")
    content(w, b"bottom")
    w.unlink(b"bottom")
    for depth in range(20):
        w.chdir(b"..")
        w.step(f"rmdir at {depth}", lambda: os.rmdir(name))
    w.listdir(b".")


@script
def empty_and_odd_paths(w: World) -> None:
    w.mkdir(b"d", 0o755)
    for path in (b"", b"/", b".", b"..", b"./.", b"d//", b"d/./.", b"d/../d", b"./d"):
        w.step(f"stat {path!r}", lambda path=path: oct(os.stat(path).st_mode & 0o170000))
        w.rename(path, b"x")
        w.unlink(path)


@script
def offsets_at_the_end_of_what_is_possible(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    for offset in (2**31 - 1, 2**31, 2**32 - 1, 2**32):
        w.pwrite(fd, b"ab", offset)
        w.pread(fd, 4, offset - 1)
        w.fstat(fd)
    w.lseek(fd, 2**62, os.SEEK_SET)
    w.lseek(fd, -(2**40), os.SEEK_CUR)
    w.ftruncate(fd, 0)
    w.pwrite(fd, b"x", -1)
    w.close(fd)
    w.snapshot()


@script
def many_open_files_at_once(w: World) -> None:
    fds = [os.open(b"f%d" % place, O_RDWR | O_CREAT) for place in range(300)]
    for place, fd in enumerate(fds):
        os.write(fd, b"%d" % place)
    w.say("all", [os.pread(fd, 10, 0) for fd in fds])
    for fd in fds:
        os.close(fd)
    w.listdir(b".")


@script
def reading_through_many_small_files(w: World) -> None:
    w.mkdir(b"d", 0o755)
    for place in range(200):
        with open(b"d/%d" % place, "wb") as target:
            target.write(b"%d " % place * 50)
    w.snapshot()
    w.open(b"d/200", O_RDONLY)
