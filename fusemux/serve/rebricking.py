"""Change the bricks of a volume that is served: with its mount, open files and calls under way.

Nothing is lost whenever it breaks off, because of the order: new bricks are attached, and accused by the good copies, before anybody
uses them; the definition is stored after that (a mount with the old one finds accusations of a brick that it does not know, or
heals the old brick from the others); where copies leave, it is stored before the graph changes, so that a brick that gets no more writes
is not taken for a good one.  A step that fails takes back those before it.

Refused are changes that would lose what was acknowledged: a new copy without a good one to heal from, and taking away a brick that
alone has what the others have not got yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack

from fusemux.bricks import ramdisk
from fusemux.bricks.brick import Brick
from fusemux.graph.cluster.replicate import Replicate
from fusemux.graph.cluster.replicate.heal.fresh import accuse_fresh, complete, mark_fresh, unhealed
from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.options import parse_bool
from fusemux.serve.volume import ServedVolume
from fusemux.volume.definition import Volume
from fusemux.volume.rebrick import Rebricking
from fusemux.volume.source import DefinedSource

__all__ = ["rebrick", "renew", "take_down"]

log = logging.getLogger("fusemux.serve")


async def rebrick(served: ServedVolume, source: DefinedSource, store: Callable[[], Callable[[], None]]) -> None:
    """Serve `served` with the bricks of `source`; `store` stores its definition and returns how to take that back.

    Raises FusemuxError, and then nothing was changed.
    """
    change = Rebricking.of(_definition(served), source.volume)
    leaving = [change.old.bricks[i].path for i in (*(old for old, _ in change.replaced), *change.removed)]
    await _check(served, change)
    async with AsyncExitStack() as undo:
        for index in sorted((*(new for _, new in change.replaced), *change.added)):
            await _acquire(served, source, index, undo, fresh=index in change.fresh)
        if change.added or change.removed:
            await served.graph.gate.close(served.graph)
            undo.callback(served.graph.gate.open, served.graph)
        for old, new in change.replaced:
            await _take_off(served, change.old.bricks[old].path, undo)
            await _accuse(served, source, new, _others(change, new), undo)
        for index in change.added:
            if index in change.fresh:
                await _accuse(served, source, index, _others(change, index), undo)
        undo.callback(store())
        await served.change_bricks(source)
        undo.pop_all()
    await _finish(served, source, leaving, opened=bool(change.added or change.removed))


async def _finish(served: ServedVolume, source: DefinedSource, leaving: Iterable[str], *, opened: bool) -> None:
    if opened:
        served.graph.gate.open(served.graph)
    for path in leaving:
        await _drop(served, path)
    served.reconfigure(source)  # the bricks that share a file system have become more, or fewer
    log.info("volume %s has its new bricks", served.name)


async def _drop(served: ServedVolume, path: str) -> None:
    brick = served.brick_at(path)
    if brick is not None:
        await brick.kill()
    await served.let_go(path)
    if ramdisk.exists(path):
        ramdisk.remove(path)


async def take_down(served: ServedVolume, index: int) -> None:
    """Give brick `index` away, so that its directory or disk can be changed; its copies go on.  Raises FusemuxError."""
    volume = _definition(served)
    spec = volume.bricks[index]
    if volume.replica < 2:
        raise FusemuxError(f"volume {volume.name!r} is not replicated: nobody has a copy of what is on {spec}")
    same = Rebricking(volume, volume, ((index, index),), (), ())
    await _check(served, same)
    brick = served.brick_at(spec.path)
    if brick is not None:
        await brick.kill()
    await served.let_go(spec.path)


async def renew(served: ServedVolume, index: int, prepare: Callable[[], None] | None) -> None:
    """Serve brick `index` again after `take_down`.  `prepare` makes a brick of it, when it is empty now.

    That is done last: an empty brick that nobody accuses must not be there, however this breaks off.  Raises FusemuxError.
    """
    source = served.source
    assert isinstance(source, DefinedSource)
    change = Rebricking(source.volume, source.volume, ((index, index),), (), ())
    await _check(served, change)
    async with AsyncExitStack() as undo:
        if prepare is not None:
            await _accuse(served, source, index, _others(change, index), undo)
            prepare()
        await _acquire(served, source, index, undo, fresh=prepare is not None)
        undo.pop_all()
    if prepare is None:
        _replicate_of(served, source.leaf(index)).healer.ask(full=True)


# -- may it be? ------------------------------------------------------------------------------------------------


def _definition(served: ServedVolume) -> Volume:
    if not isinstance(served.source, DefinedSource):
        raise FusemuxError(f"volume {served.name!r} comes from a volfile; change its bricks there")
    return served.source.volume


async def _check(served: ServedVolume, change: Rebricking) -> None:
    old = change.old
    for index in change.fresh:
        if not [i for i in _others(change, index) if _is_up(served, old, i)]:
            raise _no_source(change, index, "is down; bring it back first (fusemux brick start)")
    leaving = {place for place, _ in change.replaced} | set(change.removed)
    for k in range(old.sets):
        members = range(k * old.set_size, (k + 1) * old.set_size)
        if leaving & set(members):
            await _refuse_sole(served, old, list(members), leaving)
    for index in change.fresh if old.replica > 1 else ():
        others = _others(change, index)
        replicate = _replicate_of(served, old.client(others[0]))
        good = await complete(replicate)
        if not [i for i in others if good >> replicate.child_above(old.client(i)) & 1]:
            raise _no_source(change, index, f"is not healed itself; heal first: fusemux volume heal {old.name}")


def _no_source(change: Rebricking, index: int, why: str) -> FusemuxError:
    others = ", ".join(change.old.bricks[i].path for i in _others(change, index))
    return FusemuxError(
        f"volume {change.old.name!r}: {change.new.bricks[index].path} would have no good copy to be healed from: {others} {why}"
    )


def _others(change: Rebricking, index: int) -> list[int]:
    """The places, in the old definition, of the bricks with data in the set of new brick `index` that stay."""
    old, new = change.old, change.new
    k = index // new.set_size
    gone = {place for place, _ in change.replaced} | set(change.removed)
    members = range(k * old.set_size, min((k + 1) * old.set_size, len(old.bricks)))
    return [i for i in members if i not in gone and not old.is_arbiter(i)]


def _is_up(served: ServedVolume, volume: Volume, index: int) -> bool:
    brick = served.brick_at(volume.bricks[index].path)
    return brick is not None and brick.up


async def _refuse_sole(served: ServedVolume, volume: Volume, members: list[int], leaving: set[int]) -> None:
    """Refuse to take away what alone holds changes that others miss."""
    replicate = _replicate_of(served, volume.client(members[0]))
    places = {i: replicate.child_above(volume.client(i)) for i in members}
    going = sum(1 << places[i] for i in members if i in leaving)
    staying = sum(1 << places[i] for i in members if i not in leaving)
    if not staying & replicate.members.up & ~replicate.arbiters:
        raise FusemuxError(
            f"volume {volume.name!r}: no copy with data would be left that is up; bring the others back first (fusemux brick start)"
        )
    try:
        sole = await unhealed(replicate.healer, going, staying)
    except FopError as error:
        raise FusemuxError(f"volume {volume.name!r}: what is pending cannot be told: {error}") from None
    if sole:
        names = ", ".join(volume.bricks[i].path for i in members if i in leaving)
        raise FusemuxError(
            f"volume {volume.name!r}: {names} has changes that the other copies have not got yet ({len(sole)} files or "
            f"directories); heal first: fusemux volume heal {volume.name}"
        )


def _replicate_of(served: ServedVolume, leaf: str) -> Replicate:
    for translator in served.graph.translators.values():
        if isinstance(translator, Replicate) and translator.child_above(leaf) >= 0:
            return translator
    raise FusemuxError(f"volume {served.name!r} has no replica set with {leaf}: it is not replicated")


# -- steps -----------------------------------------------------------------------------------------------------


async def mark(brick: Brick) -> None:
    """The new brick's own mark, before anybody uses it."""
    await mark_fresh(brick.edge)


