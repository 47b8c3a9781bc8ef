"""What a volume is: its name, its bricks, how they are grouped, its options; and GlusterFS's rules for them.

Bricks are grouped in the order given: with sets of s bricks, bricks 0..s-1 are set 0, and so on.  A set is one brick
(distribute), `replica` copies (the last one an arbiter, if asked for) or `disperse` fragments of which `redundancy`
may be lost.  More than one set is distributed over.

Sources: gluster(8), GlusterFS's `volume create` and the counts and words of its `volume info`.  Pure: no I/O.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from uuid import UUID, uuid4

from fusemux.graph.framework.errors import FusemuxError

__all__ = ["BrickSpec", "Status", "Volume", "VolumeError", "VolumeType", "check_name", "validate"]

NAME_MAX = 255
_NOT_NAMES = frozenset({"all", "volume", "type", "subvolumes", "option", "end-volume", "volume_not_in_ring"})
# What the short forms of a mount's SPEC look like; a stored volume must not be mistaken for one.
SHORT_FORM = re.compile(r"\d+(x\d+)?")


class VolumeError(FusemuxError):
    """A volume cannot be as it was described."""


class VolumeType(IntEnum):
    """The numbers of GlusterFS's `info` files."""

    DISTRIBUTE = 0
    REPLICATE = 2
    DISPERSE = 4


class Status(IntEnum):
    """The numbers of GlusterFS's `info` files."""

    CREATED = 0
    STARTED = 1
    STOPPED = 2


@dataclass(frozen=True, slots=True)
class BrickSpec:
    """Where a brick lies; `ramdisk_bytes` is its size when it is a ramdisk, 0 for the default size."""

    path: str
    ramdisk_bytes: int | None = None
    host: str = "localhost"

    def __str__(self) -> str:
        return f"{self.host}:{self.path}"


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume's definition.  `validate` says whether it can be."""

    name: str
    bricks: tuple[BrickSpec, ...]
    replica: int = 1  # bricks a set, the arbiter included
    arbiter: int = 0
    disperse: int = 0  # bricks a set, 0: not dispersed
    redundancy: int = 0
    options: Mapping[str, str] = field(default_factory=dict)  # by the names `volume set` knows
    id: UUID = field(default_factory=uuid4)
    username: str = field(default_factory=lambda: str(uuid4()))
    password: str = field(default_factory=lambda: str(uuid4()))
    status: Status = Status.CREATED
    version: int = 1  # counts changes
    numbers: tuple[
        int, ...
    ] = ()  # N of each brick's VOL-client-N; empty: its place.  A brick that replaces one keeps its N
    throwaway: bool = False  # made for one mount, its ramdisks go with it
    extra: Mapping[str, str] = field(default_factory=dict)  # other keys of a GlusterFS `info` file, kept as they are

    @property
    def type(self) -> VolumeType:
        if self.disperse:
            return VolumeType.DISPERSE
        return VolumeType.REPLICATE if self.replica > 1 else VolumeType.DISTRIBUTE

    @property
    def set_size(self) -> int:
        return self.disperse or self.replica

    def number(self, index: int) -> int:
        """The number under which replicas know brick `index`; it stays when bricks come and go before it."""
        return self.numbers[index] if self.numbers else index

    def client(self, index: int) -> str:
        """What stands for brick `index` in the client's graph and in changelogs."""
        return f"{self.name}-client-{self.number(index)}"

    @property
    def sets(self) -> int:
        return len(self.bricks) // self.set_size

    @property
    def type_text(self) -> str:
        """As `volume info` says it: Distribute, Replicate, Distributed-Disperse ..."""
        word = self.type.name.capitalize()
        return f"Distributed-{word}" if self.sets > 1 and self.set_size > 1 else word

    @property
    def count_text(self) -> str:
        """As `volume info` counts: `4`, `2 x 2 = 4`, `2 x (4 + 2) = 12`."""
        if self.set_size == 1:
            return str(len(self.bricks))
        spare = self.arbiter or self.redundancy
        one = f"({self.set_size - spare} + {spare})" if spare else str(self.set_size)
        return f"{self.sets} x {one} = {len(self.bricks)}"

    def is_arbiter(self, index: int) -> bool:
        """Whether brick `index` keeps names and metadata only."""
        return self.arbiter > 0 and index % self.set_size == self.set_size - 1


