"""`fusemux fault add|list|clear` and `fusemux brick kill|start|freeze|fill|corrupt|power-cut`."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from fusemux.cli.heal import order
from fusemux.cli.output import Output, table
from fusemux.graph.framework.options import parse_time

__all__ = ["add", "brick", "clear", "list_faults"]

_DONE = {"kill": "is down", "start": "serves", "freeze": "is frozen", "fill": "is full", "corrupt": "has a flipped bit",
         "power-cut": "is down and has lost what was not synced"}  # fmt: skip


def add(arguments: Namespace, output: Output) -> None:
    delay_s = None if arguments.delay is None else parse_time(arguments.delay)
    fops = [word for given in arguments.fop or () for word in given.split(",")] or None
    placed = order(
        arguments.name, "fault-add", at=arguments.at, action=arguments.action, fops=fops, path=arguments.path,
        errno=arguments.errno, delay_s=delay_s, nth=arguments.nth, times=arguments.times, rate=arguments.rate,
        seed=arguments.seed, crash_point=arguments.crash_point, revoke=arguments.revoke,
    )  # fmt: skip
    output.result(placed, f"fault {placed['id']} is set at {placed['at']}{_past(placed)}")


def _past(placed: dict[str, Any]) -> str:
    """What there is to say of open files that the kernel reads and writes by itself."""
    text = ""
    if placed["revoked"]:
        text = f"\n{placed['revoked']} open file(s) that the kernel read and wrote by itself fail until they are opened again"
    if placed["passed"]:
        text += (
            f"\n{placed['passed']} open file(s) are read and written by the kernel itself: they meet it when they are opened "
            "again; --revoke makes them fail until then, and a mount with -o nopassthrough sees all reads and writes"
        )
    return text


def list_faults(arguments: Namespace, output: Output) -> None:
    placed = order(arguments.name, "fault-list")
    rows = [
        (p["id"], p["at"], p["fault"], ",".join(p["fops"]) or "all", p["path"] or "", p["matched"], p["fired"])
        for p in placed
    ]
    output.result(
        placed, table(("Id", "At", "Fault", "Fops", "Path", "Matched", "Fired"), rows) if rows else "No faults are set."
    )


def clear(arguments: Namespace, output: Output) -> None:
    count = order(arguments.name, "fault-clear", number=arguments.id)
    output.result({"cleared": count}, f"{count} cleared")


def brick(arguments: Namespace, output: Output) -> None:
    more = {key: getattr(arguments, key) for key in ("path", "revoke") if key in arguments}
    value = order(arguments.name, f"brick-{arguments.brick_command}", brick=arguments.brick, **more)
    past = _past(value) if "revoke" in more else ""
    output.result(value, f"brick {arguments.brick} of {arguments.name} {_DONE[arguments.brick_command]}{past}")
