"""Healing one name of a directory: present on all copies with one gfid, or on none.

`NameHeal.decide` says from the answers of all copies what to do; performing it is short, because what is made
here is made empty: the good copies record first (`new_entry`) that contents and attributes are still to come.

What goes is not always gone: what good copies have elsewhere (a rename half healed) is parked (parking.py) until its new place is
healed, which finds it by its gfid.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from fusemux.graph.cluster.replicate.changelog import ADD_ARRAY, DATA, METADATA, new_entry
from fusemux.graph.cluster.replicate.core import GFID_REQ, Core
from fusemux.graph.cluster.replicate.heal.direction import Favourite
from fusemux.graph.cluster.replicate.heal.inspection import arbiter_of, doubt, stamped, times_of
from fusemux.graph.cluster.replicate.heal.parking import GFID_LESS, park, remove_tree, remove_unmade, unpark
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.translator import Event, StaleName
from fusemux.graph.framework.types import Frame, Iatt, SetAttr

__all__ = ["Decision", "NameHealed", "decide", "heal_name", "look"]

_PATH = b"glusterfs.ancestry.path"
_GONE = (errno.ENOENT, errno.ESTALE)


class Decision(NamedTuple):
    """Make the name like on `model` on the copies in `create`, after removing it from those in `remove`."""

    model: int
    create: tuple[int, ...]
    remove: tuple[int, ...]
    conflict: bool = False  # copies have different files under the name, and nobody can say which is right


class NameHealed(NamedTuple):
    """What healing one name came to."""

    changed: bool = False
    conflict: bool = False
    postponed: bool = False  # it cannot go yet: its file is not at its new place yet


def decide(
    answers: Sequence[Iatt | None], sources: frozenset[int], pick: Favourite, *, settle: Favourite | None = None
) -> Decision:
    """From what each copy has under the name (None: nothing); without `sources` nothing is removed.

    What any source has, exists.  A conflict of gfids or types is left alone unless `pick` chooses; of directories it is
    never asked.  `settle` is asked instead, of all, about what sources have.
    """
    has = {i: answer for i, answer in enumerate(answers) if answer is not None}
    believed = {i: has[i] for i in sorted(sources) if i in has}
    if sources and not believed:
        return Decision(-1, (), tuple(has))
    models = believed or has
    if not models:
        return Decision(-1, (), ())
    first = min(models)
    if not all(_same(answer, models[first]) for answer in models.values()):
        if believed and settle is not None:
            chosen = settle(believed)
        else:
            alike = len({answer.type for answer in models.values()}) == 1 and not models[first].is_dir
            chosen = pick(models) if alike else None
        if chosen is None:
            return Decision(-1, (), (), conflict=True)
        first = chosen
    wrong = tuple(i for i, answer in has.items() if not _same(answer, has[first]))
    return Decision(first, tuple(i for i in range(len(answers)) if i not in has or i in wrong), wrong)


def _same(one: Iatt, other: Iatt) -> bool:
    return one.gfid == other.gfid and one.type == other.type


def _unfinished(core: Core, has: Mapping[int, Iatt]) -> int:
    """Copies that nobody accuses differ because a process died in the middle of a rename: either is right.

    Of the file that goes no better copy may be lost: one that accuses others stays.
    """

    def accuses(child: int) -> bool:
        return any(any(counters) for counters in core.keys.row(has[child].xdata))

    return max(sorted(has), key=accuses)


async def look(core: Core, parent: Inode, name: bytes) -> list[Iatt | None]:
    """What each copy has under `name`; the gfid is zero where there is none.  Raises FopError when one cannot say."""
    request = {**core.keys.ask, GFID_LESS: b""}
    replies = await core.wind(core.members.up, "lookup", core.internal, parent, name, request)
    answers: list[Iatt | None] = []
    for index, reply in enumerate(replies):
        if isinstance(reply, FopError) and reply.errno in _GONE:
            answers.append(None)
        elif isinstance(reply, Iatt):
            answers.append(reply)
        else:
            number = reply.errno if isinstance(reply, FopError) else errno.ENOTCONN
            raise FopError(number, f"{core.name}: {core.children[index].name} does not answer for {name!r}")
    return answers


async def heal_name(
    core: Core, parent: Inode, name: bytes, sources: frozenset[int], pick: Favourite, offered: bytes = b""
) -> NameHealed:
    """Heal one name, which must be locked.  `offered`: a gfid for what has none on any copy."""
    answers = await look(core, parent, name)
    goes = bool(sources) and not any(answers[i] for i in sources)
    given = not goes and await _give_gfid(core, parent, name, answers, offered)
    settle = partial(_unfinished, core) if core.trust.unclean else None
    decision = decide(answers, sources, pick, settle=settle)
    if await _without_contents(core, answers, sources):
        decision = Decision(-1, (), tuple(i for i, answer in enumerate(answers) if answer is not None))
    postponed = False
    for child in decision.remove:
        answer = answers[child]
        assert answer is not None
        if not any(answer.gfid):
            await remove_unmade(core, child, parent, name)
            continue
        there = sources or frozenset(range(len(core.children)))
        model = await _elsewhere(core, there - {child}, _inode(core, answer), decision.remove)
        postponed |= not await _remove(core, child, parent, name, answer, model)
    if decision.create and not postponed:
        model = answers[decision.model]
        assert model is not None
        for child in decision.create:
            await _create(core, child, parent, name, decision.model, model)
    retimed = False
    if decision.model in sources:
        for child in range(len(answers)):
            if child not in (*sources, *decision.create, *decision.remove):
                retimed |= await _accuse_of_time(core, child, decision.model, answers)
    moved = given or (bool(decision.create or decision.remove) and not postponed)
    if moved and (not sources or sources.intersection((*decision.create, *decision.remove))):
        # Whoever asked before may have asked a copy that was wrong.
        core.notify(Event.UPCALL, None, StaleName(parent, name))
    return NameHealed(moved or retimed, decision.conflict, postponed)


async def _accuse_of_time(core: Core, child: int, model: int, answers: Sequence[Iatt | None]) -> bool:
    """A copy that has the name already, but not the change time: the file was renamed and back again while it was away.

    Whether it was is for the healing of its attributes to see, which locks them.  Where more is recorded of the file, that
    sets its times; an arbiter does not know those of what is written.
    """
    good, other = answers[model], answers[child]
    if good is None or other is None or good.ctime_ns == other.ctime_ns:
        return False
    if stat.S_ISREG(good.type) and core.arbiters & (1 << child | 1 << model):
        return False
    if any(core.keys.row(good.xdata)[child]) or any(core.keys.row(other.xdata)[model]):
        return False
    inode = _inode(core, good)
    delta = core.keys.delta(METADATA, 0, 1 << child)
    await core.children[model].xattrop(core.internal, inode, ADD_ARRAY, delta, None)
    core.blame(inode, METADATA, 1 << child)
    return True


async def _give_gfid(core: Core, parent: Inode, name: bytes, answers: list[Iatt | None], offered: bytes) -> bool:
    """A copy that has the name without a gfid (made behind our back, or a crash in the middle) is given the others'.

    Not if the copies have different things there: then somebody must look.  After an unclean end what none has a gfid for was
    being made: it may stay.  Where the gfid is another file's by now, or the type is another, the name goes, to be made anew.
    Raises ENODATA while there is no gfid to give.
    """
    lacking = [i for i, answer in enumerate(answers) if answer is not None and not any(answer.gfid)]
    if not lacking:
        return False
    present = [answer for answer in answers if answer is not None]
    gfids = {answer.gfid for answer in present if any(answer.gfid)}
    types = {answer.type for answer in present if any(answer.gfid)} or {answer.type for answer in present}
    if len(types) > 1 or len(gfids) > 1:
        raise FopError(errno.EIO, f"{core.name}: {name!r} is not the same on all copies, and has no gfid on some")
    gfid = gfids.pop() if gfids else offered
    if not gfid and core.trust.unclean:
        gfid = core.process.new_gfid()
    if not gfid:
        raise FopError(errno.ENODATA, f"{core.name}: {name!r} has no gfid on any copy")
    source = next((i for i, answer in enumerate(answers) if answer is not None and any(answer.gfid)), -1)
    model = answers[source] if source >= 0 else None
    for child in lacking:
        edge, unmade = core.children[child], answers[child]
        assert unmade is not None
        if model is not None and source >= 0 and unmade.type in types:
            await _accuse_unmade(core, child, source, model)
        if unmade.type not in types or not await _takes(core, child, parent, name, gfid):
            await remove_unmade(core, child, parent, name)
            answers[child] = None
            continue
        inode = core.graph.itable.learn(gfid, unmade.type)
        model = model or await edge.lookup(core.internal, inode, b"", None)
        await edge.setattr(core.internal, inode, times_of(model), None)  # it may have recorded none
        answers[child] = await edge.lookup(core.internal, parent, name, core.keys.ask)
    return True


async def _accuse_unmade(core: Core, child: int, source: int, model: Iatt) -> None:
    """What has no gfid yet may have nothing else: owner, mode and xattrs shall be those that `source` has."""
    if not core.keys.row(model.xdata)[child][METADATA]:
        delta = core.keys.delta(METADATA, 0, 1 << child)
        await core.children[source].xattrop(core.internal, _inode(core, model), ADD_ARRAY, delta, None)


async def _takes(core: Core, child: int, parent: Inode, name: bytes, gfid: bytes) -> bool:
    """Give a name of one copy this gfid; False when another file there has it."""
    try:
        await core.children[child].lookup(core.internal, parent, name, {GFID_REQ: gfid})
    except FopError as error:
        if error.errno != errno.ESTALE:
            raise
        return False
    return True


async def _remove(core: Core, child: int, parent: Inode, name: bytes, gone: Iatt, model: Iatt | None) -> bool:
    """Take the name from one copy; False when it must stay for now.

    What others have under another name (`model`) is parked: its contents may be good on this copy alone.
    """
    edge, inode = core.children[child], _inode(core, gone)
    await doubt(core, child, inode)
    if core.opt.use_anonymous_inode and (gone.is_dir or model is not None):
        await park(core, child, parent, name, inode, model or gone)
        if not gone.is_dir and model is not None:
            await edge.setattr(core.internal, inode, times_of(model), None)
        return True
    if gone.is_dir:
        await remove_tree(core, child, parent, name, inode)
        return True
    if model is not None and gone.nlink < 2:
        return False
    await edge.unlink(stamped(core, model or gone), parent, name, inode, None)
    if gone.nlink > 1:  # names come and go in healing without the file having changed
        await edge.setattr(core.internal, inode, times_of(model or gone), None)
    return True


def _inode(core: Core, iatt: Iatt) -> Inode:
    return core.graph.itable.learn(iatt.gfid, iatt.type)


async def _elsewhere(core: Core, copies: frozenset[int], inode: Inode, losing: Sequence[int]) -> Iatt | None:
    """What one of the `copies` has by this gfid, if any has it; those that are `losing` the name only under another one."""
    for child in sorted(copies):
        found = await _known(core, child, inode)
        if found is not None and (child not in losing or (found.nlink > 1 and not found.is_dir)):
            return found
    return None


async def _create(core: Core, child: int, parent: Inode, name: bytes, source: int, model: Iatt) -> None:
    """Make `name` on one copy as it is on `source`; if the copy knows the gfid, only the name."""
    edge = core.children[child]
    inode = core.graph.itable.learn(model.gfid, model.type)
    known = await _known(core, child, inode)
    if known is not None and known.is_dir and not core.opt.use_anonymous_inode:
        await remove_tree(core, child, *await _place_of(core, child, inode), inode)
        known = None
    if known is not None:
        timed = await _timed(core, child, source, inode, model, known)
        await doubt(core, child, inode)
        if model.is_dir:
            await _move(core, child, inode, parent, name, timed)
        elif not await unpark(core, child, parent, name, inode, stamped(core, timed)):
            await edge.link(stamped(core, timed), inode, parent, name, None)
        await edge.setattr(core.internal, inode, times_of(timed), None)
        return
    await _record(core, child, source, inode, model)
    frame = Frame(model.uid, model.gid, core.internal.pid)
    mode = model.mode & 0o7777
    if model.is_dir:
        await edge.mkdir(frame, parent, name, mode, model.gfid, None)
    elif stat.S_ISLNK(model.mode):
        text = await core.children[source].readlink(core.internal, inode, None)
        await edge.symlink(frame, parent, name, text, model.gfid, None)
    else:
        await edge.mknod(frame, parent, name, model.mode, model.rdev, model.gfid, None)
    inode.ctx[core.inode_slot] = None
    await _own(core, child, inode, model)


async def _timed(core: Core, child: int, source: int, inode: Inode, model: Iatt, known: Iatt) -> Iatt:
    """Whose times the object gets with the name: those of `model`; but an arbiter never hears when a file is written."""
    if not core.arbiters >> source & 1 or not stat.S_ISREG(model.mode):
        return model
    found = await _with_contents(core, core.arbiters | 1 << child, inode)
    return max(found or [known], key=lambda iatt: iatt.ctime_ns)


async def _without_contents(core: Core, answers: Sequence[Iatt | None], sources: frozenset[int]) -> bool:
    """Whether the arbiter has the name, of a file of which no copy has good contents, though a trusted one missed nothing of it.

    Then whoever was making it died before that copy heard of it, or who was removing it after it had: gone is right for both.
    """
    arbiter = arbiter_of(core)
    found = answers[arbiter] if arbiter >= 0 else None
    if found is None or not stat.S_ISREG(found.mode) or (sources and arbiter not in sources):
        return False
    if not all(answer is None or _same(answer, found) for answer in answers):
        return False
    missed = core.keys.row(found.xdata)
    doubtful = core.arbiters | core.suspects  # a suspect may have lost it
    doubtful |= sum(1 << i for i, counters in enumerate(missed) if any(counters))
    trusted = [i for i in sources or range(len(answers)) if not doubtful >> i & 1]
    if not trusted:
        return False
    # What a copy has that is no good may still be all that is left, unless one that was there when it changed says that it is gone.
    stale = core.suspects | core.keys.accused_by(found.xdata, DATA)
    if not sources or all(core.trust.is_new(i) for i in trusted):
        stale = 0
    inode = core.graph.itable.learn(found.gfid, found.type)
    return not await _with_contents(core, core.arbiters | stale, inode)


async def _with_contents(core: Core, without: int, inode: Inode) -> list[Iatt]:
    """What the copies have by this gfid, those in `without` aside."""
    others = [i for i in range(len(core.children)) if not without >> i & 1]
    return [found for i in others if (found := await _known(core, i, inode)) is not None]


async def _own(core: Core, child: int, inode: Inode, model: Iatt) -> None:
    """Owner, mode and times at once, so that nobody sees them differ; xattrs and contents come later."""
    link = stat.S_ISLNK(model.mode)
    attrs = SetAttr(
        mode=None if link else model.mode & 0o7777, uid=model.uid, gid=model.gid,
        atime_ns=model.atime_ns, mtime_ns=model.mtime_ns, ctime_ns=model.ctime_ns,
    )  # fmt: skip
    await core.children[child].setattr(core.internal, inode, attrs, None)


async def _known(core: Core, child: int, inode: Inode) -> Iatt | None:
    """What the copy has by this gfid, under whatever name."""
    try:
        found: Iatt = await core.children[child].lookup(core.internal, inode, b"", None)
    except FopError as error:
        if error.errno not in _GONE:
            raise
        return None
    return found


async def _place_of(core: Core, child: int, inode: Inode) -> tuple[Inode, bytes]:
    """Where one copy has a directory."""
    edge = core.children[child]
    answer = await edge.getxattr(core.internal, inode, _PATH, None)
    *above, name = bytes(answer[_PATH]).strip(b"/").split(b"/")
    at = core.graph.itable.root
    for component in above:
        found = await edge.lookup(core.internal, at, component, None)
        at = core.graph.itable.learn(found.gfid, found.type)
    return at, name


async def _move(core: Core, child: int, inode: Inode, parent: Inode, name: bytes, model: Iatt) -> None:
    """The copy has the directory under another name: it was renamed while the copy was away."""
    edge = core.children[child]
    at, old = await _place_of(core, child, inode)
    before = await edge.lookup(core.internal, at, b"", None)
    await edge.rename(stamped(core, model), at, old, parent, name, inode, None, 0, None)
    await edge.setattr(core.internal, at, times_of(before), None)


async def _record(core: Core, child: int, source: int, inode: Inode, model: Iatt) -> None:
    """The source accuses the copy of having none of the contents yet, before it gets the name."""
    known = core.keys.row(model.xdata)[child]
    wanted = new_entry(model.mode, granular=True)
    missing = tuple(0 if have else want for have, want in zip(known, wanted, strict=True))
    if any(missing):
        delta = core.keys.accuse((missing[0], missing[1], missing[2]), 1 << child)
        await core.children[source].xattrop(core.internal, inode, ADD_ARRAY, delta, None)
