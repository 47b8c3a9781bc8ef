"""Directories: making, removing, listing, and places in listings that must stay true while names come and go."""

from __future__ import annotations

import os
from os import O_CREAT, O_RDONLY, O_WRONLY

from tests.parity import libc
from tests.parity.scripts.table import file, script
from tests.parity.world import World


@script
def making_and_removing_directories(w: World) -> None:
    w.mkdir(b"d", 0o755)
    w.mkdir(b"d", 0o755)
    w.mkdir(b"d/e", 0o700)
    w.mkdir(b"missing/e", 0o755)
    w.mkdir(b"d/", 0o755)
    w.mkdir(b"new/", 0o755)
    w.mkdir(b".", 0o755)
    w.mkdir(b"..", 0o755)
    w.rmdir(b"d")
    w.rmdir(b"d/e")
    w.rmdir(b"d")
    w.rmdir(b"d")
    w.rmdir(b".")
    w.rmdir(b"new/.")
    w.rmdir(b"new/..")
    w.rmdir(b"new/")
    w.snapshot()


@script
def only_empty_directories_are_removed(w: World) -> None:
    for name in (b"file", b"dir", b"link", b"fifo"):
        w.mkdir(b"d", 0o755)
        {b"file": lambda: file(w, b"d/file"), b"dir": lambda: w.mkdir(b"d/dir", 0o755),
         b"link": lambda: w.symlink(b"x", b"d/link"), b"fifo": lambda: w.mkfifo(b"d/fifo", 0o644)}[name]()  # fmt: skip
        w.rmdir(b"d")
        w.rmdir(b"d/dir") if name == b"dir" else w.unlink(b"d/" + name)
        w.rmdir(b"d")


@script
def rmdir_and_unlink_are_for_their_own_kinds(w: World) -> None:
    file(w, b"f")
    w.mkdir(b"d", 0o755)
    w.symlink(b"d", b"l")
    w.rmdir(b"f")
    w.rmdir(b"l")
    w.rmdir(b"l/")
    w.rmdir(b"f/x")
    w.rmdir(b"missing")
    w.unlink(b"d")
    w.unlink(b"d/")
    w.unlink(b"f/")
    w.unlink(b"f/x")
    w.unlink(b"missing")
    w.snapshot()


@script
def the_links_of_a_directory_count_its_subdirectories(w: World) -> None:
    w.mkdir(b"d", 0o755)
    w.stat(b"d")
    for name in (b"a", b"b", b"c"):
        w.mkdir(b"d/" + name, 0o755)
        w.stat(b"d")
    w.rename(b"d/a", b"a")
    w.stat(b"d")
    file(w, b"d/file")
    w.stat(b"d")
    w.rmdir(b"d/b")
    w.stat(b"d")
    w.rename(b"a", b"d/c")
    w.stat(b"d")


@script
def a_deep_tree_is_made_walked_and_removed(w: World) -> None:
    path = b"."
    for depth in range(40):
        path += b"/level%02d" % depth
        w.mkdir(path, 0o755)
        file(w, path + b"/file", b"%d" % depth)
    w.snapshot()
    while path != b".":
        w.unlink(path + b"/file")
        w.rmdir(path)
        path = path.rpartition(b"/")[0]
    w.listdir(b".")


@script
def a_listing_shows_every_name_once_with_its_type(w: World) -> None:
    for place in range(30):
        file(w, b"file%d" % place)
        w.mkdir(b"dir%d" % place, 0o755)
        w.symlink(b"x", b"link%d" % place)
        w.mkfifo(b"fifo%d" % place, 0o644)
    w.scandir(b".")
    w.step("dots", lambda: sorted(set(iter(libc.Directory(b".").read, None)) & {b".", b".."}))


def listed(directory: libc.Directory) -> list[bytes]:
    return sorted(directory.rest())


@script
def a_large_directory_is_listed_whole(w: World) -> None:
    for place in range(1500):
        os.close(os.open(b"a-rather-long-name-of-a-file-%05d" % place, O_WRONLY | O_CREAT))
    w.step("list", lambda: sorted(os.listdir(b".")))
    w.step("count", lambda: len(os.listdir(b".")))