async def _acquire(
    served: ServedVolume, source: DefinedSource, index: int, undo: AsyncExitStack, *, fresh: bool
) -> None:
    path = source.bricks[index].path
    try:
        await served.acquire(source, index, mark if fresh else None)
    except FopError as error:
        raise FusemuxError(f"brick {path} cannot be marked as new: {error}") from None
    undo.push_async_callback(_drop, served, path)


async def _take_off(served: ServedVolume, path: str, undo: AsyncExitStack) -> None:
    brick = served.brick_at(path)
    if brick is not None and brick.up:
        await brick.kill()
        undo.push_async_callback(brick.start)


async def _accuse(
    served: ServedVolume, source: DefinedSource, index: int, others: list[int], undo: AsyncExitStack
) -> None:
    """Have the good copies say that brick `index` has nothing yet."""
    volume, name = _definition(served), source.leaf(index)
    granular = any(
        section.type == "cluster/replicate" and parse_bool(section.options.get("granular-entry-heal", "off"))
        for section in source.client_graph()
    )
    recorded = 0
    for other in others:
        brick = served.brick_at(volume.bricks[other].path)
        if brick is None or not brick.up:
            continue
        try:
            await accuse_fresh(brick.edge, name, granular=granular)
        except FopError as error:
            log.warning("brick %s does not record that %s is new: %s", brick.path, name, error)
            continue
        recorded += 1
        undo.push_async_callback(_absolve, brick, name, granular)
    if not recorded:
        raise FusemuxError(f"volume {volume.name!r}: no copy has recorded that {source.bricks[index].path} is new")


async def _absolve(brick: Brick, name: str, granular: bool) -> None:
    try:
        await accuse_fresh(brick.edge, name, granular=granular, by=-1)
    except FopError as error:
        log.warning("brick %s keeps its accusation of %s: %s", brick.path, name, error)
