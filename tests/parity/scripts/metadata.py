"""Modes, owners, times."""

from __future__ import annotations

import os
from os import O_CREAT, O_RDONLY, O_RDWR, O_WRONLY

from tests.parity.libc import UTIME_NOW, UTIME_OMIT
from tests.parity.scripts.table import as_root, content, file, script
from tests.parity.world import World


def one_of_each(w: World) -> tuple[bytes, ...]:
    file(w, b"file", b"content")
    w.mkdir(b"dir", 0o755)
    w.mkfifo(b"fifo", 0o644)
    return b"file", b"dir", b"fifo"


@script
def chmod_sets_all_twelve_bits(w: World) -> None:
    for name in one_of_each(w):
        for mode in (0, 0o777, 0o644, 0o1777, 0o2755, 0o4755, 0o7777, 0o700):
            w.chmod(name, mode)
            w.stat(name)
    fd = w.open(b"file", O_RDONLY)
    w.fchmod(fd, 0o640)
    w.fstat(fd)
    w.close(fd)
    w.chmod(b"missing", 0o644)
    w.chmod(b"file/x", 0o644)


@as_root
def chown_sets_owner_and_group_each_or_both(w: World) -> None:
    for name in one_of_each(w):
        for uid, gid in (
            (1000, 1001),
            (-1, 1002),
            (1003, -1),
            (-1, -1),
            (0, 0),
            (65534, 65534),
            (4_000_000_000, 4_000_000_000),
        ):
            w.chown(name, uid, gid)
            w.stat(name)
    w.symlink(b"file", b"link")
    w.lchown(b"link", 7, 8)
    w.lstat(b"link")
    w.chown(b"link", 9, 10)
    w.lstat(b"link")
    w.stat(b"file")
    fd = w.open(b"file", O_RDONLY)
    w.fchown(fd, 11, 12)
    w.fstat(fd)
    w.close(fd)
    w.chown(b"missing", 1, 1)


@as_root
def changing_owners_clears_setuid_and_setgid(w: World) -> None:
    for mode in (0o6755, 0o6777, 0o2644, 0o2755, 0o4711, 0o6711):
        for name in one_of_each(w):
            w.chmod(name, mode)
            w.chown(name, 1000, 1000)
            w.stat(name)
            w.chown(name, 0, 0)
            w.stat(name)
        for name in (b"file", b"fifo"):
            w.unlink(name)
        w.rmdir(b"dir")


@as_root
def a_chown_that_changes_nobody_clears_setuid_and_setgid_too(w: World) -> None:
    for mode in (0o6755, 0o2644, 0o2755, 0o4711):
        file(w, b"f")
        w.chmod(b"f", mode)
        w.chown(b"f", -1, -1)
        w.stat(b"f")


@as_root
def writing_as_a_user_clears_setuid_and_setgid(w: World) -> None:
    write_with_modes(w, (0o6777, 0o2777, 0o4777, 0o4766, 0o4711))


@as_root
def writing_as_a_stranger_clears_setgid_also_without_group_execute(w: World) -> None:
    write_with_modes(w, (0o2767, 0o6766))


def write_with_modes(w: World, modes: tuple[int, ...]) -> None:
    w.chmod(b".", 0o777)

    def write(w: World) -> None:
        fd = w.open(b"f", O_RDWR)
        w.write(fd, b"x")
        w.close(fd)
        w.stat(b"f")

    def cut(w: World) -> None:
        w.truncate(b"f", 3)
        w.stat(b"f")

    def open_and_cut(w: World) -> None:
        w.close(w.open(b"f", os.O_WRONLY | os.O_TRUNC))
        w.stat(b"f")

    for action in (write, cut, open_and_cut):
        for mode in modes:
            file(w, b"f", b"content")
            w.chmod(b"f", mode)
            w.child(action, uid=1000, gid=1000)
            w.stat(b"f")
            w.chmod(b"f", mode)
            write(w)
            w.unlink(b"f")


@script
def times_are_set_to_the_nanosecond(w: World) -> None:
    w.symlink(b"file", b"link")
    for name in (*one_of_each(w), b"link"):
        for atime, mtime in (
            (0, 0),
            (1, 2),
            (999_999_999, 1_000_000_001),
            (10**18 + 123_456_789, 2 * 10**18 + 987_654_321),
        ):
            w.step(
                f"utime({name!r}, {atime}, {mtime})",
                lambda n=name, t=(atime, mtime): os.utime(n, ns=t, follow_symlinks=False),
            )
            w.exact_times(name)


@script
def times_before_the_epoch_and_far_ahead(w: World) -> None:
    file(w, b"f")
    for seconds in (-1, -1_000_000_000, 2**31 - 1, 2**31, 2**32, 2**33):
        w.utimensat(b"f", (seconds, 5), (seconds, 999_999_999))
        w.exact_times(b"f")


