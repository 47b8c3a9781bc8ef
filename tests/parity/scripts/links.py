"""Hard links and symbolic links."""

from __future__ import annotations

import os

from tests.parity.scripts.table import content, file, script
from tests.parity.world import World


@script
def links_are_one_file(w: World) -> None:
    file(w, b"a", b"content")
    w.mkdir(b"d", 0o755)
    w.link(b"a", b"b")
    w.link(b"b", b"d/c")
    for name in (b"a", b"b", b"d/c"):
        w.stat(name)
    w.chmod(b"b", 0o600)
    file(w, b"d/c", b"written through c")
    w.step("utime", lambda: os.utime(b"a", ns=(5, 6)))
    w.exact_times(b"d/c")
    for name in (b"a", b"b", b"d/c"):
        w.stat(name)
        content(w, name)
    w.unlink(b"a")
    w.stat(b"b")
    w.unlink(b"b")
    w.stat(b"d/c")
    w.snapshot()


@script
def links_to_links_count_up_and_down(w: World) -> None:
    file(w, b"f0")
    for place in range(1, 20):
        w.link(b"f%d" % (place - 1), b"f%d" % place)
        w.stat(b"f0")
    for place in range(0, 20, 2):
        w.unlink(b"f%d" % place)
    w.snapshot()


@script
def what_cannot_be_linked(w: World) -> None:
    file(w, b"f")
    w.mkdir(b"d", 0o755)
    for old, new in ((b"d", b"e"), (b"missing", b"x"), (b"f", b"f"), (b"f", b"d"), (b"f", b"missing/x"), (b"f/x", b"y"), (b"f", b"f/x"),
                     (b"f", b"x/"), (b"f", b"."), (b"d/", b"x")):  # fmt: skip
        w.link(old, new)
    w.snapshot()


@script
def every_kind_of_file_but_directories_has_hard_links(w: World) -> None:
    w.symlink(b"target", b"s")
    w.mkfifo(b"p", 0o644)
    w.link(b"s", b"s2", follow_symlinks=False)
    w.link(b"p", b"p2")
    w.lstat(b"s2")
    w.readlink(b"s2")
    w.lstat(b"p2")
    w.unlink(b"s")
    w.readlink(b"s2")
    w.snapshot()


@script
def symbolic_links_hold_any_text(w: World) -> None:
    for place, text in enumerate(
        (b"a", b"/absolute/path", b"../up", b"with space", b"\xff\xfe", b"x" * 255, b"y/" * 500, b"z" * 4095)
    ):
        name = b"l%d" % place
        w.symlink(text, name)
        w.readlink(name)
        w.lstat(name)
    w.symlink(b"", b"empty")
    w.symlink(b"z" * 4096, b"too long")
    w.symlink(b"again", b"l0")
    w.symlink(b"x", b"missing/l")
    w.snapshot()


@script
def what_is_no_symbolic_link_has_no_text(w: World) -> None:
    file(w, b"f")
    w.mkdir(b"d", 0o755)
    w.readlink(b"f")
    w.readlink(b"d")
    w.readlink(b"missing")
    w.readlink(b"f/x")


@script
def symbolic_links_are_followed_and_loops_end(w: World) -> None:
    w.mkdir(b"d", 0o755)
    file(w, b"d/f", b"content")
    w.symlink(b"d", b"to-d")
    w.symlink(b"to-d/f", b"to-f")
    w.symlink(b"b", b"a")
    w.symlink(b"a", b"b")
    content(w, b"to-f")
    w.stat(b"to-f")
    w.lstat(b"to-f")
    w.stat(b"a")
    w.stat(b"a/x")
    for place in range(45):
        w.symlink(b"chain%d" % (place + 1), b"chain%d" % place)
    file(w, b"chain45", b"end")
    w.stat(b"chain6")
    w.stat(b"chain0")
    w.chmod(b"to-f", 0o600)
    w.stat(b"d/f")
    w.unlink(b"to-f")
    w.snapshot()


@script
def a_link_made_again_has_its_new_text(w: World) -> None:
    for text in (b"one", b"two", b"three"):
        w.symlink(text, b"l")
        w.readlink(b"l")
        w.unlink(b"l")
    w.symlink(b"four", b"m")
    w.symlink(b"five", b"n")
    w.rename(b"m", b"n")
    w.readlink(b"n")
