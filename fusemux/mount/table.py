"""The options of a mount: one table, from which come parsing, `--help` and the docs.

A row is an `Option` (name, type, default, doc) and how it is written behind `-o`.  A switch NAME is on by `NAME` or
`NAME=on`, off by `noNAME` or `NAME=off`; some have words of their own for off (`rw` for `ro`).  Rows of the group
"fstab" are accepted because fstab(5) and mount(8) hand them on, and mean nothing to a helper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fusemux.graph.framework.options import Option

__all__ = ["GROUPS", "ROWS", "MountOption", "find_word"]

GROUPS = {
    "fusemux": "Of fusemux",
    "fuse": "Of the FUSE connection",
    "kernel": "Of every file system, see mount(8)",
    "fstab": "Accepted from fstab(5) and without effect here",
}
LEVELS = ("trace", "debug", "info", "warning", "error", "critical", "none")


class Seconds(Option):
    """A time that may be without end."""

    def _typed(self, text: str) -> Any:
        return float("inf") if text.lower() in ("inf", "infinite", "unlimited") else Option._typed(self, text)


class Word(Option):
    """An enum whose values may be written in capitals."""

    def _typed(self, text: str) -> Any:
        return Option._typed(self, text.lower())


@dataclass(frozen=True)
class MountOption:
    row: Option
    group: str
    off: tuple[str, ...] = ()  # words that switch it off, besides noNAME
    remount: bool = False  # can be changed by `-o remount`

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def is_switch(self) -> bool:
        return self.row.type == "bool"

    @property
    def written(self) -> str:
        """How `--help` writes it."""
        if self.group == "fstab":
            return self.name
        if not self.is_switch:
            return f"{self.name}={self.row.type.upper()}" if not self.row.choices else f"{self.name}=WORD"
        other = self.off[0] if self.off else f"no{self.name}"
        return f"{self.name}, {other}" if self.row.default != "on" else f"{other}, {self.name}"


def _own(name: str, type_: str, default: str | None, doc: str, *, group: str = "fusemux", **more: Any) -> MountOption:
    remount = more.pop("remount", False)
    cls = {"seconds": Seconds, "word": Word}.get(type_, Option)
    return MountOption(
        cls(name, {"seconds": "time", "word": "enum"}.get(type_, type_), default, doc, **more), group, remount=remount
    )


def _fuse(name: str, type_: str, default: str | None, doc: str, **more: Any) -> MountOption:
    return _own(name, type_, default, doc, group="fuse", **more)


def _kernel(name: str, default: str, doc: str, *off: str) -> MountOption:
    return MountOption(Option(name, "bool", default, doc), "kernel", off, remount=True)


def _fstab(name: str, doc: str) -> MountOption:
    return MountOption(Option(name, "str", None, doc), "fstab")


ROWS: tuple[MountOption, ...] = (
    _own("replace-stale", "bool", "off", "When a server that died left a mount at DIR, clear it and its ramdisks first."),
    _own("degraded", "bool", "off", "Mount even when bricks are missing; they count as down."),
    _own("foreground", "bool", "off", "Serve in this process instead of in the background."),
    _own("binding", "enum", "auto", "Which way to /dev/fuse: our own wire, pyfuse3, or what works best.",
         choices=("auto", "kernel", "pyfuse3")),
    _own("log-level", "word", "info", "What is worth a line in the log.", choices=LEVELS, remount=True),
    _own("log-file", "path", None, "Where the log goes; `syslog` or a file.  Unset: syslog in the background, else stderr."),
    _own("strict", "bool", "off", "Check the contract between all translators at every call; slow, for development."),
    _own("pool-threads", "int", "8", "Threads for bricks on disks, for all bricks together.", low=1, high=256),
    _own("lru-limit", "int", "65536", "How many inodes that nobody refers to stay in memory.", low=0, high=100_000_000),
    _own("volume-name", "str", None, "With a volfile as SPEC: the volume in it to mount; unset: the last one."),
    _fuse("allow_other", "bool", None, "Let other users in.  Unset: on for root, off for others."),
    _fuse("attribute-timeout", "seconds", None, "How long the kernel may keep attributes; unset: without end, as this process "
          "is the only writer.", aliases=("attr_timeout",), low=0),
    _fuse("entry-timeout", "seconds", None, "How long the kernel may keep names; unset: without end, "
          "or not at all where this process mounts the volume at several places: a change at one would be seen late at the others.",
          aliases=("entry_timeout",), low=0),
    _fuse("negative-timeout", "seconds", None, "How long the kernel may keep that a name is not there; unset: "
          "as for names that are.",
          aliases=("negative_timeout",), low=0),
    _fuse("writeback-cache", "bool", "off", "Let the kernel gather writes: fewer requests for many small ones, two more for each file; "
          "and a full brick shows at close or fsync instead of at the write.", aliases=("writeback_cache", "kernel-writeback-cache")),
    _fuse("passthrough", "bool", "on", "Let the kernel read and write the bricks' files by itself, where a file lies whole in one of "
          "them and nothing between has to see it (root, Linux 6.9, no writeback-cache, the volume mounted once)."),
    _fuse("locks", "enum", "auto", "Who keeps the locks of fcntl(2) and flock(2): the kernel, which costs nothing; or the bricks, so that all who "
          "use them see each other's.  `auto`: the bricks where this process mounts the volume at several places, else the kernel.",
          choices=("auto", "kernel", "bricks")),
    _fuse("max_read", "size", "1MB", "The largest read request.", low=4096, high=1048576),
    _fuse("max_write", "size", "1MB", "The largest write request.", low=4096, high=1048576),
    _fuse("fsname", "str", None, "What /proc/mounts shows as the source; unset: SPEC."),
    _kernel("ro", "off", "Read-only.", "rw"),
    _kernel("suid", "on", "Honour set-user-id and set-group-id."),
    _kernel("dev", "on", "Honour device files."),
    _kernel("exec", "on", "Permit programs to run."),
    _kernel("sync", "off", "All writes are synchronous.", "async"),
    _kernel("dirsync", "off", "All changes of directories are synchronous."),
    _kernel("atime", "on", "Update access times."),
    _kernel("diratime", "on", "Update access times of directories."),
    _kernel("strictatime", "off", "Always update access times."),
    _kernel("symfollow", "on", "Follow symbolic links."),
    _fstab("auto", "and `noauto`: whether `mount -a` mounts it"),
    _fstab("defaults", "nothing in particular"),
    _fstab("user", "and `nouser`, `users`, `owner`, `group`: who may mount it"),
    _fstab("nofail", "and `fail`: whether booting waits for it"),
    _fstab("_netdev", "mount it when the network is up"),
    _fstab("comment", "`comment=TEXT`, and everything that begins with `x-` or `X-`"),
    _fstab("relatime", "and `lazytime`, their `no` forms: the kernel's own choice stands"),
    _fstab("default_permissions", "always: the kernel checks permissions"),
    _fstab("user_id", "and `group_id`, `rootmode`, `blksize`, `subtype`: what /proc/mounts shows and mount(8) repeats at a remount"),
    _fstab("mand", "and `silent`, `loud`, `iversion`, their `no` forms, `uhelper=`, `helper=`: historical"),
)  # fmt: skip

_FSTAB_WORDS = frozenset({
    "auto", "noauto", "defaults", "user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup", "fail", "nofail",
    "_netdev", "comment", "default_permissions", "user_id", "group_id", "rootmode", "blksize", "subtype",
    "relatime", "norelatime", "lazytime", "nolazytime", "mand", "nomand", "silent", "loud", "iversion", "noiversion",
    "uhelper", "helper",
})  # fmt: skip


def _words() -> dict[str, tuple[MountOption, bool]]:
    """Every word before a `=`: its row, and whether the bare word switches on."""
    found: dict[str, tuple[MountOption, bool]] = {}
    for option in ROWS:
        if option.group == "fstab":
            continue
        for name in (option.row.name, *option.row.aliases):
            found[name] = (option, True)
            if option.is_switch:
                found[f"no{name}"] = (option, False)
        for name in option.off:
            found[name] = (option, False)
    fstab = next(option for option in ROWS if option.group == "fstab")
    found |= dict.fromkeys(_FSTAB_WORDS, (fstab, True))
    return found


WORDS = _words()


def find_word(word: str) -> tuple[MountOption, bool] | None:
    """The row that `word` (what stands before a `=`) belongs to; None when there is none."""
    if word.startswith(("x-", "X-")):
        return next((o, True) for o in ROWS if o.group == "fstab")
    return WORDS.get(word)