def check_name(name: str) -> None:
    """Raises VolumeError unless `name` may name a stored volume."""
    if not name:
        raise VolumeError("a volume needs a name")
    if name in _NOT_NAMES:
        raise VolumeError(f"{name!r} cannot be the name of a volume; choose another name")
    if len(name) > NAME_MAX:
        raise VolumeError(f"the volume name {name[:20]}... has {len(name)} characters; at most {NAME_MAX} are possible")
    if name.startswith("-"):
        raise VolumeError(f"the volume name {name!r} must not begin with '-'")
    wrong = next((c for c in name if not (c.isascii() and c.isalnum()) and c not in "_-"), None)
    if wrong is not None:
        raise VolumeError(f"volume name {name!r} should not contain {wrong!r}; use letters, digits, '-' and '_'")


def validate(volume: Volume) -> None:
    """Raises VolumeError, which names the volume, what is wrong and what would be right."""
    check_name(volume.name)
    problem = _grouping_problem(volume) or _bricks_problem(volume)
    if problem:
        raise VolumeError(f"volume {volume.name!r}: {problem}")


def _grouping_problem(volume: Volume) -> str | None:
    if not volume.bricks:
        return "no bricks given; name at least one, such as /srv/brick0 or ramdisk:256M"
    if volume.disperse and volume.replica > 1:
        return "replica and disperse cannot be used together"
    if volume.arbiter and (volume.arbiter, volume.replica) != (1, 3):
        return (
            "for an arbiter configuration there must be 2 data copies and 1 arbiter; "
            "write 'replica 2 arbiter 1' (or 'replica 3 arbiter 1', which means the same)"
        )
    if volume.replica < 1:
        return f"replica count should be 2 or more, got {volume.replica}"
    if volume.disperse or volume.redundancy:
        problem = _disperse_problem(volume.disperse, volume.redundancy)
        if problem:
            return problem
    word = "disperse" if volume.disperse else "replica"
    if len(volume.bricks) % volume.set_size:
        size = volume.set_size
        return f"{word} {size} needs {size}, {2 * size}, {3 * size} ... bricks, got {len(volume.bricks)}"
    return None


def _disperse_problem(count: int, redundancy: int) -> str | None:
    if count < 3:
        return f"disperse count must be 3 or more, got {count}"
    if redundancy < 1:
        return f"redundancy must be 1 or more, got {redundancy}"
    if 2 * redundancy >= count:
        most = (count - 1) // 2
        return f"redundancy must be less than half of the disperse count: disperse {count} takes at most {most}, got {redundancy}"
    return None


def _bricks_problem(volume: Volume) -> str | None:
    seen: dict[str, str] = {}
    for brick in volume.bricks:
        if not brick.path.startswith("/"):
            return f"the brick path {brick.path!r} must be absolute"
        if any(ord(c) < 32 for c in brick.path):
            return f"the brick path {brick.path!r} holds a control character"
        known_as = stored_name(brick)
        if len(known_as.encode()) > NAME_MAX:
            return (
                f"the brick path {brick.path} is too long; at most {NAME_MAX - len(brick.host) - 1} bytes are possible"
            )
        if seen.get(known_as) == brick.path:
            return f"found duplicate brick {brick}; each brick can be used once"
        if known_as in seen:
            return f"bricks {seen[known_as]} and {brick.path} would be stored under one name; rename one of them"
        seen[known_as] = brick.path
    if volume.numbers and (len(set(volume.numbers)) != len(volume.bricks) or len(volume.numbers) != len(volume.bricks)):
        return f"the bricks' numbers {list(volume.numbers)} are not one for each brick; the definition is damaged"
    paths = sorted(seen.values(), key=lambda p: p.rstrip("/") + "/")
    for outer, inner in itertools.pairwise(paths):
        if (inner.rstrip("/") + "/").startswith(outer.rstrip("/") + "/"):
            return f"brick {inner} lies inside brick {outer}; bricks must not share folders"
    return None


def stored_name(brick: BrickSpec) -> str:
    """How GlusterFS's store names a brick: `localhost:-srv-bricks-b0`."""
    return f"{brick.host}:{brick.path.replace('/', '-')}"
