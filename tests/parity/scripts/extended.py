"""Extended attributes and ACLs."""

from __future__ import annotations

import os
import struct
from os import O_CREAT, O_RDONLY, O_RDWR, XATTR_CREATE, XATTR_REPLACE

from tests.parity.scripts.table import as_root, file, script
from tests.parity.world import World

ACCESS, DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NOBODY = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Entries are (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def plain(owner: int, group: int, other: int, *named: tuple[int, int, int], mask: int | None = None) -> bytes:
    users = [entry for entry in named if entry[0] == USER]
    groups = [entry for entry in named if entry[0] == GROUP]
    masks = [] if mask is None else [(MASK, mask, NOBODY)]
    return acl((USER_OBJ, owner, NOBODY), *users, (GROUP_OBJ, group, NOBODY), *groups, *masks, (OTHER, other, NOBODY))


@script
def attributes_are_set_read_listed_and_removed(w: World) -> None:
    file(w, b"f")
    w.mkdir(b"d", 0o755)
    for name in (b"f", b"d"):
        w.setxattr(name, b"user.one", b"1")
        w.setxattr(name, b"user.two", b"")
        w.setxattr(name, b"user.one", b"longer than before")
        w.getxattr(name, b"user.one")
        w.getxattr(name, b"user.two")
        w.getxattr(name, b"user.missing")
        w.listxattr(name)
        w.removexattr(name, b"user.one")
        w.removexattr(name, b"user.one")
        w.getxattr(name, b"user.one")
        w.listxattr(name)
    w.getxattr(b"missing", b"user.one")
    w.setxattr(b"missing", b"user.one", b"1")
    w.listxattr(b"missing")
    w.snapshot()


@script
def create_and_replace_mean_what_they_say(w: World) -> None:
    file(w, b"f")
    w.setxattr(b"f", b"user.a", b"1", XATTR_REPLACE)
    w.setxattr(b"f", b"user.a", b"2", XATTR_CREATE)
    w.setxattr(b"f", b"user.a", b"3", XATTR_CREATE)
    w.setxattr(b"f", b"user.a", b"4", XATTR_REPLACE)
    w.setxattr(b"f", b"user.a", b"5", XATTR_CREATE | XATTR_REPLACE)
    w.snapshot()


@script
def attributes_of_an_open_file(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.setxattr(fd, b"user.a", b"1")
    w.getxattr(fd, b"user.a")
    w.listxattr(fd)
    w.removexattr(fd, b"user.a")
    w.listxattr(b"f")
    w.close(fd)
    directory = w.open(b".", O_RDONLY)
    w.setxattr(directory, b"user.d", b"1")
    w.getxattr(b".", b"user.d")
    w.removexattr(b".", b"user.d")
    w.close(directory)


@script
def names_and_values_of_any_length_up_to_the_limits(w: World) -> None:
    file(w, b"f")
    for length in (1, 100, 1000, 4096, 16_384, 65_536):
        w.setxattr(b"f", b"user.value", b"v" * length)
        w.getxattr(b"f", b"user.value")
    w.setxattr(b"f", b"user.value", b"v" * 65_537)
    w.removexattr(b"f", b"user.value")
    w.setxattr(b"f", b"user." + b"n" * 250, b"1")
    w.getxattr(b"f", b"user." + b"n" * 250)
    w.setxattr(b"f", b"user." + b"n" * 251, b"1")
    w.getxattr(b"f", b"user." + b"n" * 251)
    w.setxattr(b"f", b"user.\xff\xfe", b"\x00\xff")
    w.getxattr(b"f", b"user.\xff\xfe")
    for place in range(50):
        w.setxattr(b"f", b"user.many%d" % place, b"%d" % place)
    w.snapshot()


@script
def a_buffer_that_is_too_small_is_refused(w: World) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    file(w, b"f")
    w.setxattr(b"f", b"user.a", b"0123456789")

    def get(size: int) -> int:
        buffer = ctypes.create_string_buffer(max(size, 1))
        result = libc.getxattr(b"f", b"user.a", buffer, ctypes.c_size_t(size))
        if result < 0:
            raise OSError(ctypes.get_errno(), "getxattr")
        return int(result)

    for size in (0, 5, 9, 10, 11):
        w.step(f"getxattr with {size} bytes", lambda size=size: get(size))


@script
def namespaces_that_do_not_exist_are_refused(w: World) -> None:
    file(w, b"f")
    for name in (b"nonsense", b"nonsense.a", b"user.", b"user", b"", b".", b"system.nonsense", b"USER.a"):
        w.setxattr(b"f", name, b"1")
        w.getxattr(b"f", name)
        w.removexattr(b"f", name)


@script
def only_files_and_directories_take_user_attributes(w: World) -> None:
    w.symlink(b"nowhere", b"l")
    w.mkfifo(b"p", 0o644)
    for name in (b"l", b"p"):
        w.setxattr(name, b"user.a", b"1", follow_symlinks=False)
        w.getxattr(name, b"user.a", follow_symlinks=False)
        w.listxattr(name, follow_symlinks=False)
        w.removexattr(name, b"user.a", follow_symlinks=False)


@as_root
def trusted_attributes_are_for_root(w: World) -> None:
    file(w, b"f", mode=0o666)
    w.chmod(b".", 0o777)
    w.setxattr(b"f", b"trusted.mine", b"1")
    w.getxattr(b"f", b"trusted.mine")
    w.listxattr(b"f")
    w.symlink(b"x", b"l")
    w.setxattr(b"l", b"trusted.mine", b"1", follow_symlinks=False)
    w.getxattr(b"l", b"trusted.mine", follow_symlinks=False)

    def user(w: World) -> None:
        w.listxattr(b"f")
        w.getxattr(b"f", b"trusted.mine")
        w.setxattr(b"f", b"trusted.more", b"1")
        w.removexattr(b"f", b"trusted.mine")
        w.setxattr(b"f", b"user.theirs", b"1")
        w.getxattr(b"f", b"user.theirs")

    w.child(user, uid=1000, gid=1000)
    w.snapshot()


@as_root
def user_attributes_follow_the_permissions_of_the_file(w: World) -> None:
    file(w, b"f", mode=0o600)
    file(w, b"readable", mode=0o644)
    w.mkdir(b"sticky", 0o777)
    w.chmod(b"sticky", 0o1777)
    w.chmod(b".", 0o777)

    def user(w: World) -> None:
        for name in (b"f", b"readable", b"sticky"):
            w.setxattr(name, b"user.a", b"1")
            w.getxattr(name, b"user.a")
            w.listxattr(name)

    for name in (b"f", b"readable"):
        w.setxattr(name, b"user.a", b"0")
    w.child(user, uid=1000, gid=1000)


@script
def attributes_survive_a_rename_and_go_with_the_file(w: World) -> None:
    file(w, b"a")
    w.setxattr(b"a", b"user.x", b"1")
    w.link(b"a", b"b")
    w.rename(b"a", b"c")
    w.getxattr(b"b", b"user.x")
    w.getxattr(b"c", b"user.x")
    w.unlink(b"b")
    w.unlink(b"c")
    file(w, b"a")
    w.getxattr(b"a", b"user.x")


@as_root
def an_access_acl_shows_in_the_mode_and_the_mode_in_the_acl(w: World) -> None:
    file(w, b"f", mode=0o640)
    w.setxattr(b"f", ACCESS, plain(7, 5, 1))
    w.stat(b"f")
    w.getxattr(b"f", ACCESS)
    w.setxattr(b"f", ACCESS, plain(6, 4, 0, (USER, 7, 1000), mask=7))
    w.stat(b"f")
    w.getxattr(b"f", ACCESS)
    w.chmod(b"f", 0o604)
    w.getxattr(b"f", ACCESS)
    w.stat(b"f")
    w.removexattr(b"f", ACCESS)
    w.stat(b"f")
    w.getxattr(b"f", ACCESS)


@as_root
def an_access_acl_decides_who_may_what(w: World) -> None:
    w.chmod(b".", 0o777)
    file(w, b"f", b"content", mode=0o600)
    w.setxattr(b"f", ACCESS, plain(6, 0, 0, (USER, 4, 1000), (USER, 6, 1001), (GROUP, 6, 2000), mask=6))

    def user(w: World) -> None:
        for mode in (os.R_OK, os.W_OK, os.X_OK):
            w.access(b"f", mode)
        fd = w.open(b"f", O_RDONLY)
        w.read(fd, 10)
        w.close(fd)
        w.close(w.open(b"f", os.O_WRONLY))

    w.child(user, uid=1000, gid=1000)
    w.child(user, uid=1001, gid=1000)
    w.child(user, uid=1002, gid=2000)
    w.child(user, uid=1003, gid=1000, groups=[2000])
    w.child(user, uid=1004, gid=1000)
    w.setxattr(b"f", ACCESS, plain(6, 0, 0, (USER, 6, 1001), mask=0))
    w.child(user, uid=1001, gid=1000)


@as_root
def who_sets_the_acl_of_a_strange_group_clears_setgid(w: World) -> None:
    file(w, b"f")
    w.mkdir(b"d", 0o755)
    for name in (b"f", b"d"):
        w.chown(name, 1000, 1000)
        for gid in (1000, 1001):
            w.chmod(name, 0o2755)

            def set_acl(w: World, name: bytes = name) -> None:
                w.setxattr(name, ACCESS, plain(7, 7, 7))
                w.stat(name)

            w.child(set_acl, uid=1000, gid=gid)
            w.stat(name)
            w.getxattr(name, ACCESS)


@as_root
def a_default_acl_of_a_strange_group_leaves_setgid(w: World) -> None:
    w.mkdir(b"d", 0o755)
    w.chown(b"d", 1000, 1000)
    w.chmod(b"d", 0o2755)
    w.child(lambda w: w.setxattr(b"d", DEFAULT, plain(7, 5, 5)), uid=1000, gid=1001)
    w.stat(b"d")
    w.mkdir(b"d/e", 0o755)
    w.stat(b"d/e")


@as_root
def a_default_acl_is_inherited(w: World) -> None:
    w.mkdir(b"d", 0o755)
    w.setxattr(b"d", DEFAULT, plain(7, 5, 0, (USER, 7, 1000), mask=7))
    w.stat(b"d")
    w.getxattr(b"d", DEFAULT)
    w.mkdir(b"d/sub", 0o777)
    w.close(w.open(b"d/file", O_RDWR | O_CREAT, 0o666))
    w.mkfifo(b"d/fifo", 0o666)
    w.symlink(b"x", b"d/link")
    w.mkdir(b"d/sub/deeper", 0o700)
    w.umask(0o077)
    w.close(w.open(b"d/masked", O_RDWR | O_CREAT, 0o666))
    w.umask(0o022)
    for name in (b"d/sub", b"d/file", b"d/fifo", b"d/sub/deeper", b"d/masked"):
        w.stat(name)
        w.getxattr(name, ACCESS)
        w.getxattr(name, DEFAULT)
    w.removexattr(b"d", DEFAULT)
    w.mkdir(b"d/after", 0o755)
    w.snapshot()


@as_root
def an_acl_that_is_wrong_is_refused(w: World) -> None:
    file(w, b"f")
    w.mkdir(b"d", 0o755)
    for value in (
        b"",
        b"short",
        plain(6, 4, 4)[:-8],
        acl((OTHER, 4, NOBODY)),
        plain(6, 4, 4, (USER, 4, 5)),
        struct.pack("<I", 9),
    ):
        w.setxattr(b"f", ACCESS, value)
    w.setxattr(b"f", DEFAULT, plain(7, 5, 5))
    w.setxattr(b"d", DEFAULT, plain(7, 5, 5))
    w.symlink(b"f", b"l")
    w.setxattr(b"l", ACCESS, plain(6, 4, 4), follow_symlinks=False)
    w.snapshot()