@script
def a_time_can_be_omitted_or_now(w: World) -> None:
    file(w, b"f")
    w.utimensat(b"f", (100, 1), (200, 2))
    w.utimensat(b"f", (0, UTIME_OMIT), (300, 3))
    w.exact_times(b"f")
    w.utimensat(b"f", (400, 4), (0, UTIME_OMIT))
    w.exact_times(b"f")
    w.utimensat(b"f", (0, UTIME_OMIT), (0, UTIME_OMIT))
    w.exact_times(b"f")
    w.utimensat(b"f", (500, 5), (0, UTIME_NOW))
    w.say("mtime is recent", os.stat(b"f").st_mtime > 1_500_000_000)
    w.say("atime", os.stat(b"f").st_atime_ns)
    w.utimensat(b"f", (0, UTIME_NOW), (0, UTIME_NOW))
    w.say("atime is recent", os.stat(b"f").st_atime > 1_500_000_000)
    w.say("both at once", abs(os.stat(b"f").st_atime_ns - os.stat(b"f").st_mtime_ns) < 10**9)
    w.utimensat(b"f", (1, 10**9), (1, 1))
    w.utimensat(b"missing", (1, 1), (1, 1))


@script
def each_operation_changes_the_times_it_should(w: World) -> None:
    w.mkdir(b"d", 0o755)
    w.mkdir(b"other", 0o755)
    w.mkdir(b"other/e", 0o755)
    w.symlink(b"x", b"d/l")
    file(w, b"d/f", b"content")
    fd = w.open(b"d/f", O_RDWR)
    looked_at = (b"d", b"other", b"d/f")

    def look() -> None:
        for name in looked_at:
            w.times(name)

    def then(action: object) -> None:
        w.tick()
        action()  # type: ignore[operator]
        look()

    look()
    then(lambda: w.pwrite(fd, b"x", 0))
    then(lambda: w.ftruncate(fd, 3))
    then(lambda: w.ftruncate(fd, 3))
    then(lambda: w.truncate(b"d/f", 9))
    then(lambda: w.chmod(b"d/f", 0o600))
    then(lambda: w.fchmod(fd, 0o600))
    then(lambda: w.chown(b"d/f", -1, os.getgid()))
    then(lambda: w.step("utime", lambda: os.utime(b"d/f", ns=(1, 2))))
    then(lambda: w.setxattr(b"d/f", b"user.x", b"1"))
    then(lambda: w.removexattr(b"d/f", b"user.x"))
    then(lambda: w.link(b"d/f", b"d/g"))
    then(lambda: w.unlink(b"d/g"))
    then(lambda: w.rename(b"d/f", b"other/f"))
    then(lambda: w.rename(b"other/f", b"d/f"))
    then(lambda: file(w, b"d/new"))
    then(lambda: w.unlink(b"d/new"))
    then(lambda: w.mkdir(b"d/sub", 0o755))
    then(lambda: w.rename(b"d/sub", b"other/sub"))
    then(lambda: w.rmdir(b"other/sub"))
    then(lambda: w.symlink(b"x", b"d/s"))
    then(lambda: w.mkfifo(b"d/p", 0o644))
    then(lambda: w.rename(b"d/s", b"d/p"))
    then(lambda: w.pread(fd, 100, 0))
    then(lambda: w.listdir(b"d"))
    then(lambda: w.open(b"d/f", os.O_WRONLY | os.O_TRUNC))
    then(lambda: w.setxattr(b"d", b"user.x", b"1"))
    then(lambda: w.chmod(b"d", 0o700))
    w.close(fd)


@script
def a_failed_operation_changes_no_times(w: World) -> None:
    w.mkdir(b"d", 0o755)
    file(w, b"d/f", b"content")
    w.times(b"d")
    w.times(b"d/f")
    w.tick()
    w.mkdir(b"d/f", 0o755)
    w.rmdir(b"d")
    w.link(b"d/f", b"d/f")
    w.open(b"d/f", O_WRONLY | O_CREAT | os.O_EXCL)
    w.setxattr(b"d/f", b"user.x", b"", os.XATTR_REPLACE)
    w.removexattr(b"d/f", b"user.x")
    w.rename(b"d", b"d/e")
    w.unlink(b"d/missing")
    w.times(b"d")
    w.times(b"d/f")


@script
def a_new_file_is_new_at_all_times(w: World) -> None:
    w.tick()
    file(w, b"f")
    w.mkdir(b"d", 0o755)
    w.symlink(b"x", b"l")
    for name in (b"f", b"d", b"l"):
        st = os.lstat(name)
        w.say(f"times of {name!r} are one", len({st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns}) == 1)
        w.say(f"{name!r} is as new as the clock", abs(st.st_mtime - os.stat(b".").st_mtime) < 60)


@script
def times_set_by_hand_survive_a_close(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.write(fd, b"content")
    w.step("futime", lambda: os.utime(fd, ns=(10**18 + 1, 10**18 + 2)))
    w.close(fd)
    w.exact_times(b"f")
    content(w, b"f")
    w.rename(b"f", b"g")
    w.say("mtime", os.stat(b"g").st_mtime_ns)


@script
def modes_can_be_changed_while_written(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT, 0o600)
    w.write(fd, b"one")
    w.chmod(b"f", 0o400)
    w.write(fd, b"two")
    w.fstat(fd)
    w.close(fd)
    w.snapshot()
