"""Who may what: owners, groups, others, sticky and setgid directories, and what root may anyway."""

from __future__ import annotations

import os
from os import O_CREAT, O_RDONLY, O_RDWR, O_WRONLY

from tests.parity.scripts.table import as_root, file, script
from tests.parity.world import World

ALICE, BOB, TEAM = 1000, 1001, 2000


def try_everything(w: World) -> None:
    """What can be tried on a file `f` in a directory `d`."""
    for mode in (os.F_OK, os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.W_OK):
        w.access(b"d/f", mode)
        w.access(b"d", mode)
    w.stat(b"d/f")
    w.listdir(b"d")
    for flags in (O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | os.O_TRUNC):
        w.close(w.open(b"d/f", flags))
    w.truncate(b"d/f", 3)
    w.chmod(b"d/f", 0o777)
    w.chown(b"d/f", ALICE, -1)
    w.chown(b"d/f", -1, TEAM)
    w.step("utime to given times", lambda: os.utime(b"d/f", ns=(1, 2)))
    w.step("utime to now", lambda: os.utime(b"d/f"))
    w.setxattr(b"d/f", b"user.x", b"1")
    w.getxattr(b"d/f", b"user.x")
    w.link(b"d/f", b"d/g")
    w.rename(b"d/f", b"d/h")
    w.rename(b"d/h", b"d/f")
    w.mkdir(b"d/sub", 0o755)
    w.rmdir(b"d/sub")
    w.symlink(b"x", b"d/s")
    w.unlink(b"d/f")


WHO = ((ALICE, ALICE, ()), (BOB, BOB, ()), (BOB, TEAM, ()), (BOB, BOB, (TEAM,)))


def each_user(w: World, *, directory: int, mode: int) -> None:
    for uid, gid, groups in WHO:
        w.mkdir(b"d", 0o777)
        file(w, b"d/f", b"content")
        w.chown(b"d", ALICE, TEAM)
        w.chown(b"d/f", ALICE, TEAM)
        w.chmod(b"d", directory)
        w.chmod(b"d/f", mode)
        w.child(try_everything, uid=uid, gid=gid, groups=groups)
        w.snapshot(b"d")
        w.chmod(b"d", 0o777)
        for name in os.listdir(b"d"):
            os.unlink(b"d/" + name)
        w.rmdir(b"d")


@as_root
def everyone_on_a_private_file(w: World) -> None:
    each_user(w, directory=0o755, mode=0o600)


@as_root
def everyone_on_a_file_of_a_group(w: World) -> None:
    each_user(w, directory=0o770, mode=0o660)


@as_root
def everyone_on_a_file_that_only_others_may_read(w: World) -> None:
    each_user(w, directory=0o777, mode=0o004)


@as_root
def everyone_in_a_directory_without_search(w: World) -> None:
    each_user(w, directory=0o764, mode=0o666)


@as_root
def everyone_in_a_directory_without_listing(w: World) -> None:
    each_user(w, directory=0o731, mode=0o646)


@as_root
def everyone_in_a_sticky_directory(w: World) -> None:
    each_user(w, directory=0o1777, mode=0o666)


@as_root
def in_a_sticky_directory_only_owners_remove_and_rename(w: World) -> None:
    w.chmod(b".", 0o1777)

    def make(w: World) -> None:
        file(w, b"of-alice", b"a")
        w.mkdir(b"dir-of-alice", 0o777)
        w.symlink(b"x", b"link-of-alice")

    def meddle(w: World) -> None:
        file(w, b"of-bob", b"b")
        w.unlink(b"of-alice")
        w.rmdir(b"dir-of-alice")
        w.unlink(b"link-of-alice")
        w.rename(b"of-alice", b"stolen")
        w.rename(b"of-bob", b"of-alice")
        w.renameat2(b"of-bob", b"of-alice", 2)
        w.rename(b"dir-of-alice", b"d")
        w.rename(b"of-bob", b"dir-of-alice/mine")
        w.rename(b"dir-of-alice/mine", b"of-bob2")
        w.unlink(b"of-bob2")

    w.child(make, uid=ALICE, gid=ALICE)
    w.child(meddle, uid=BOB, gid=BOB)
    w.child(lambda w: w.unlink(b"of-alice"), uid=ALICE, gid=ALICE)
    w.snapshot()


