"""Healing by command: what the control socket answers to `fusemux volume heal`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fusemux.graph.cluster.replicate import Replicate
from fusemux.graph.cluster.replicate.heal.healer import Healer
from fusemux.graph.cluster.replicate.heal.names import look
from fusemux.graph.cluster.replicate.heal.report import explain, info
from fusemux.graph.cluster.replicate.heal.resolve import choice, resolve, resolve_name
from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Frame

if TYPE_CHECKING:
    from fusemux.serve.server import Server
    from fusemux.serve.volume import ServedVolume

__all__ = ["Healing"]

_GFID = "gfid:"


class Healing:
    """The operations; each takes and returns plain values."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def handlers(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        return {
            "heal": self.heal,
            "heal-info": self.info,
            "heal-explain": self.explain,
            "heal-split-brain": self.split_brain,
        }

    async def heal(self, volume: str, full: bool = False) -> list[dict[str, Any]]:
        """Heal what is listed, or with `full` everything; how it went, for each replica set."""
        rows = []
        for healer in self._healers(self._served(volume)):
            row: dict[str, Any] = {"set": healer.core.name}
            try:
                progress = await healer.sweep(full=full)
                row |= {"healed": progress.healed, "failed": progress.failed, "split_brain": progress.split_brain}
            except FopError as error:
                row["error"] = str(error)
            rows.append(row)
        return rows

    async def info(self, volume: str) -> list[dict[str, Any]]:
        """For each brick, in volume order, what it lists as pending; None while it is down."""
        served = self._served(volume)
        bricks = {served.source.leaf(i): spec.path for i, spec in enumerate(served.source.bricks)}
        rows = []
        for healer in self._healers(served):
            try:
                rows += await info(healer)
            except FopError as error:
                raise FusemuxError(f"volume {volume!r}: {error}") from None
        return [{"brick": bricks.get(row["child"], row["child"]), **row} for row in rows]

    async def explain(self, volume: str, path: str) -> list[dict[str, Any]]:
        """Why the inode at `path` (or `gfid:...`) is healed as it is, by each set that holds it."""
        served = self._served(volume)
        gfid = await self._gfid_of(served, path)
        return [await explain(healer, gfid) for healer in self._healers(served) if await _holds(healer, gfid)]

    async def split_brain(self, volume: str, how: str, brick: str | None = None, path: str | None = None) -> list[str]:
        """Settle the split-brain at `path`, or with source-brick all there are; what was settled."""
        served = self._served(volume)
        if path is None:
            return await self._settle_all(served, how, brick)
        parent, name = await self._parent_of(served, path)
        child = self._child(served, brick)
        for healer in self._healers(served):
            if name and await _disputed(healer, parent, name):
                await resolve_name(healer, parent, name, choice(healer, how, child), path)
                return [path]
        gfid = await self._gfid_of(served, path)
        for healer in self._healers(served):
            if await _holds(healer, gfid):
                await resolve(healer, gfid, choice(healer, how, child), path)
        return [path]

    async def _settle_all(self, served: ServedVolume, how: str, brick: str | None) -> list[str]:
        settled = []
        child = self._child(served, brick)
        for healer in self._healers(served):
            if child not in [edge.name for edge in healer.core.children]:
                continue
            entries = {e["gfid"]: e for row in await info(healer) for e in row["entries"] or () if e["split_brain"]}
            for gfid, entry in sorted(entries.items()):
                what = entry["path"] or f"{_GFID}{gfid}"
                await resolve(healer, UUID(gfid).bytes, choice(healer, how, child), what)
                settled.append(what)
        return settled

    # -- finding ---------------------------------------------------------------------------------------------

    def _served(self, name: str) -> ServedVolume:
        found = next((s.volume for s in self.server.served if s.volume.name == name and s.volume.serving), None)
        if found is None:
            raise FusemuxError(f"volume {name!r} is not served here")
        if not list(self._healers(found)):
            raise FusemuxError(f"volume {name!r} has no copies to heal: it is not replicated")
        return found

    @staticmethod
    def _healers(served: ServedVolume) -> Iterator[Healer]:
        return (t.healer for t in served.graph.translators.values() if isinstance(t, Replicate))

    @staticmethod
    def _child(served: ServedVolume, brick: str | None) -> str | None:
        """The child that stands for a brick, given by its path, by HOST:PATH or by its number."""
        if brick is None:
            return None
        path = brick.partition(":")[2] if ":/" in brick else brick
        for index, spec in enumerate(served.source.bricks):
            if path in (spec.path, str(index)):
                return served.source.leaf(index)
        raise FusemuxError(f"volume {served.name!r} has no brick {brick}; `fusemux volume info` lists them")

    async def _gfid_of(self, served: ServedVolume, path: str) -> bytes:
        if path.startswith(_GFID):
            try:
                return UUID(path.removeprefix(_GFID)).bytes
            except ValueError:
                raise FusemuxError(f"{path}: a gfid has the form gfid:8-4-4-4-12 hex digits") from None
        parent, name = await self._parent_of(served, path)
        return parent.gfid if not name else (await _lookup(served, parent, name, path)).gfid

    async def _parent_of(self, served: ServedVolume, path: str) -> tuple[Inode, bytes]:
        if path.startswith(_GFID):
            return served.graph.itable.root, b""
        *above, name = path.encode(errors="surrogateescape").strip(b"/").split(b"/")
        inode = served.graph.itable.root
        for component in above:
            inode = await _lookup(served, inode, component, path)
        return inode, name


async def _lookup(served: ServedVolume, parent: Inode, name: bytes, path: str) -> Inode:
    try:
        iatt = await served.graph.top.lookup(Frame(), parent, name, None)
    except FopError as error:
        raise FusemuxError(f"{path}: {error}") from None
    return served.graph.itable.learn(iatt.gfid, iatt.type)


async def _holds(healer: Healer, gfid: bytes) -> bool:
    core = healer.core
    inode = Inode(gfid, 0, core.graph.itable.inode_slots)
    replies = await core.wind(core.members.up, "lookup", core.internal, inode, b"", None)
    return any(reply is not None and not isinstance(reply, FopError) for reply in replies)


async def _disputed(healer: Healer, parent: Inode, name: bytes) -> bool:
    """Whether the copies have different files under the name."""
    try:
        answers = await look(healer.core, parent, name)
    except FopError:
        return False
    return len({answer.gfid for answer in answers if answer is not None}) > 1
