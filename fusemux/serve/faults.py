"""Faults on command, and bricks that are killed, started, frozen, filled or corrupted, over the control socket."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from fusemux.bricks.brick import Brick
from fusemux.graph.debug.crash import arm, disarm
from fusemux.graph.debug.fault import NEEDS_SPACE, Fault, lift, place
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.options import nearest
from fusemux.graph.framework.translator import Translator

if TYPE_CHECKING:
    from fusemux.serve.server import Server
    from fusemux.serve.volume import ServedVolume

__all__ = ["Faults", "edges_at", "fault_of"]

log = logging.getLogger("fusemux.serve")

_FAULTS_MAX = 1000


@dataclass
class _Placed:
    number: int
    volume: str
    where: str
    fault: Fault
    places: list[Edge | Translator]  # a translator for a fault at a crash point

    def value(self) -> dict[str, Any]:
        fault = self.fault
        return {
            "id": self.number, "volume": self.volume, "at": self.where, "action": fault.action, "fault": str(fault),
            "fops": sorted(fault.fops), "path": fault.path, "nth": fault.nth, "times": fault.times, "rate": fault.rate,
            "matched": fault.matched, "fired": fault.fired, "crash_point": fault.crash_point,
        }  # fmt: skip


class Faults:
    """The operations; each takes and returns plain values."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.placed: dict[int, _Placed] = {}
        self._last = 0

    def handlers(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        return {
            "fault-add": self.add, "fault-list": self.listed, "fault-clear": self.clear, "fault-wait": self.wait,
            "brick-kill": self.kill, "brick-start": self.start, "brick-freeze": self.freeze, "brick-fill": self.fill,
            "brick-corrupt": self.corrupt, "brick-power-cut": self.power_cut,
            "brick-status": self.status,
        }  # fmt: skip

    # -- faults ----------------------------------------------------------------------------------------------

    async def add(self, volume: str, at: str = "mount", revoke: bool = False, **words: Any) -> dict[str, Any]:
        """Place a fault at `mount`, at a brick (its number or path), or between two translators, `ABOVE:BELOW`.

        A crash point is one of all replica sets (`mount`), or of the one that `at` names.  In the answer, `passed`: so many
        files are open that the kernel reads and writes past the fault, which meets them when they are opened again;
        `revoked`: with `revoke`, so many were made to fail until then.
        """
        return await self._set(volume, at, fault_of(words), revoke)

    async def _set(self, volume: str, at: str, fault: Fault, revoke: bool) -> dict[str, Any]:
        placed = self._place(volume, at, fault)
        try:
            revoked = await self._revoke(volume, at) if revoke else 0
        except FusemuxError as error:
            raise FusemuxError(f"fault {placed.number} is set, but {error}") from None
        return {**placed.value(), "passed": sum(map(len, self._past(volume, at).values())), "revoked": revoked}

    def _past(self, volume: str, at: str) -> dict[str, set[int]]:
        """Open files that nothing placed in the graph can meet, by the place of their mount; `at` a brick: those open there."""
        served = self._served(volume)
        past = {path: self.server.binding.bypassing(path) for path in self._paths(volume)}
        if at == "mount" or at.partition(":")[0] in served.graph.translators:
            return past
        slot = served.graph.translators[served.source.leaf(_brick_number(served, at))].fd_slot
        files = [file for bridge in served.bridges for file in bridge.files.values()]
        there = {file.nodeid for file in files if file.fd.ctx[slot] is not None}
        return {path: nodes & there for path, nodes in past.items()}

    async def _revoke(self, volume: str, at: str) -> int:
        """Make what is open of these files fail; of how many."""
        past = self._past(volume, at)
        return sum([await self.server.binding.revoke(path, nodes) for path, nodes in past.items() if nodes])

    def _paths(self, volume: str) -> list[str]:
        return [served.plan.path for served in self.server.served if served.volume.name == volume]

    def _place(self, volume: str, at: str, fault: Fault) -> _Placed:
        if len(self.placed) >= _FAULTS_MAX:
            raise FusemuxError(f"{_FAULTS_MAX} faults are set already; clear some")
        served = self._served(volume)
        places: list[Edge | Translator] = [*(crashing_in(served, at) if fault.crash_point else edges_at(served, at))]
        for where in places:
            arm(where, fault) if isinstance(where, Translator) else place(where, fault)
        self._last += 1
        self.placed[self._last] = _Placed(self._last, volume, at, fault, places)
        return self.placed[self._last]

    async def listed(self, volume: str) -> list[dict[str, Any]]:
        return [placed.value() for placed in self.placed.values() if placed.volume == volume]

    async def clear(self, volume: str, number: int | None = None) -> int:
        """Lift one fault, or all of the volume; how many."""
        gone = [p for p in self.placed.values() if p.volume == volume and number in (None, p.number)]
        if number is not None and not gone:
            raise FusemuxError(f"volume {volume!r} has no fault {number}; `fusemux fault list` shows them")
        for placed in gone:
            for where in placed.places:
                with contextlib.suppress(ValueError):
                    disarm(where, placed.fault) if isinstance(where, Translator) else lift(where, placed.fault)
            del self.placed[placed.number]
        return len(gone)

    async def wait(self, volume: str, number: int, count: int = 1, within_s: float = math.inf) -> int:
        """Wait until a fault has fired `count` times in all, or the time is over; how often it has."""
        placed = self.placed.get(number)
        if placed is None or placed.volume != volume:
            raise FusemuxError(f"volume {volume!r} has no fault {number}")
        with trio.move_on_after(within_s):
            await placed.fault.wait_fired(count)
        return placed.fault.fired

    # -- bricks ----------------------------------------------------------------------------------------------

    async def status(self, volume: str, brick: str) -> bool:
        """Whether the brick is up."""
        return self._brick(volume, brick).up

    async def kill(self, volume: str, brick: str) -> str:
        """What SIGKILL does to a brick process: open files are lost, fops answer ENOTCONN.

        What the kernel reads and writes on it by itself fails with EIO until it is opened again.
        """
        found = self._brick(volume, brick)
        await found.kill()
        try:
            await self._revoke(volume, brick)
        except FusemuxError as error:
            log.warning("killing %s: %s", found.path, error)
        if left := sum(map(len, self._past(volume, brick).values())):
            log.warning(
                "brick %s is down, but the kernel goes on with %d file(s) that are open there", found.path, left
            )
        return found.path

    async def power_cut(self, volume: str, brick: str | None = None) -> list[str]:
        """One brick, or all at the same moment, go down and lose what was not synced; their paths."""
        bricks = self._served(volume).bricks if brick is None else [self._brick(volume, brick)]
        cut = [found for found in bricks if found.up]
        for found in cut:
            found.lose_power()
        for found in cut:
            await found.kill()
        return [found.path for found in cut]

    async def start(self, volume: str, brick: str) -> str:
        """Bring a killed brick back, thaw a frozen one, empty a filled one."""
        found = self._brick(volume, brick)
        for placed in [p for p in self.placed.values() if p.volume == volume and p.fault.label.endswith(found.path)]:
            await self.clear(volume, placed.number)
        if not found.up:
            await found.start()
        return found.path

    async def freeze(self, volume: str, brick: str, revoke: bool = False) -> dict[str, Any]:
        """Every fop on the brick waits until it is started again; the answer is as of `add`."""
        path = self._brick(volume, brick).path
        return await self._set(volume, brick, Fault("freeze", label=f"freeze of {path}"), revoke)

    async def fill(self, volume: str, brick: str, revoke: bool = False) -> dict[str, Any]:
        """Whatever needs space on the brick is refused with ENOSPC until it is started again; the answer is as of `add`."""
        path = self._brick(volume, brick).path
        full = Fault("error", NEEDS_SPACE, errno=errno.ENOSPC, label=f"full {path}")
        return await self._set(volume, brick, full, revoke)

    async def corrupt(self, volume: str, brick: str, path: str) -> int:
        """Flip one bit in the middle of a file, on the brick, behind everybody's back; the offset."""
        found = self._brick(volume, brick)
        where = os.path.join(found.path, path.lstrip("/"))
        if ".glusterfs" in path.split("/") or not os.path.realpath(where).startswith(
            os.path.realpath(found.path) + "/"
        ):
            raise FusemuxError(f"{path} is no file of the volume")
        try:
            with open(where, "r+b") as file:
                offset = os.fstat(file.fileno()).st_size // 2
                byte = os.pread(file.fileno(), 1, offset)
                if not byte:
                    raise FusemuxError(f"{path} is empty on {found.path}, there is nothing to corrupt")
                os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), offset)
        except OSError as error:
            raise FusemuxError(f"{path} on {found.path}: {error.strerror}") from None
        return offset

    # -- finding ---------------------------------------------------------------------------------------------

    def _served(self, name: str) -> ServedVolume:
        found = next((s.volume for s in self.server.served if s.volume.name == name and s.volume.serving), None)
        if found is None:
            raise FusemuxError(f"volume {name!r} is not served here")
        return found

    def _brick(self, volume: str, brick: str) -> Brick:
        served = self._served(volume)
        path = served.source.bricks[_brick_number(served, brick)].path
        found = served.brick_at(path)
        if found is None:
            raise FusemuxError(
                f"brick {path} of volume {volume!r} is not attached: it was missing when the volume was mounted, or it is being "
                f"reset (fusemux volume reset-brick {volume} {path} commit)"
            )
        return found