@as_root
def what_is_made_in_a_setgid_directory_belongs_to_its_group(w: World) -> None:
    w.mkdir(b"d", 0o777)
    w.chown(b"d", 0, TEAM)
    w.chmod(b"d", 0o2777)

    def make(w: World) -> None:
        file(w, b"d/f")
        w.close(w.open(b"d/sgid", O_WRONLY | O_CREAT, 0o2775))
        w.mkdir(b"d/sub", 0o755)
        w.mkfifo(b"d/p", 0o644)
        w.symlink(b"x", b"d/l")
        w.mkdir(b"d/sub/deeper", 0o700)

    w.child(make, uid=ALICE, gid=ALICE)
    w.child(lambda w: w.close(w.open(b"d/member", O_WRONLY | O_CREAT, 0o2775)), uid=BOB, gid=BOB, groups=[TEAM])
    make(w)
    w.snapshot()


@as_root
def only_members_keep_setgid_when_they_change_modes(w: World) -> None:
    for group in (ALICE, TEAM):
        file(w, b"f")
        w.chown(b"f", ALICE, group)
        w.child(lambda w: w.chmod(b"f", 0o2755), uid=ALICE, gid=ALICE)
        w.stat(b"f")
        w.child(lambda w: w.chmod(b"f", 0o6755), uid=ALICE, gid=ALICE, groups=[TEAM])
        w.stat(b"f")


@as_root
def owners_give_files_only_to_their_own_groups(w: World) -> None:
    file(w, b"f")
    w.chown(b"f", ALICE, ALICE)

    def give(w: World) -> None:
        w.chown(b"f", -1, TEAM)
        w.chown(b"f", -1, 3000)
        w.chown(b"f", BOB, -1)
        w.chown(b"f", ALICE, ALICE)
        w.chown(b"f", ALICE, -1)

    w.child(give, uid=ALICE, gid=ALICE, groups=[TEAM])
    w.stat(b"f")
    w.child(give, uid=BOB, gid=BOB, groups=[TEAM])


@as_root
def new_files_belong_to_their_makers(w: World) -> None:
    w.chmod(b".", 0o777)

    def make(w: World) -> None:
        name = b"%d-%d" % (os.getuid(), os.getgid())
        file(w, name)
        w.mkdir(name + b"-d", 0o755)
        w.symlink(b"x", name + b"-l")
        w.mkfifo(name + b"-p", 0o644)
        w.link(name, name + b"-h")

    for uid, gid, groups in WHO:
        w.child(make, uid=uid, gid=gid, groups=groups)
    w.snapshot()


@as_root
def devices_are_made_by_root_only(w: World) -> None:
    import stat

    w.chmod(b".", 0o777)

    def make(w: World) -> None:
        w.mknod(b"char", 0o644 | stat.S_IFCHR, os.makedev(1, 3))
        w.mknod(b"block", 0o644 | stat.S_IFBLK, os.makedev(7, 0))
        w.mknod(b"fifo", 0o644 | stat.S_IFIFO)
        w.mknod(b"plain", 0o644 | stat.S_IFREG)

    w.child(make, uid=ALICE, gid=ALICE)
    w.snapshot()


@as_root
def an_open_file_stays_open_whatever_happens_to_its_mode(w: World) -> None:
    w.chmod(b".", 0o777)
    file(w, b"f", b"content", mode=0o666)

    def user(w: World) -> None:
        fd = w.open(b"f", O_RDWR)
        w.read(fd, 3)
        w.close(fd)

    w.child(user, uid=ALICE, gid=ALICE)
    fd = w.open(b"f", O_RDWR)
    w.chmod(b"f", 0)

    def inherited(w: World) -> None:
        w.pread(fd, 3, 0)
        w.pwrite(fd, b"CON", 0)
        w.open(b"f", O_RDONLY)

    w.child(inherited, uid=ALICE, gid=ALICE)
    w.close(fd)
    w.snapshot()


@as_root
def root_may_read_anything_but_execute_only_what_somebody_may(w: World) -> None:
    file(w, b"f", b"#!/bin/sh\n", mode=0)
    for mode in (os.R_OK, os.W_OK, os.X_OK):
        w.access(b"f", mode)
    w.close(w.open(b"f", O_RDWR))
    w.chmod(b"f", 0o001)
    w.access(b"f", os.X_OK)
    w.mkdir(b"d", 0)
    w.access(b"d", os.X_OK)
    w.listdir(b"d")


@script
def a_program_in_the_volume_runs_when_it_may(w: World) -> None:
    import subprocess

    file(w, b"run", b'#!/bin/sh\necho ran "$1"\n', mode=0o644)
    w.step("without x", lambda: subprocess.run([b"./run", b"a"], capture_output=True, check=True).stdout)
    w.chmod(b"run", 0o755)
    w.step("with x", lambda: subprocess.run([b"./run", b"a"], capture_output=True, check=True).stdout)
