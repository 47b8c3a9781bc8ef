"""The words of the command line.  Only parsing: what a command does is imported when it runs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.options import nearest

__all__ = ["COMMANDS", "UsageError", "parse"]

COMMANDS = ("volume", "mount", "umount", "status", "serve", "try", "fault", "brick", "install-helper", "bench")
# Words that people who know gluster will try.
_OTHER_WORDS = {
    "start": "volumes need no start: `fusemux mount VOLUME DIR` serves and mounts",
    "stop": "volumes need no stop: `fusemux umount DIR` unmounts, and stops what served",
    "remove": "use `fusemux volume delete VOLUME`",
    "status": "use `fusemux status`",
}


class UsageError(FusemuxError):
    """The command line makes no sense."""


class _Parser(argparse.ArgumentParser):
    """Errors in our words, with the nearest one."""

    def error(self, message: str) -> NoReturn:
        match = re.match(r"argument (.*): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if match:
            words = re.findall(r"[\w-]+", match[3])
            hint = nearest(match[2], words) or f"; known are {', '.join(words)}"
            if self.prog.endswith("volume") and match[2] in _OTHER_WORDS:
                hint = f"; {_OTHER_WORDS[match[2]]}"
            raise UsageError(f"{self.prog}: unknown word {match[2]!r}{hint}")
        raise UsageError(f"{self.prog}: {message}; `{self.prog} --help` shows how")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Raises UsageError.  The namespace has `run`, the name of the function that does it, as `module:function`."""
    parser = _Parser(prog="fusemux", description="A whole GlusterFS-class volume in one process, mounted through FUSE.",
                     parents=[_common()], allow_abbrev=False)  # fmt: skip
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _volume(_add(commands, "volume", "define volumes and set their options"))
    _mounts(commands)
    _others(commands)
    _faults(_add(commands, "fault", "break fops of a volume that is served"))
    _bricks(
        _add(commands, "brick", "kill, start, freeze, fill, corrupt or unplug one brick of a volume that is served")
    )
    found = parser.parse_args(argv)
    if not found.version and not hasattr(found, "run"):
        raise UsageError(f"which command? known are {', '.join(COMMANDS)}; `fusemux --help` says more")
    return found


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help="print one JSON value")
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    return common


def _add(commands: Any, name: str, help: str, run: str = "", **more: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=help[0].upper() + help[1:] + ".", parents=[_common()], allow_abbrev=False, **more
    )
    if run:
        parser.set_defaults(run=run)
    return parser


_CREATE = """\
words, in GlusterFS's order:
  [replica N [arbiter 1]] [disperse [N]] [disperse-data N] [redundancy N] [transport tcp] BRICK... [force]
a BRICK is localhost:/path, a directory, or ramdisk[:SIZE]
"""

_HEAL = """\
words, in GlusterFS's order:
  (none)                               heal what is listed as pending
  full                                 look at everything
  info [summary | split-brain]         list what is pending
  split-brain bigger-file PATH         settle a split-brain
  split-brain latest-mtime PATH
  split-brain source-brick BRICK [PATH]
  granular-entry-heal enable|disable   note which names of a directory a copy misses
"""

_RESET = """\
words:
  start                the brick goes down and is let go: empty its directory, or mount another disk there
  commit               it is empty now: heal everything onto it
  commit force         go on with the files that are still there
"""

_ADD = """\
words, in GlusterFS's order:
  replica N BRICK...             a higher N: as many bricks as make each set N wide, set after set
  replica 3 arbiter 1 BRICK...   an arbiter for each set of two copies
  BRICK...                       whole new sets; old directories go on using the old sets
"""

_REMOVE = """\
words, in GlusterFS's order:
  replica N BRICK... force       a lower N: from each set as many bricks as it becomes smaller; of a set with an arbiter
                                 only the arbiter can go (replica 2)
"""


