"""The table of scripts: a function that is decorated with `script` is in it."""

from __future__ import annotations

from collections.abc import Callable

from tests.parity.world import World

Script = Callable[[World], None]

SCRIPTS: dict[str, Script] = {}
ROOT_ONLY: set[str] = set()


def script(function: Script) -> Script:
    """Add a script under its name."""
    assert function.__name__ not in SCRIPTS, function.__name__
    SCRIPTS[function.__name__] = function
    return function


def as_root(function: Script) -> Script:
    """Add a script that only root can run: it changes owners, makes devices or acts as other users."""
    ROOT_ONLY.add(function.__name__)
    return script(function)


def file(w: World, path: bytes, content: bytes = b"", mode: int = 0o644) -> None:
    """A file with some content, recorded like everything else."""
    fd = w.open(path, 0o1101, mode)  # O_WRONLY | O_CREAT | O_TRUNC
    if content:
        w.write(fd, content)
    w.close(fd)


def content(w: World, path: bytes) -> None:
    """Record what a file holds."""
    fd = w.open(path, 0)
    w.read(fd, 1 << 20)
    w.close(fd)
