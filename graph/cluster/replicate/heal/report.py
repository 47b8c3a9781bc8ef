"""What healing has to say: what is pending on each brick, what is in split-brain, and why one inode is healed as it is.

All answers are plain values (paths as text, numbers, lists), for the command line and for JSON.
"""

from __future__ import annotations

import stat
from typing import Any

from fusemux.graph.cluster.replicate.changelog import Counters
from fusemux.graph.cluster.replicate.heal.direction import FAVOURITES, Marks, Plan, data_plan, entry_plan, metadata_plan
from fusemux.graph.cluster.replicate.heal.disputes import disputed
from fusemux.graph.cluster.replicate.heal.healer import Healer
from fusemux.graph.cluster.replicate.heal.inspection import arbiter_of, quorum_of
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.inode import Inode
from fusemux.graph.framework.types import ROOT_GFID, Iatt, gfid_text

__all__ = ["explain", "in_split_brain", "info", "path_of", "split_kinds"]


async def path_of(healer: Healer, gfid: bytes) -> str | None:
    """A path of the inode, as the copies that are up know it; None when none of them does."""
    if gfid == ROOT_GFID:
        return "/"
    core = healer.core
    inode = core.graph.itable.learn(gfid, 0)
    for edge in core.edges(core.members.up):
        try:
            answer = await edge.getxattr(core.internal, inode, b"glusterfs.gfidtopath", None)
        except FopError:
            continue
        first = bytes(next(iter(answer.values()))).partition(b":/")[0]  # a name has no slash
        if first:
            return first.decode(errors="surrogateescape")
    return None


async def info(healer: Healer) -> list[dict[str, Any]]:
    """For each brick of the set: whether it is up, and what it lists as pending (None while it is down)."""
    core = healer.core
    report = []
    for index, edge in enumerate(core.children):
        row: dict[str, Any] = {"child": edge.name, "up": bool(core.members.up >> index & 1), "entries": None}
        if row["up"]:
            row["entries"] = [await _entry(healer, gfid) for gfid in sorted(await healer.pending_on(index))]
        report.append(row)
    return report


async def _entry(healer: Healer, gfid: bytes) -> dict[str, Any]:
    split = await in_split_brain(healer, gfid)
    path = await path_of(healer, gfid)
    healing = gfid in healer.busy
    return {"gfid": gfid_text(gfid), "path": path, "split_brain": split, "healing": healing}


async def in_split_brain(healer: Healer, gfid: bytes) -> bool:
    """Whether healing cannot decide about contents or metadata of the inode, or about a name in it."""
    return bool(await split_kinds(healer, gfid))


async def split_kinds(healer: Healer, gfid: bytes) -> set[str]:
    """What of the inode is in split-brain: data, metadata, entries.  Nothing while a copy is away: it may be the good one."""
    if not healer.core.members.complete:
        return set()
    try:
        plans = await _plans(healer, gfid)
        kinds = {kind for kind, plan in plans.items() if plan.split_brain}
        if "entries" in plans and plans["entries"].sinks:
            inode = healer.core.graph.itable.learn(gfid, stat.S_IFDIR)
            kinds |= {"entries"} if await disputed(healer.core, inode, plans["entries"]) else set()
    except FopError:
        return set()
    return kinds


async def _plans(healer: Healer, gfid: bytes) -> dict[str, Plan]:
    replies, marks = await _ask(healer, gfid)
    known = [reply for reply in replies if isinstance(reply, Iatt)]
    if len(known) < len(replies):
        raise next(reply for reply in replies if isinstance(reply, FopError))
    core, none = healer.core, FAVOURITES["none"]
    quorum, arbiter = quorum_of(core), arbiter_of(core)
    alike = [(reply.mode, reply.uid, reply.gid) for reply in known]
    plans = {"metadata": metadata_plan(marks, known, alike, quorum=quorum, arbiter=arbiter, pick=none)}
    if stat.S_ISREG(known[0].mode):
        plans["data"] = data_plan(marks, known, quorum=quorum, arbiter=arbiter, pick=none)
    elif stat.S_ISDIR(known[0].mode):
        plans["entries"] = entry_plan(marks, quorum=quorum, arbiter=arbiter)
    return plans


async def _ask(healer: Healer, gfid: bytes) -> tuple[list[Any], Marks]:
    core = healer.core
    inode = Inode(gfid, 0, core.graph.itable.inode_slots)
    replies = await core.wind(core.members.up, "lookup", core.internal, inode, b"", core.keys.ask)
    answers = [reply if reply is not None else FopError(107, "down") for reply in replies]
    blank = Iatt(gfid, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    return answers, Marks.of([a if isinstance(a, Iatt) else blank for a in answers], core.keys)


async def explain(healer: Healer, gfid: bytes) -> dict[str, Any]:
    """Everything that a heal of this inode would look at, and what it would do.  Changes nothing."""
    replies, marks = await _ask(healer, gfid)
    names = [edge.name for edge in healer.core.children]
    copies = [
        _copy(name, reply, marks.rows[index], marks.dirty[index], names)
        for index, (name, reply) in enumerate(zip(names, replies, strict=True))
    ]
    answer: dict[str, Any] = {
        "gfid": gfid_text(gfid), "path": await path_of(healer, gfid), "set": healer.core.name, "copies": copies,
        "policy": healer.core.opt.favorite_child_policy,
    }  # fmt: skip
    try:
        plans = await _plans(healer, gfid)
    except FopError as error:
        answer["decision"] = {"healing": f"not possible now: {error}"}
        return answer
    answer["decision"] = {kind: _decision(plan, names, clean=marks.clean) for kind, plan in sorted(plans.items())}
    return answer


def _copy(name: str, reply: Any, row: tuple[Counters, ...], dirty: Counters, names: list[str]) -> dict[str, Any]:
    if isinstance(reply, FopError):
        return {"child": name, "error": str(reply)}
    accuses = {names[j]: list(counters) for j, counters in enumerate(row) if any(counters)}
    return {
        "child": name, "mode": f"{reply.mode:o}", "owner": f"{reply.uid}:{reply.gid}", "size": reply.size,
        "mtime_ns": reply.mtime_ns, "accuses": accuses, "dirty": list(dirty),
    }  # fmt: skip


def _decision(plan: Plan, names: list[str], *, clean: bool) -> str:
    if plan.split_brain:
        return (
            "split-brain: choose a copy (source-brick, bigger-file, latest-mtime) or set cluster.favorite-child-policy"
        )
    if not plan.sinks or (plan.source < 0 and clean):
        return "nothing to heal"
    sinks = ", ".join(names[i] for i in sorted(plan.sinks))
    if plan.source < 0:
        return f"{plan.why} ({sinks})"
    return f"heal {sinks} from {names[plan.source]}: {plan.why}"
