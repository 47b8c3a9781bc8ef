"""The words of `volume create`, in GlusterFS's order, to a definition.

    volume create NAME [replica N [arbiter 1]] [disperse [N]] [disperse-data N] [redundancy N] [transport tcp]
                       BRICK... [force]

A BRICK is `HOST:/path` (HOST is this machine), a plain directory, or `ramdisk[:SIZE]`.

Source: gluster(8) and GlusterFS's `cli_cmd_volume_create_parse`: each word at most once, a redundancy that is not given is
chosen so that the data bricks are a power of two, if one is near enough, else 1.  Pure but for the working directory.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusemux.graph.framework.options import nearest, parse_size
from fusemux.volume.definition import SHORT_FORM, BrickSpec, Volume, VolumeError, validate

__all__ = [
    "DEFAULT_OPTIONS",
    "Creation",
    "best_redundancy",
    "create",
    "default_options",
    "parse_brick",
    "ramdisk_bytes",
]

_COUNTS = ("replica", "arbiter", "disperse", "disperse-data", "redundancy")
_REFUSED = {
    "stripe": "stripe volumes do not exist any more; use 'disperse' or features.shard",
    "thin-arbiter": "thin arbiters are not there; use 'replica 2 arbiter 1'",
}
# What GlusterFS gives each new volume.
DEFAULT_OPTIONS = {"storage.fips-mode-rchecksum": "on", "transport.address-family": "inet", "nfs.disable": "on"}


@dataclass(frozen=True)
class Creation:
    """A parsed `volume create`."""

    volume: Volume
    force: bool


def create(name: str, words: Sequence[str], ramdisks: Path) -> Creation:
    """The definition of volume `name`.  `ramdisks` is where ramdisk bricks are to be mounted.

    Raises VolumeError.
    """
    if SHORT_FORM.fullmatch(name):
        raise VolumeError(f"{name!r} is a short form that mount.fusemux understands, such as 2x2; choose another name")
    counts, rest = _counts(name, list(words))
    force = bool(rest) and rest[-1] == "force"
    if force:
        rest.pop()
    bricks = tuple(parse_brick(word, ramdisks / name / f"b{i}") for i, word in enumerate(rest))
    volume = _grouped(name, bricks, counts)
    validate(volume)
    return Creation(volume, force)


def _counts(name: str, words: list[str]) -> tuple[dict[str, int], list[str]]:
    """The counts before the bricks, and what follows them.  `disperse` without a number counts as 0."""
    counts: dict[str, int] = {}
    while words:
        word = words[0]
        if word in _REFUSED:
            raise VolumeError(f"volume {name!r}: {_REFUSED[word]}")
        if word == "transport":
            _transport(name, words)
        elif word in _COUNTS:
            if word in counts:
                raise VolumeError(f"volume {name!r}: {word!r} is given twice")
            del words[0]
            counts[word] = _number(name, word, words)
        else:
            return counts, words
    return counts, words


def _number(name: str, word: str, words: list[str]) -> int:
    text = words[0] if words else ""
    if word == "disperse" and not text.isdigit():
        return 0
    if not text.isdigit() or int(text) < 1:
        raise VolumeError(
            f"volume {name!r}: {word!r} needs a number after it, such as '{word} 2'; got {text or 'nothing'!r}"
        )
    del words[0]
    return int(text)


def _transport(name: str, words: list[str]) -> None:
    kind = words[1] if len(words) > 1 else ""
    if kind != "tcp":
        raise VolumeError(
            f"volume {name!r}: transport {kind or 'nothing'!r} is not there; leave it out or write 'transport tcp'"
        )
    del words[:2]


def _grouped(name: str, bricks: tuple[BrickSpec, ...], counts: dict[str, int]) -> Volume:
    dispersed = {"disperse", "disperse-data", "redundancy"} & counts.keys()
    if "replica" in counts and dispersed:
        raise VolumeError(f"volume {name!r}: replica and {min(dispersed)} cannot be used together")
    if "arbiter" in counts and "replica" not in counts:
        raise VolumeError(f"volume {name!r}: 'arbiter' needs 'replica' before it: 'replica 2 arbiter 1'")
    if dispersed:
        size, redundancy = _disperse(name, len(bricks), counts)
        return Volume(name, bricks, disperse=size, redundancy=redundancy, options=default_options(False))
    replica = counts.get("replica", 1)
    if "replica" in counts and replica < 2:
        raise VolumeError(f"volume {name!r}: replica count should be 2 or more, got {replica}")
    arbiter = counts.get("arbiter", 0)
    if (replica, arbiter) == (2, 1):
        replica = 3
    return Volume(name, bricks, replica=replica, arbiter=arbiter, options=default_options(replica > 1))


def default_options(replicated: bool) -> dict[str, str]:
    """The options that GlusterFS gives each new volume."""
    if not replicated:
        return dict(DEFAULT_OPTIONS)
    return {"cluster.granular-entry-heal": "on", **DEFAULT_OPTIONS, "performance.client-io-threads": "off"}


def _disperse(name: str, bricks: int, counts: dict[str, int]) -> tuple[int, int]:
    """Bricks a set and redundancy, from whichever two of the three were given."""
    data, redundancy = counts.get("disperse-data"), counts.get("redundancy")
    size = counts.get("disperse") or (data + redundancy if data and redundancy else bricks)
    if data is not None:
        if redundancy is None:
            redundancy = size - data
        if data + redundancy != size:
            raise VolumeError(f"volume {name!r}: disperse {size} is not disperse-data {data} + redundancy {redundancy}")
    return size, best_redundancy(size) if redundancy is None else redundancy


def best_redundancy(count: int) -> int:
    """GlusterFS's choice for `count` bricks: data bricks a power of two if a redundancy below half allows it, else 1."""
    data = 1 << max(0, (count - 1).bit_length() - 1)
    return count - data if 0 < 2 * (count - data) < count else 1


def parse_brick(word: str, ramdisk_path: Path, *, command: str = "volume create") -> BrickSpec:
    """`HOST:/path`, a directory, or `ramdisk[:SIZE]`.  Raises VolumeError."""
    if word == "ramdisk" or word.startswith("ramdisk:"):
        return BrickSpec(str(ramdisk_path), ramdisk_bytes(word.partition(":")[2]))
    host, colon, path = word.partition(":")
    if colon and "/" not in host:
        if not path.startswith("/"):
            raise VolumeError(
                f"wrong brick {word!r}; use <HOSTNAME>:<export-dir-abs-path>, a directory or ramdisk[:SIZE]"
            )
        if not _is_here(host):
            raise VolumeError(f"brick {word!r}: only bricks of this machine can be used; write localhost:{path}")
        return BrickSpec(os.path.normpath(path))
    if "/" not in word and not os.path.isdir(word):
        hint = nearest(word, (*_COUNTS, *_REFUSED, "force", "ramdisk", "transport"))
        raise VolumeError(
            f"{word!r} is neither a directory nor a word of {command}{hint or '; write ./' + word + ' for a new one'}"
        )
    return BrickSpec(os.path.abspath(word))


def ramdisk_bytes(text: str) -> int:
    """The size of a ramdisk; nothing means the default, 0.  Raises VolumeError."""
    if not text:
        return 0
    try:
        size = parse_size(text)
    except ValueError as error:
        raise VolumeError(f"ramdisk size {text!r}: {error}") from None
    if size < 1024 * 1024:
        raise VolumeError(f"ramdisk size {text!r}: a brick needs at least 1MB")
    return size


def _is_here(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1", socket.gethostname(), socket.gethostname().partition(".")[0])