@script
def a_place_in_a_listing_can_be_returned_to(w: World) -> None:
    for place in range(200):
        os.close(os.open(b"name%03d" % place, O_WRONLY | O_CREAT))
    directory = libc.Directory(b".")
    order, places = [], []
    while True:
        places.append(directory.tell())
        name = directory.read()
        if name is None:
            break
        order.append(name)
    wrong = []
    for at in (0, 1, 2, 3, 17, 100, 150, 201):
        directory.seek(places[at])
        if directory.read() != order[at]:
            wrong.append(at)
    directory.seek(places[-1])
    w.say("at the end", directory.read())
    directory.rewind()
    w.say("all again", sorted(iter(directory.read, None)) == sorted(order))
    directory.close()
    w.say("entries", len(order))
    w.say("wrong places", wrong)
    w.say("places differ", len(set(places)) == len(places))


@script
def names_that_stay_are_listed_once_while_others_come_and_go(w: World) -> None:
    stay = [b"stay%03d" % place for place in range(300)]
    go = [b"go%03d" % place for place in range(300)]
    for left, right in zip(stay, go, strict=True):
        os.close(os.open(left, O_WRONLY | O_CREAT))
        os.close(os.open(right, O_WRONLY | O_CREAT))
    directory = libc.Directory(b".")
    seen = [directory.read() for _ in range(150)]
    for name in go:
        os.unlink(name)
    for place in range(200):
        os.close(os.open(b"new%03d" % place, O_WRONLY | O_CREAT))
    seen += directory.rest()
    directory.close()
    w.say("each that stayed exactly once", all(seen.count(name) == 1 for name in stay))
    w.say("none twice", len(seen) == len(set(seen)))


@script
def a_directory_can_be_emptied_while_it_is_listed(w: World) -> None:
    """What rm -r does, in small steps."""
    for place in range(700):
        os.close(os.open(b"name%03d" % place, O_WRONLY | O_CREAT))
    directory = libc.Directory(b".")
    removed = 0
    while (name := directory.read()) is not None:
        if name not in (b".", b".."):
            os.unlink(name)
            removed += 1
    directory.close()
    w.say("removed", removed)
    w.listdir(b".")


@script
def rewinding_shows_what_is_there_now(w: World) -> None:
    file(w, b"a")
    directory = libc.Directory(b".")
    w.say("first", listed(directory))
    file(w, b"b")
    w.unlink(b"a")
    directory.rewind()
    w.say("again", listed(directory))
    directory.close()


@script
def two_listings_of_one_directory_do_not_disturb_each_other(w: World) -> None:
    for place in range(100):
        os.close(os.open(b"name%03d" % place, O_WRONLY | O_CREAT))
    one, two = libc.Directory(b"."), libc.Directory(b".")
    first = [one.read() for _ in range(40)]
    both = listed(two)
    first += iter(one.read, None)
    w.say("first", len(set(first)))
    w.say("second", len(both))
    one.close()
    two.close()


@script
def listing_what_is_no_directory(w: World) -> None:
    file(w, b"f")
    w.symlink(b"f", b"l")
    w.listdir(b"f")
    w.listdir(b"l")
    w.listdir(b"missing")
    w.listdir(b"f/x")
    w.mkdir(b"d", 0o755)
    w.symlink(b"d", b"to-d")
    w.listdir(b"d")
    w.listdir(b"to-d")


@script
def the_inode_in_a_listing_is_that_of_stat(w: World) -> None:
    for place in range(20):
        file(w, b"file%d" % place)
        w.mkdir(b"dir%d" % place, 0o755)
    with os.scandir(b".") as entries:
        wrong = [entry.name for entry in entries if entry.inode() != os.lstat(entry.name).st_ino]
    w.say("wrong", wrong)
    directory = w.open(b"dir0", O_RDONLY)
    w.say("dot", os.stat(b"dir0/.").st_ino == os.fstat(directory).st_ino)
    w.say("dotdot", os.stat(b"dir0/..").st_ino == os.stat(b".").st_ino)
    w.close(directory)
