"""Healing one name of a directory: present on all copies with one gfid, or on none.

`NameHeal.decide` says from the answers of all copies what to do; performing it is short, because what is made
here is made empty: the good copies record first (`new_entry`) that contents and attributes are still to come.

What goes is not always gone: a name that another heal will need again (a rename half healed) is found by its gfid, since
a file with another name left keeps its handle.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence
from typing import NamedTuple

from fusemux.graph.cluster.replicate.changelog import ADD_ARRAY, new_entry
from fusemux.graph.cluster.replicate.core import Core
from fusemux.graph.cluster.replicate.heal.direction import Favourite
from fusemux.graph.cluster.replicate.heal.inspection import times_of
from fusemux.graph.cluster.replicate.heal.parking import park
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import Frame, Iatt, SetAttr

__all__ = ["Decision", "decide", "heal_name", "look"]

_PATH = b"glusterfs.ancestry.path"
_GONE = (errno.ENOENT, errno.ESTALE)


class Decision(NamedTuple):
    """Make the name like on `model` on the copies in `create`, after removing it from those in `remove`."""

    model: int
    create: tuple[int, ...]
    remove: tuple[int, ...]
    conflict: bool = False  # copies have different files under the name, and nobody can say which is right


def decide(answers: Sequence[Iatt | None], source: int, pick: Favourite) -> Decision:
    """From what each copy has under the name (None: nothing); `source` -1 merges: nothing is removed.

    A conflict of gfids or types is left alone unless `pick` chooses; of directories it is never asked.
    """
    has = {i: answer for i, answer in enumerate(answers) if answer is not None}
    if source >= 0:
        model = answers[source]
        if model is None:
            return Decision(-1, (), tuple(has))
        wrong = tuple(i for i, answer in has.items() if not _same(answer, model))
        return Decision(source, tuple(i for i in range(len(answers)) if i not in has or i in wrong), wrong)
    if not has:
        return Decision(-1, (), ())
    first = min(has)
    if all(_same(answer, has[first]) for answer in has.values()):
        return Decision(first, tuple(i for i in range(len(answers)) if i not in has), ())
    chosen = None if any(answer.is_dir for answer in has.values()) else pick(has)
    if chosen is None or len({answer.type for answer in has.values()}) > 1:
        return Decision(-1, (), (), conflict=True)
    wrong = tuple(i for i, answer in has.items() if not _same(answer, has[chosen]))
    return Decision(chosen, tuple(i for i in range(len(answers)) if i not in has or i in wrong), wrong)


def _same(one: Iatt, other: Iatt) -> bool:
    return one.gfid == other.gfid and one.type == other.type


async def look(core: Core, parent: Inode, name: bytes) -> list[Iatt | None]:
    """What each copy has under `name`.  Raises FopError when one cannot say."""
    replies = await core.wind(core.members.up, "lookup", core.internal, parent, name, core.keys.ask)
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


async def heal_name(core: Core, parent: Inode, name: bytes, source: int, pick: Favourite) -> tuple[bool, bool]:
    """Heal one name; whether anything was changed, and whether a conflict is left.  The name must be locked."""
    answers = await look(core, parent, name)
    answers = await _give_gfid(core, parent, name, answers)
    decision = decide(answers, source, pick)
    for child in decision.remove:
        answer = answers[child]
        assert answer is not None
        await _remove(core, child, parent, name, answer, source)
    if decision.create:
        model = answers[decision.model]
        assert model is not None
        for child in decision.create:
            await _create(core, child, parent, name, decision.model, model)
    return bool(decision.create or decision.remove), decision.conflict


async def _give_gfid(core: Core, parent: Inode, name: bytes, answers: list[Iatt | None]) -> list[Iatt | None]:
    """A copy that has the name without a gfid (made behind our back, or a crash in the middle) is given the others'."""
    gfids = {answer.gfid for answer in answers if answer is not None and any(answer.gfid)}
    if len(gfids) != 1 or all(answer is not None and any(answer.gfid) for answer in answers):
        return answers
    request = {**core.keys.ask, b"gfid-req": gfids.pop()}
    replies = await core.wind(core.members.up, "lookup", core.internal, parent, name, request)
    return [reply if isinstance(reply, Iatt) else None for reply in replies]


async def _remove(core: Core, child: int, parent: Inode, name: bytes, gone: Iatt, source: int) -> None:
    edge = core.children[child]
    inode = core.graph.itable.learn(gone.gfid, gone.type)
    if gone.is_dir:
        await park(core, child, parent, name, inode)
        return
    await edge.unlink(core.internal, parent, name, inode, None)
    if gone.nlink > 1:  # names come and go in healing without the file having changed
        model = await _known(core, source, inode) if source >= 0 else None
        await edge.setattr(core.internal, inode, times_of(model or gone), None)


async def _create(core: Core, child: int, parent: Inode, name: bytes, source: int, model: Iatt) -> None:
    """Make `name` on one copy as it is on `source`; if the copy knows the gfid, only the name."""
    edge = core.children[child]
    inode = core.graph.itable.learn(model.gfid, model.type)
    frame = Frame(model.uid, model.gid, core.internal.pid)
    if await _known(core, child, inode) is not None:
        if model.is_dir:
            await _move(core, child, inode, parent, name)
        else:
            await edge.link(frame, inode, parent, name, None)
        await edge.setattr(core.internal, inode, times_of(model), None)
        return
    await _record(core, child, source, inode, model)
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


async def _move(core: Core, child: int, inode: Inode, parent: Inode, name: bytes) -> None:
    """The copy has the directory under another name: it was renamed while the copy was away."""
    edge = core.children[child]
    answer = await edge.getxattr(core.internal, inode, _PATH, None)
    *above, old = bytes(answer[_PATH]).strip(b"/").split(b"/")
    at = core.graph.itable.root
    for component in above:
        found = await edge.lookup(core.internal, at, component, None)
        at = core.graph.itable.learn(found.gfid, found.type)
    before = await edge.lookup(core.internal, at, b"", None)
    await edge.rename(core.internal, at, old, parent, name, inode, None, 0, None)
    await edge.setattr(core.internal, at, times_of(before), None)


async def _record(core: Core, child: int, source: int, inode: Inode, model: Iatt) -> None:
    """The source accuses the copy of having none of the contents yet, before it gets the name."""
    known = core.keys.row(model.xdata)[child]
    wanted = new_entry(model.mode, granular=True)
    missing = tuple(0 if have else want for have, want in zip(known, wanted, strict=True))
    if any(missing):
        delta = core.keys.accuse((missing[0], missing[1], missing[2]), 1 << child)
        await core.children[source].xattrop(core.internal, inode, ADD_ARRAY, delta, None)
