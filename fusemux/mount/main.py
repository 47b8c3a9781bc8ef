"""mount.fusemux: what mount(8) runs for `mount -t fusemux SPEC DIR`.

    mount.fusemux SPEC DIR [-sfnvN] [-o OPTIONS] [-t TYPE]
    mount.fuse.fusemux     the same, for `mount -t fuse.fusemux`

Returns when the volume serves, or with the exit status of mount(8) and one line that says why not.  Nothing here imports
the command line, and nothing heavy is imported before the serving process has gone to the background.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from fusemux.graph.framework.errors import FusemuxError
from fusemux.mount.errors import Exit, MountError
from fusemux.mount.parsing import MountRequest, parse

__all__ = ["Command", "main", "mount", "read_command"]

USAGE = "usage: mount.fusemux SPEC DIR [-sfnvN] [-o OPTIONS] [-t TYPE]"


@dataclass
class Command:
    """A parsed command line."""

    words: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    fake: bool = False
    sloppy: bool = False
    verbose: bool = False
    debug: bool = False
    show: str = ""  # "help" or "version" instead of mounting


_LONG = {"--foreground": "foreground", "--replace-stale": "replace-stale", "--strict": "strict"}


def read_command(argv: Sequence[str]) -> Command:
    """Raises MountError (usage)."""
    command = Command()
    words = iter(argv)
    for word in words:
        if word == "--":
            command.words += words
        elif word in ("--help", "-h"):
            command.show = "help"
        elif word in ("--version", "-V"):
            command.show = "version"
        elif word == "--debug":
            command.debug = True
        elif word in _LONG:
            command.options.append(_LONG[word])
        elif word.startswith("--"):
            raise MountError(f"unknown option {word!r}; {USAGE}", Exit.USAGE)
        elif word.startswith("-") and len(word) > 1:
            _short(word[1:], words, command)
        else:
            command.words.append(word)
    if not command.show and len(command.words) != 2:
        raise MountError(f"expected SPEC and DIR, got {len(command.words)} words; {USAGE}", Exit.USAGE)
    return command


def _short(letters: str, words: object, command: Command) -> None:
    """`-fv`, `-o OPTS`, `-oOPTS`, `-t TYPE`, `-N NAMESPACE`."""
    for place, letter in enumerate(letters):
        if letter in "otN":
            value = letters[place + 1 :] or next(words, None)  # type: ignore[call-overload]
            if value is None:
                raise MountError(f"-{letter} needs a value; {USAGE}", Exit.USAGE)
            if letter == "o":
                command.options.append(value)
            elif letter == "N":
                command.options.append(f"x-namespace={value}")
            return
        if letter not in "sfnvwr":
            raise MountError(f"unknown option '-{letter}'; {USAGE}", Exit.USAGE)
        command.fake |= letter == "f"
        command.sloppy |= letter == "s"
        command.verbose |= letter == "v"
        if letter in "wr":
            command.options.append("rw" if letter == "w" else "ro")


def main(argv: Sequence[str] | None = None) -> int:
    """The console script `mount.fusemux`."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        return _run(read_command(words))
    except FusemuxError as error:
        if debug:
            raise
        print(f"mount.fusemux: error: {error}", file=sys.stderr)
        return int(getattr(error, "exit", Exit.FAILURE))
    except KeyboardInterrupt:
        return Exit.USER
    except MemoryError:
        print("mount.fusemux: error: out of memory", file=sys.stderr)
        return Exit.SYSTEM
    except Exception as error:
        if debug:
            raise
        print(
            f"mount.fusemux: error: {type(error).__name__}: {error}; this is a bug, --debug shows more", file=sys.stderr
        )
        return Exit.INTERNAL


def _run(command: Command) -> int:
    if command.show == "version":
        from fusemux import __version__

        print(f"mount.fusemux {__version__}")
        return 0
    if command.show == "help":
        from fusemux.mount.help import help_text

        print(help_text())
        return 0
    spec, path = command.words
    return mount(spec, path, parse(command.options, sloppy=command.sloppy), fake=command.fake, verbose=command.verbose)


def mount(spec: str, path: str, request: MountRequest, *, fake: bool = False, verbose: bool = False) -> int:
    """Mount `spec` at `path`, in the background unless asked otherwise; returns when it serves (or, in the foreground, ends).

    Raises MountError.
    """
    if request.remount:
        from fusemux.mount.remount import remount

        remount(path, request)
        return 0
    from fusemux.mount.plan import plan_mount
    from fusemux.mount.preflight import check_fuse, check_target

    opt = request.opt
    real = check_target(path, replace_stale=opt.replace_stale and not fake)
    check_fuse(allow_other=opt.allow_other)
    plan = plan_mount(spec, real, request)
    if fake:
        return _check(plan, verbose)
    from fusemux.serve.background import serve

    status = serve([plan])
    if verbose and status == 0 and not opt.foreground:
        print(f"mount.fusemux: {spec} mounted on {path}.")
    return status


def _check(plan: object, verbose: bool) -> int:
    """`-f`: everything but mounting."""
    from fusemux.mount.plan import PlannedMount, check_plan

    assert isinstance(plan, PlannedMount)
    check_plan(plan)
    if verbose:
        print(f"mount.fusemux: {plan.shown} could be mounted on {plan.path} ({len(plan.source.bricks)} bricks).")
    return 0
