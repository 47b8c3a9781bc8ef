"""Changing the bricks of stored volumes: over the control socket of the server that serves one, or, when none does, by serving it for a moment.

Both ways do the same (`BrickChanges`), so that a volume that is not mounted gets the same marks on its bricks.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trio

from fusemux.bricks import ramdisk
from fusemux.bricks.prepare import is_empty, prepare_fresh
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.process import Process
from fusemux.mount.plan import ramdisks_dir
from fusemux.serve.rebricking import rebrick, renew, take_down
from fusemux.serve.volume import ServedVolume
from fusemux.volume.bricks import prepared_bricks
from fusemux.volume.definition import BrickSpec, Volume
from fusemux.volume.rebrick import AddWords, Rebricking, RemoveWords, added, brick_index, removed, replaced
from fusemux.volume.source import DefinedSource
from fusemux.volume.store import VolumeStore

if TYPE_CHECKING:
    from fusemux.serve.server import Server

__all__ = ["BrickChanges", "without_server"]

Place = Sequence[Any]  # [path, bytes of a ramdisk or None]; where a ramdisk without a path goes is chosen here


class BrickChanges:
    """The operations; each takes plain values and returns the volume's bricks."""

    def __init__(
        self, find: Callable[[str], ServedVolume], *, mounted: bool = True, store: VolumeStore | None = None
    ) -> None:
        """`find` gives a volume that is served here; `mounted`: the kernel uses it meanwhile."""
        self.find = find
        self.mounted = mounted
        self.store = store or VolumeStore()
        self._busy: set[str] = set()

    @classmethod
    def of(cls, server: Server) -> BrickChanges:
        def find(name: str) -> ServedVolume:
            found = next((s.volume for s in server.served if s.volume.name == name and s.volume.serving), None)
            if found is None:
                raise FusemuxError(f"volume {name!r} is not served here")
            return found

        return cls(find)

    def handlers(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        return {
            "brick-replace": self.replace, "bricks-add": self.add, "bricks-remove": self.remove,
            "brick-reset-start": self.reset_start, "brick-reset-commit": self.reset_commit,
        }  # fmt: skip

    async def replace(self, volume: str, old: str, new: Place) -> list[str]:
        """`new` in the place of brick `old`."""

        def edit(before: Volume) -> Volume:
            return replaced(before, brick_index(before, old), self._spec(before, new, 0))

        return await self._change(volume, edit)

    async def add(
        self, volume: str, bricks: Sequence[Place], replica: int | None = None, arbiter: int = 0, force: bool = False
    ) -> list[str]:
        """More copies, or more sets."""

        def edit(before: Volume) -> Volume:
            words = AddWords(replica, arbiter, tuple(str(i) for i in range(len(bricks))), force)
            return added(before, words, lambda word, _: self._spec(before, bricks[int(word)], int(word)))

        return await self._change(volume, edit, force=force)

    async def remove(self, volume: str, replica: int, bricks: Sequence[str]) -> list[str]:
        """Fewer copies."""
        return await self._change(volume, lambda before: removed(before, RemoveWords(replica, tuple(bricks))))

    async def reset_start(self, volume: str, brick: str) -> list[str]:
        """Let go of a brick, so that its directory can be emptied or its disk changed."""
        served = self.find(volume)
        await self._alone(volume, take_down, served, brick_index(self._definition(served), brick))
        return _paths(self._definition(served))

    async def reset_commit(self, volume: str, brick: str, force: bool = False) -> list[str]:
        """Take it again: an empty one is healed from its copies; one that still has its files needs `force`."""
        served = self.find(volume)
        definition = self._definition(served)
        index = brick_index(definition, brick)
        await self._alone(volume, self._reset, served, definition, index, force)
        return _paths(definition)

    async def _reset(self, served: ServedVolume, volume: Volume, index: int, force: bool) -> None:
        spec = volume.bricks[index]
        attached = served.brick_at(spec.path)
        if attached is not None and attached.up and self.mounted:
            raise FusemuxError(
                f"brick {spec.path} is up; take it down first: fusemux volume reset-brick {volume.name} {spec.path} start"
            )
        on_ramdisk = spec.ramdisk_bytes is not None
        empty = not ramdisk.exists(spec.path) if on_ramdisk else is_empty(spec.path)
        if not empty and not force:
            raise FusemuxError(
                f"brick {spec.path} still has its files; empty the directory to have everything healed onto it, or say "
                "'commit force' to go on with what is there"
            )
        if attached is not None:
            await take_down(served, index)

        def prepare() -> None:
            if not on_ramdisk:  # which is made and prepared when it is taken
                prepare_fresh(spec.path, str(volume.id), again=True)

        await renew(served, index, prepare if empty else None)

    # -- how -------------------------------------------------------------------------------------------------

    async def _change(self, name: str, edit: Callable[[Volume], Volume], *, force: bool = False) -> list[str]:
        return await self._alone(name, self._perform, name, edit, force)

    async def _perform(self, name: str, edit: Callable[[Volume], Volume], force: bool) -> list[str]:
        served = self.find(name)
        before = self._definition(served)
        after = edit(self.store.load(name))
        if self.mounted and after.replica > before.replica == 1:
            raise FusemuxError(
                f"volume {name!r} has no copies yet, and the kernel may be writing straight into its bricks; "
                "unmount it to make copies"
            )
        change = Rebricking.of(before, after)
        fresh = [after.bricks[i] for i in change.fresh]
        others = [after.bricks[i] for i in change.added if i not in change.fresh]
        with prepared_bricks(after, fresh, fresh=True), prepared_bricks(after, others, force=force):
            assert isinstance(served.source, DefinedSource)
            await rebrick(served, replace(served.source, volume=after), lambda: self._store(before, after))
        return _paths(after)

    def _store(self, before: Volume, after: Volume) -> Callable[[], None]:
        def put(wanted: Volume) -> None:
            shape = {key: getattr(wanted, key) for key in ("bricks", "numbers", "replica", "arbiter")}
            self.store.change(wanted.name, lambda stored: replace(stored, **shape))

        put(after)
        return lambda: put(before)

    async def _alone(self, name: str, work: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """One change at a time, and to its end."""
        if name in self._busy:
            raise FusemuxError(f"the bricks of volume {name!r} are being changed; try again when that is done")
        self._busy.add(name)
        try:
            with trio.CancelScope(shield=True):
                return await work(*args)
        finally:
            self._busy.discard(name)

    def _definition(self, served: ServedVolume) -> Volume:
        if served.source.throwaway:
            raise FusemuxError(
                f"volume {served.name!r} is a throw-away volume, whose bricks stay as they are; "
                "`fusemux volume create` makes one that is kept"
            )
        if not isinstance(served.source, DefinedSource):
            raise FusemuxError(
                f"volume {served.name!r} comes from a volfile; change its bricks there and mount it anew"
            )
        return served.source.volume

    @staticmethod
    def _spec(volume: Volume, place: Place, offset: int) -> BrickSpec:
        path, size = place
        if path:
            return BrickSpec(str(path), size)
        taken = {brick.path for brick in volume.bricks}
        folder = ramdisks_dir() / volume.name
        free = (f"{folder}/b{i}" for i in range(2 * len(taken) + offset + 1) if f"{folder}/b{i}" not in taken)
        return BrickSpec(next(path for i, path in enumerate(free) if i == offset), int(size))


def _paths(volume: Volume) -> list[str]:
    return [brick.path for brick in volume.bricks]


def without_server(name: str, op: str, **arguments: Any) -> list[str]:
    """Change the bricks of a stored volume that nobody serves.  Raises FusemuxError."""
    store = VolumeStore()
    source = DefinedSource(store.load(name))

    async def main() -> list[str]:
        async with Process() as process:
            served = ServedVolume(process, source, degraded=True)
            await served.start()
            try:
                changes = BrickChanges(lambda _: served, mounted=False, store=store)
                done: list[str] = await changes.handlers()[op](volume=name, **arguments)
                return done
            finally:
                with trio.CancelScope(shield=True):
                    await served.stop()

    with _quiet(["fusemux"]):
        return trio.run(main)


class _quiet:
    """No log on the terminal: what matters is raised."""

    def __init__(self, names: Iterable[str]) -> None:
        self.loggers = [logging.getLogger(name) for name in names]
        self.handler = logging.NullHandler()

    def __enter__(self) -> None:
        for logger in self.loggers:
            logger.addHandler(self.handler)

    def __exit__(self, *exc: object) -> None:
        for logger in self.loggers:
            logger.removeHandler(self.handler)