def _volume(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="volume_command", metavar="COMMAND", title="commands", required=True)
    create = _add(commands, "create", "define a volume and prepare its bricks", "volume:create",
                  epilog=_CREATE, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    create.add_argument("name", metavar="VOLUME")
    create.add_argument("words", metavar="WORD", nargs="*")
    _add(commands, "info", "show one volume or all", "volume:info").add_argument("name", metavar="VOLUME", nargs="?")
    _add(commands, "list", "list the names of all volumes", "volume:list_names")
    delete = _add(commands, "delete", "forget a volume; its bricks' directories stay, its ramdisks go", "volume:delete")
    delete.add_argument("name", metavar="VOLUME")
    delete.add_argument("--yes", "-y", action="store_true", help="do not ask")
    set_ = _add(
        commands, "set", "set options, also of a volume that is mounted; `volume set help` lists them", "options:set_"
    )
    set_.add_argument("name", metavar="VOLUME")
    set_.add_argument("words", metavar="OPTION VALUE", nargs="*")
    get = _add(commands, "get", "show the value of an option, or of all", "options:get")
    get.add_argument("name", metavar="VOLUME")
    get.add_argument("key", metavar="OPTION|all")
    reset = _add(commands, "reset", "set one option, or all, back to the default", "options:reset")
    reset.add_argument("name", metavar="VOLUME")
    reset.add_argument("key", metavar="OPTION", nargs="?")
    reset.add_argument("force", nargs="?", choices=["force"], help="accepted, as GlusterFS does")
    help_ = _add(commands, "help", "explain an option, or list all", "options:help_")
    help_.add_argument("key", metavar="OPTION", nargs="?")
    heal = _add(commands, "heal", "heal the copies of a replicated volume, and see what there is to heal", "heal:heal",
                epilog=_HEAL, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    heal.add_argument("name", metavar="VOLUME")
    heal.add_argument("words", metavar="WORD", nargs="*")
    heal.add_argument("--explain", metavar="PATH", help="what each copy says of PATH (or gfid:...), and what follows")
    _bricks_of_volume(commands)


def _bricks_of_volume(commands: Any) -> None:
    replace = _add(commands, "replace-brick", "put another brick in the place of one; it is healed from the other copies",
                   "bricks:replace")  # fmt: skip
    replace.add_argument("name", metavar="VOLUME")
    replace.add_argument("old", metavar="OLD", help="its path, localhost:PATH, or its number, from 0")
    replace.add_argument("new", metavar="NEW", help="an empty directory, or ramdisk[:SIZE]")
    replace.add_argument(
        "words", metavar="WORD", nargs="*", help="commit force, as GlusterFS wants it; need not be said"
    )
    reset = _add(commands, "reset-brick", "change the disk of a brick, or empty it, and have it healed", "bricks:reset",
                 epilog=_RESET, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    reset.add_argument("name", metavar="VOLUME")
    reset.add_argument("brick", metavar="BRICK")
    reset.add_argument("words", metavar="WORD", nargs="+")
    add = _add(commands, "add-brick", "add copies, an arbiter, or whole sets of bricks", "bricks:add",
               epilog=_ADD, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add.add_argument("name", metavar="VOLUME")
    add.add_argument("words", metavar="WORD", nargs="+")
    remove = _add(commands, "remove-brick", "remove copies or arbiters", "bricks:remove",
                  epilog=_REMOVE, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    remove.add_argument("name", metavar="VOLUME")
    remove.add_argument("words", metavar="WORD", nargs="+")


def _mounts(commands: Any) -> None:
    mount = _add(commands, "mount", "mount a volume (as mount -t fusemux does)", "mounts:mount")
    mount.add_argument("spec", metavar="SPEC", help="a stored volume, a volfile, or a short form such as 2x2")
    mount.add_argument("path", metavar="DIR")
    _serving_options(mount)
    mount.add_argument("--foreground", action="store_true", help="serve in this process")
    umount = _add(commands, "umount", "unmount, and wait until the server has let go", "mounts:umount")
    umount.add_argument("paths", metavar="DIR", nargs="+")
    umount.add_argument("--lazy", "-l", action="store_true", help="also when it is in use")
    status = _add(commands, "status", "show what is served and mounted", "mounts:status")
    status.add_argument("name", metavar="VOLUME", nargs="?")
    status.add_argument("--dump", action="store_true", help="the state of every translator instead")
    serve = _add(commands, "serve", "serve many volumes from one process", "mounts:serve")
    serve.add_argument("specs", metavar="SPEC[:DIR]", nargs="+",
                       help="without DIR: MOUNT_ROOT/VOLUME, for a short form without a name MOUNT_ROOT/NUMBER")  # fmt: skip
    serve.add_argument("--mount-root", metavar="DIR", help="default: the folder 'mnt' of the run directory")
    serve.add_argument("--daemon", action="store_true", help="in the background; return when all of them serve")
    _serving_options(serve)


def _serving_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", dest="options", metavar="OPTIONS", action="append", default=[],
                        help="mount options; `mount.fusemux --help` lists them")  # fmt: skip
    parser.add_argument("--replace-stale", action="store_true", help="clear what a dead server left behind")


def _others(commands: Any) -> None:
    trial = _add(commands, "try", "mount a throw-away volume, run a command in it, clean up", "trial:try_")
    trial.add_argument("spec", metavar="SPEC")
    trial.add_argument(
        "--run",
        metavar="CMD",
        dest="shell_command",
        help="a shell command; $FUSEMUX_MNT is the mount. Default: your shell",
    )
    _serving_options(trial)
    install = _add(commands, "install-helper", "let mount(8) find mount.fusemux", "install:install_helper")
    install.add_argument("--prefix", metavar="DIR", default="/", help="below which sbin/ gets the links (default /)")
    install.add_argument("--target", metavar="FILE", help="what to link to (default: the installed mount.fusemux)")
    install.add_argument("--force", action="store_true", help="replace what is there")
    _add(commands, "bench", "measure; `fusemux bench --help` lists the benchmarks", add_help=False)


def _faults(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="fault_command", metavar="COMMAND", title="commands", required=True)
    add = _add(commands, "add", "set a fault; it is counted when it fires", "faults:add")
    add.add_argument("name", metavar="VOLUME")
    add.add_argument("action", metavar="ACTION", help="error, full, delay, freeze, short, corrupt, torn or kill")
    add.add_argument("--at", metavar="PLACE", default="mount", help="mount, a brick's number or path, or ABOVE:BELOW")
    add.add_argument("--fop", metavar="FOP", action="append", help="only these, such as writev or fsync")
    add.add_argument("--path", metavar="GLOB", help="only files whose path (without a slash: whose name) matches")
    add.add_argument("--errno", metavar="NAME", help="for error: what to answer (default EIO)")
    add.add_argument("--delay", metavar="TIME", help="for delay: how long, such as 0.2s")
    add.add_argument(
        "--crash-point", metavar="POINT", help="for kill: pre-op-done, op-done or before-post-op of a replica set"
    )
    add.add_argument("--nth", metavar="N", type=int, help="only the n-th that matches, from 1")
    add.add_argument("--times", metavar="N", type=int, help="at most so often")
    add.add_argument("--rate", metavar="SHARE", type=float, help="this share of what matches, at random")
    add.add_argument("--seed", metavar="N", type=int, help="for --rate: makes the run replay")
    _revoke(add)
    _add(commands, "list", "show the faults and how often they fired", "faults:list_faults").add_argument(
        "name", metavar="VOLUME"
    )
    clear = _add(commands, "clear", "take one fault, or all, away", "faults:clear")
    clear.add_argument("name", metavar="VOLUME")
    clear.add_argument("id", metavar="ID", type=int, nargs="?")


def _bricks(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="brick_command", metavar="COMMAND", title="commands", required=True)
    for name, help in (
        ("kill", "take a brick down, as SIGKILL would"),
        ("start", "bring a brick back, thaw it, empty it"),
        ("freeze", "let every fop on a brick wait"),
        ("fill", "refuse with ENOSPC whatever needs space on a brick"),
        ("corrupt", "flip a bit of a file on a brick"),
        (
            "power-cut",
            "take a brick down without what was not synced (volume option debug.volatile posix): contents, and "
            "with debug.volatile-names on also names and attributes",
        ),
    ):
        command = _add(commands, name, help, "faults:brick")
        command.add_argument("name", metavar="VOLUME")
        command.add_argument("brick", metavar="BRICK", help="its number, from 0, or its path")
        if name == "corrupt":
            command.add_argument("path", metavar="PATH", help="the file, from the root of the volume")
        if name in ("freeze", "fill"):
            _revoke(command)


def _revoke(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--revoke", action="store_true",
        help="make files fail with EIO that are open and go past it (passthrough), until they are opened again",
    )  # fmt: skip