def fault_of(words: dict[str, Any]) -> Fault:
    """A `Fault` from plain values, as they come from the command line.  Raises FusemuxError."""
    given = {key: value for key, value in words.items() if value is not None}
    name = given.get("errno")
    if isinstance(name, str):
        number = getattr(errno, name.upper(), None)
        if not isinstance(number, int):
            raise FusemuxError(f"errno {name!r}: expected the name of an error, such as EIO or ENOSPC")
        given["errno"] = number
    if given.get("action") == "full":
        given = {"fops": NEEDS_SPACE, **given, "action": "error", "errno": errno.ENOSPC, "label": "full"}
    try:
        return Fault(**{**given, "fops": frozenset(given.get("fops", ()))})
    except ValueError as error:
        raise FusemuxError(f"fault: {error}") from None


def crashing_in(served: ServedVolume, at: str) -> list[Translator]:
    """The translators that have crash points.  Raises FusemuxError."""
    found = [t for t in served.graph.translators.values() if getattr(t, "crash_points", ()) and at in ("mount", t.name)]
    if not found:
        raise FusemuxError(
            f"volume {served.name!r} has no crash points at {at!r}: they are in replica sets; give mount, or the set's name"
        )
    return found


def edges_at(served: ServedVolume, at: str) -> list[Edge]:
    """The edges a place means: `mount`, a brick, or ABOVE:BELOW.  Raises FusemuxError."""
    graph = served.graph
    if at == "mount":
        return [graph.top]
    above, found, below = at.partition(":")
    if found and above in graph.translators:
        edges = [edge for edge in graph.translators[above].children if edge.name == below]
        if not edges:
            known = [edge.name for edge in graph.translators[above].children]
            raise FusemuxError(f"{below!r} is not right below {above!r}; below it are {', '.join(known) or 'none'}")
        return edges
    leaf = served.source.leaf(_brick_number(served, at))
    return [edge for t in graph.translators.values() for edge in t.children if edge.name == leaf]


def _brick_number(served: ServedVolume, brick: str) -> int:
    path = brick.partition(":")[2] if ":/" in brick else brick
    for index, spec in enumerate(served.source.bricks):
        if path in (spec.path, str(index)):
            return index
    raise FusemuxError(
        f"volume {served.name!r} has no brick {brick!r}: give its number (0 to {len(served.source.bricks) - 1}) or its path"
        f"{nearest(brick, served.graph.translators)}"
    )
