"""What a test asks of its volume: the words of `@pytest.mark.fusemux(...)`, understood.  Pure, imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["DEFAULT_SPEC", "Wish", "WishError", "wish_of"]

DEFAULT_SPEC = "replica=3"
_SHAPE = ("distribute", "replica", "arbiter", "disperse", "redundancy", "size")
_WORDS = (*_SHAPE, "volfile", "backend", "options", "mount_options", "volatile", "disk")
_BACKENDS = ("mount", "graph")


class WishError(Exception):
    """The marker makes no sense."""


@dataclass(frozen=True)
class Wish:
    """A volume as a test wants it."""

    spec: str = DEFAULT_SPEC  # a short form, as `fusemux mount` takes it
    volfile: str | None = None  # instead of a spec
    backend: str = "mount"
    options: Mapping[str, str] = field(default_factory=dict)  # of the volume
    mount_options: tuple[str, ...] = ()
    volatile: bool = True  # bricks can lose power
    volatile_names: bool = False  # and with it names and attributes
    disk: bool = False  # bricks lie in the temporary directory, not in memory


def wish_of(args: Sequence[Any], words: Mapping[str, Any]) -> Wish:
    """The wish that `fusemux(*args, **words)` is.  Raises WishError."""
    unknown = sorted(words.keys() - set(_WORDS))
    if unknown:
        raise WishError(f"fusemux marker: unknown word {unknown[0]!r}; known are {', '.join(_WORDS)}")
    shape = {key: words[key] for key in _SHAPE if key in words}
    if len(args) > 1 or (args and not isinstance(args[0], str)):
        raise WishError("fusemux marker: at most one spec may stand in front, as text, such as '2x2'")
    if "volfile" in words and (args or shape):
        raise WishError("fusemux marker: a volfile says everything; leave out the spec and the shape")
    backend = words.get("backend", "mount")
    if backend not in _BACKENDS:
        raise WishError(f"fusemux marker: backend {backend!r}; known are {', '.join(_BACKENDS)}")
    volatile = words.get("volatile", True)
    if volatile not in (True, False, "names"):
        raise WishError(f"fusemux marker: volatile {volatile!r}; known are True, False and 'names'")
    return Wish(
        spec=",".join([*args, *(f"{key}={value}" for key, value in shape.items())]) or DEFAULT_SPEC,
        volfile=os.fspath(words["volfile"]) if "volfile" in words else None,
        backend=backend,
        options={key: _text(value) for key, value in words.get("options", {}).items()},
        mount_options=tuple(words.get("mount_options", ())),
        volatile=bool(volatile),
        volatile_names=volatile == "names",
        disk=bool(words.get("disk", False)),
    )


def _text(value: Any) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)
