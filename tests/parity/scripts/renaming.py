"""rename(2) and renameat2(2): every kind onto every kind, flags, across directories, what becomes of the replaced."""

from __future__ import annotations

from collections.abc import Callable

from tests.parity.libc import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.parity.scripts.table import content, file, script
from tests.parity.world import World

KINDS = (b"file", b"empty-dir", b"full-dir", b"symlink", b"fifo", b"missing")


def make(w: World, kind: bytes, path: bytes) -> None:
    if kind == b"file":
        file(w, path, b"content of " + path)
    elif kind == b"empty-dir":
        w.mkdir(path, 0o755)
    elif kind == b"full-dir":
        w.mkdir(path, 0o755)
        file(w, path + b"/inside", b"inside " + path)
    elif kind == b"symlink":
        w.symlink(b"text of " + path, path)
    elif kind == b"fifo":
        w.mkfifo(path, 0o644)


def each_pair(w: World, rename: Callable[[bytes, bytes], None]) -> None:
    """`rename` of every kind onto every kind, in one directory and from one to another."""
    for across in (False, True):
        for old in KINDS:
            for new in KINDS:
                home = b"%s-to-%s-%d" % (old, new, across)
                w.mkdir(home, 0o755)
                w.mkdir(home + b"/other", 0o755)
                source, target = home + b"/old", home + (b"/other/new" if across else b"/new")
                make(w, old, source)
                make(w, new, target)
                rename(source, target)
    w.snapshot()


@script
def every_kind_renamed_onto_every_kind(w: World) -> None:
    each_pair(w, w.rename)


@script
def no_name_is_replaced_when_that_was_asked(w: World) -> None:
    each_pair(w, lambda old, new: w.renameat2(old, new, RENAME_NOREPLACE))


@script
def any_two_names_are_exchanged(w: World) -> None:
    each_pair(w, lambda old, new: w.renameat2(old, new, RENAME_EXCHANGE))


@script
def flags_that_exclude_each_other_are_refused(w: World) -> None:
    file(w, b"a")
    file(w, b"b")
    w.renameat2(b"a", b"b", RENAME_NOREPLACE | RENAME_EXCHANGE)
    w.renameat2(b"a", b"b", 1 << 7)
    w.snapshot()


@script
def a_name_onto_itself_changes_nothing(w: World) -> None:
    file(w, b"f", b"content")
    w.mkdir(b"d", 0o755)
    w.link(b"f", b"same")
    w.rename(b"f", b"f")
    w.rename(b"d", b"d")
    w.rename(b"f", b"same")
    w.renameat2(b"f", b"same", RENAME_NOREPLACE)
    w.renameat2(b"f", b"same", RENAME_EXCHANGE)
    w.rename(b"f", b"./f")
    w.snapshot()


@script
def a_directory_does_not_go_into_itself(w: World) -> None:
    w.mkdir(b"a", 0o755)
    w.mkdir(b"a/b", 0o755)
    w.rename(b"a", b"a/c")
    w.rename(b"a", b"a/b")
    w.rename(b"a", b"a/b/c")
    w.renameat2(b"a", b"a/b", RENAME_EXCHANGE)
    w.renameat2(b"a/b", b"a", RENAME_EXCHANGE)
    w.rename(b"a/b", b"a")
    w.rename(b"a/b", b".")
    w.rename(b"a", b"..")
    w.rename(b".", b"x")
    w.snapshot()


@script
def what_is_not_there_cannot_be_renamed(w: World) -> None:
    file(w, b"f")
    w.mkdir(b"d", 0o755)
    for old, new in ((b"missing", b"x"), (b"f", b"missing/x"), (b"f/x", b"y"), (b"f", b"f/x"), (b"missing/x", b"y"),
                     (b"f", b"new/"), (b"f", b"d/"), (b"f/", b"g"), (b"d", b"f/"), (b"d", b"new/")):  # fmt: skip
        w.rename(old, new)
    w.snapshot()


@script
def a_replaced_link_counts_down(w: World) -> None:
    file(w, b"a", b"a")
    file(w, b"b", b"b")
    w.link(b"b", b"b2")
    w.rename(b"a", b"b")
    w.stat(b"b")
    w.stat(b"b2")
    content(w, b"b")
    content(w, b"b2")
    w.snapshot()


@script
def a_moved_directory_takes_everything_with_it(w: World) -> None:
    w.mkdir(b"from", 0o755)
    w.mkdir(b"to", 0o755)
    for place in range(20):
        w.mkdir(b"from/d%d" % place, 0o755)
        file(w, b"from/d%d/f" % place, b"%d" % place)
    w.rename(b"from", b"to/here")
    w.stat(b"to/here/d3/f")
    w.stat(b"from")
    w.stat(b"to")
    w.mkdir(b"from", 0o700)
    w.listdir(b"from")
    w.snapshot()


@script
def files_renamed_many_times_keep_their_content(w: World) -> None:
    """On a distributed volume each new name may belong elsewhere."""
    for place in range(30):
        file(w, b"f%d" % place, b"%d" % place)
    for turn in range(4):
        for place in range(30):
            w.rename(b"f%d" % place if turn == 0 else b"t%d-%d" % (turn - 1, place), b"t%d-%d" % (turn, place))
    w.snapshot()


@script
def renaming_over_names_in_a_ring(w: World) -> None:
    for place in range(10):
        file(w, b"%d" % place, b"%d" % place)
    w.rename(b"0", b"spare")
    for place in range(9):
        w.rename(b"%d" % (place + 1), b"%d" % place)
    w.rename(b"spare", b"9")
    w.snapshot()


@script
def links_and_renames_together(w: World) -> None:
    w.mkdir(b"d", 0o755)
    file(w, b"a", b"a")
    for place in range(8):
        w.link(b"a", b"l%d" % place)
        w.rename(b"l%d" % place, b"d/m%d" % place)
    file(w, b"d/m3", b"through a link")
    w.unlink(b"a")
    w.rename(b"d/m0", b"a")
    w.stat(b"a")
    w.snapshot()


@script
def names_that_were_removed_or_renamed_can_be_made_again(w: World) -> None:
    for turn in range(5):
        file(w, b"f", b"turn %d" % turn)
        w.mkdir(b"d", 0o755)
        w.rename(b"f", b"d/f")
        w.rename(b"d", b"e%d" % turn)
        w.stat(b"f")
        w.stat(b"d")
    w.snapshot()
