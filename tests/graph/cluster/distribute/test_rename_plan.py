"""The rename plan, played on tables of names: 18 cases by name, and every case by its laws."""

from __future__ import annotations

import itertools

from fusemux.graph.cluster.distribute.rename_plan import Kind, Step, plan

Names = dict[str, str]  # name -> "src" (data), "dst" (data), "->N src" (linkto)


def before(sh: int, sc: int, dh: int, dc: int | None) -> dict[int, Names]:
    table: dict[int, Names] = {place: {} for place in range(6)}
    table[sc]["old"] = "src"
    if sh != sc:
        table[sh]["old"] = f"->{sc} src"
    if dc is not None:
        table[dc]["new"] = "dst"
        if dh != dc:
            table[dh]["new"] = f"->{dc} dst"
    return table


def perform(table: dict[int, Names], kind: Kind, place: int, sc: int) -> None:
    names = table[place]
    match kind:
        case Kind.LINKTO_OLD:
            assert names.setdefault("old", f"->{sc} src") == f"->{sc} src"
        case Kind.LINK_NEW:
            assert "new" not in names
            names["new"] = names["old"]
        case Kind.RENAME:
            names["new"] = names.pop("old")
        case Kind.UNLINK_OLD:
            assert names.pop("old") == "src"
        case Kind.UNLINK_OLD_LINKTO:
            assert names.pop("old").startswith("->")
        case Kind.UNLINK_NEW:
            assert names.pop("new") == "src"
        case Kind.UNLINK_REPLACED:
            assert names.pop("new") == "dst"


def resolve(table: dict[int, Names], name: str, hashed: int) -> str | None:
    """What a lookup finds: at the hashed place, behind a linkto that is right, or else anywhere."""
    found = table[hashed].get(name)
    if found in ("src", "dst"):
        return found
    if found is not None:
        target, gfid = found[2:].split()
        if table[int(target)].get(name) == gfid:
            return gfid
    data = {names[name] for names in table.values() if names.get(name) in ("src", "dst")}
    assert len(data) <= 1, "a search everywhere would find two files"
    return data.pop() if data else None


def after(sh: int, sc: int, dh: int) -> dict[int, Names]:
    table: dict[int, Names] = {place: {} for place in range(6)}
    table[sc]["new"] = "src"
    if dh != sc:
        table[dh]["new"] = f"->{sc} src"
    return table


EVERY = [(sh, sc, dh, dc) for sh, sc, dh in itertools.product(range(4), repeat=3) for dc in (None, 0, 1, 2, 3)]


def test_a_rename_leaves_the_data_where_it_was_and_a_linkto_exactly_where_it_is_needed() -> None:
    for case in EVERY:
        sh, sc, dh, dc = case
        table = before(sh, sc, dh, dc)
        for step in plan(sh, sc, dh, dc):
            perform(table, step.kind, step.place, sc)
        assert table == after(sh, sc, dh)


def test_a_crash_after_any_step_loses_neither_file() -> None:
    for case in EVERY:
        sh, sc, dh, dc = case
        table = before(sh, sc, dh, dc)
        decided = False
        for step in plan(sh, sc, dh, dc):
            if not decided:
                assert resolve(table, "old", sh) == "src"
                assert resolve(table, "new", dh) in ({"dst"} if dc is not None else {None, "src"})
            else:
                assert resolve(table, "new", dh) == "src"
            perform(table, step.kind, step.place, sc)
            decided |= step.decides
        assert decided


def test_a_failure_before_the_deciding_step_can_be_taken_back_wholly() -> None:
    for case in EVERY:
        sh, sc, dh, dc = case
        steps = plan(sh, sc, dh, dc)
        deciding = next(i for i, step in enumerate(steps) if step.decides)
        for failed in range(deciding + 1):
            table = before(sh, sc, dh, dc)
            for step in steps[:failed]:
                perform(table, step.kind, step.place, sc)
            for step in reversed(steps[:failed]):
                if step.undo is not None:
                    perform(table, step.undo, step.place, sc)
            assert table == before(sh, sc, dh, dc)


def test_exactly_one_step_decides() -> None:
    for case in EVERY:
        steps = plan(*case)
        deciding = [i for i, step in enumerate(steps) if step.decides]
        assert len(deciding) == 1


def test_a_rename_that_stays_on_one_subvolume_is_one_step() -> None:
    assert plan(1, 1, 1, None) == plan(1, 1, 1, 1) == [Step(Kind.RENAME, 1, decides=True)]
