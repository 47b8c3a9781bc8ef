"""`fusemux volume heal`."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from fusemux.cli.options import GRANULAR, change
from fusemux.cli.output import Output, table
from fusemux.cli.parser import UsageError
from fusemux.cli.volume import serving
from fusemux.graph.framework.errors import FusemuxError
from fusemux.serve.control import ask
from fusemux.volume.settings import set_options
from fusemux.volume.store import VolumeStore

__all__ = ["heal", "order"]

PATIENCE_S = 24 * 3600


def order(volume: str, op: str, **arguments: Any) -> Any:
    """Ask the server of `volume`.  Raises FusemuxError when it is not served."""
    record = serving().get(volume)
    if record is None:
        raise FusemuxError(f"volume {volume!r} is not served; mount it: fusemux mount {volume} DIR")
    return ask(record.socket, op, volume=volume, timeout_s=PATIENCE_S, **arguments)


def heal(arguments: Namespace, output: Output) -> int:
    """heal NAME [full | info [summary|split-brain] | split-brain HOW ... | granular-entry-heal enable|disable | --explain PATH]"""
    name, words = arguments.name, arguments.words
    if arguments.explain:
        return _explain(name, arguments.explain, output)
    match words:
        case [] | ["full"]:
            return _heal(name, bool(words), output)
        case ["info"]:
            return _info(name, output)
        case ["info", "summary"]:
            return _summary(name, output)
        case ["info", "split-brain"]:
            return _info(name, output, split_brain=True)
        case ["split-brain", ("bigger-file" | "latest-mtime") as how, path]:
            return _split_brain(name, output, how=how, path=path)
        case ["split-brain", "source-brick", brick]:
            return _split_brain(name, output, how="source-brick", brick=brick)
        case ["split-brain", "source-brick", brick, path]:
            return _split_brain(name, output, how="source-brick", brick=brick, path=path)
        case ["granular-entry-heal", ("enable" | "disable") as wanted]:
            return _granular(name, output, on=wanted == "enable")
    raise UsageError(
        f"volume heal: cannot read {' '.join(words)!r}; known are: full, info, info summary, info split-brain, "
        f"split-brain bigger-file PATH, split-brain latest-mtime PATH, split-brain source-brick BRICK [PATH], "
        f"granular-entry-heal enable, granular-entry-heal disable"
    )


def _heal(name: str, full: bool, output: Output) -> int:
    rows = order(name, "heal", full=full)
    lines = [
        (row.get("error") and f"{row['set']}: {row['error']}")
        or f"{row['set']}: {row['healed']} healed, {row['failed']} left, {row['split_brain']} in split-brain"
        for row in rows
    ]  # fmt: skip
    output.result(rows, "\n".join(lines))
    return 1 if any("error" in row or row["failed"] for row in rows) else 0


def _info(name: str, output: Output, *, split_brain: bool = False) -> int:
    rows = order(name, "heal-info")
    blocks = []
    for row in rows:
        entries = row["entries"]
        if entries is not None and split_brain:
            row["entries"] = entries = [entry for entry in entries if entry["split_brain"]]
        lines = [f"Brick {row['brick']}"]
        for entry in sorted(entries or (), key=lambda e: (e["path"] is None, e["path"] or e["gfid"])):
            note = " - Is in split-brain" if entry["split_brain"] else " - Being healed" if entry["healing"] else ""
            lines.append((entry["path"] or f"<gfid:{entry['gfid']}>") + note)
        lines.append(f"Status: {'Connected' if row['up'] else 'Down'}")
        what = "entries in split-brain" if split_brain else "entries"
        lines.append(f"Number of {what}: {'-' if entries is None else len(entries)}")
        blocks.append("\n".join(lines))
    output.result(rows, "\n\n".join(blocks))
    return 0


def _summary(name: str, output: Output) -> int:
    rows = []
    for row in order(name, "heal-info"):
        entries = row["entries"]
        split = sum(entry["split_brain"] for entry in entries or ())
        healing = sum(entry["healing"] for entry in entries or ())
        rows.append({"brick": row["brick"], "up": row["up"], "total": None if entries is None else len(entries),
                     "split_brain": split, "healing": healing})  # fmt: skip
    lines = [(r["brick"], "up" if r["up"] else "down", "-" if r["total"] is None else r["total"], r["split_brain"],
              r["healing"]) for r in rows]  # fmt: skip
    output.result(rows, table(("Brick", "Status", "Pending", "In split-brain", "Being healed"), lines))
    return 0


def _split_brain(name: str, output: Output, **arguments: Any) -> int:
    settled = order(name, "heal-split-brain", **arguments)
    output.result(settled, "\n".join(f"Healed {what}." for what in settled) or "Nothing is in split-brain.")
    return 0


def _granular(name: str, output: Output, *, on: bool) -> int:
    """Record from now on, or not any more, which names a copy misses."""
    if VolumeStore().load(name).replica < 2:
        raise FusemuxError(f"volume {name!r} has no copies to heal: it is not replicated")
    if on:
        _require_healed(name)
    changes = {GRANULAR: "on" if on else "off"}
    change(name, lambda volume: set_options(volume, changes), changes, "heal granular-entry-heal", output)
    return 0


def _require_healed(name: str) -> None:
    """What a copy has missed already is in no index, and a heal by the index would take it for healed.  Raises FusemuxError."""
    for row in order(name, "heal-info"):
        if row["entries"] is None:
            raise FusemuxError(
                f"brick {row['brick']} is down, and what it misses is in no index yet; start it, heal, try again"
            )
        if row["entries"]:
            raise FusemuxError(
                f"brick {row['brick']} lists {len(row['entries'])} entries that are to be healed; wait for "
                f"`fusemux volume heal {name}` to end, then try again"
            )


def _explain(name: str, path: str, output: Output) -> int:
    answers = order(name, "heal-explain", path=path)
    if not answers:
        raise FusemuxError(f"{path}: no brick that is up has it")
    output.result(answers, "\n\n".join(_explained(answer) for answer in answers))
    return 0


def _explained(answer: dict[str, Any]) -> str:
    rows = []
    for copy in answer["copies"]:
        if "error" in copy:
            rows.append((copy["child"], copy["error"], "", "", "", ""))
            continue
        accuses = "; ".join(f"{child} {'/'.join(map(str, counts))}" for child, counts in copy["accuses"].items())
        dirty = "/".join(map(str, copy["dirty"]))
        rows.append((copy["child"], copy["mode"], copy["owner"], copy["size"], dirty, accuses or "nobody"))
    head = f"{answer['path'] or ''} (gfid {answer['gfid']}) in {answer['set']}"
    matrix = table(("Copy", "Mode", "Owner", "Size", "Dirty", "Accuses (data/metadata/entries)"), rows)
    decisions = "\n".join(f"{kind}: {text}" for kind, text in answer["decision"].items())
    return f"{head}\n{matrix}\n{decisions}"
