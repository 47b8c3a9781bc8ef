"""`fusemux volume replace-brick|reset-brick|add-brick|remove-brick`: other bricks for a volume, also while it is served."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from fusemux.cli.heal import PATIENCE_S
from fusemux.cli.output import Output
from fusemux.cli.parser import UsageError
from fusemux.cli.volume import serving
from fusemux.volume.rebrick import brick_index, read_add, read_remove, read_replace
from fusemux.volume.store import VolumeStore
from fusemux.volume.words import parse_brick

__all__ = ["add", "remove", "replace", "reset"]

_SETS_NOTE = (
    "files go to the new bricks in directories that are made from now on; directories that are there keep to the old ones "
    "(rebalance is not there yet)"
)


def replace(arguments: Namespace, output: Output) -> None:
    name = arguments.name
    read_replace(name, arguments.words)
    volume = VolumeStore().load(name)
    old = volume.bricks[brick_index(volume, arguments.old)].path
    bricks = _order(name, "brick-replace", old=old, new=_place(arguments.new, "replace-brick"))
    _say(output, name, bricks, f"volume replace-brick: {name}: success (it is healed from the other copies)")


def reset(arguments: Namespace, output: Output) -> None:
    name, words = arguments.name, list(arguments.words)
    volume = VolumeStore().load(name)
    path = volume.bricks[brick_index(volume, arguments.brick)].path
    if words and "/" in words[0] and _place(words[0], "reset-brick")[0] == path:
        del words[0]  # GlusterFS wants the brick twice
    match words:
        case ["start"]:
            if serving().get(name) is None:
                _say(
                    output,
                    name,
                    [b.path for b in volume.bricks],
                    f"volume reset-brick: {name}: it is not served, nothing to do",
                )
                return
            bricks = _order(name, "brick-reset-start", brick=path)
            text = f"{path} is down; empty it or change its disk, then: fusemux volume reset-brick {name} {path} commit"
            _say(output, name, bricks, f"volume reset-brick: {name}: success\n{text}")
        case ["commit"] | ["commit", "force"]:
            bricks = _order(name, "brick-reset-commit", brick=path, force=len(words) > 1)
            _say(output, name, bricks, f"volume reset-brick: {name}: success (it is healed from the other copies)")
        case _:
            raise UsageError(
                f"volume reset-brick: cannot read {' '.join(words)!r}; after the brick stands 'start', 'commit' or 'commit force'"
            )


def add(arguments: Namespace, output: Output) -> None:
    name = arguments.name
    words = read_add(name, arguments.words)
    copies = VolumeStore().load(name).replica
    places = [_place(word, "add-brick") for word in words.bricks]
    bricks = _order(name, "bricks-add", bricks=places, replica=words.replica, arbiter=words.arbiter, force=words.force)
    now = VolumeStore().load(name)
    what = _SETS_NOTE if now.replica == copies else "the new copies are healed from the others"
    _say(output, name, bricks, f"volume add-brick: {name}: success ({now.type_text}, {now.count_text} bricks)\n{what}")


def remove(arguments: Namespace, output: Output) -> None:
    name = arguments.name
    words = read_remove(name, arguments.words)
    before = VolumeStore().load(name)
    given = [before.bricks[brick_index(before, word)] for word in words.bricks]
    bricks = _order(name, "bricks-remove", replica=words.replica, bricks=[b.path for b in given])
    now = VolumeStore().load(name)
    left = [b.path for b in given if b.ramdisk_bytes is None]
    stay = f"\nwhat was removed stays as it is: {' '.join(left)}" if left else ""
    _say(output, name, bricks, f"volume remove-brick: {name}: success ({now.type_text}, {now.count_text} bricks){stay}")


def _place(word: str, command: str) -> list[Any]:
    """A brick as the server is told of it; where a ramdisk goes is chosen there."""
    spec = parse_brick(word, Path("/"), command=f"volume {command}")
    return [spec.path if spec.ramdisk_bytes is None else "", spec.ramdisk_bytes]


def _order(name: str, op: str, **arguments: Any) -> list[str]:
    """Have the server of the volume do it, or do it here when there is none."""
    record = serving().get(name)
    if record is None:
        from fusemux.serve.bricks import without_server

        return without_server(name, op, **arguments)
    from fusemux.serve.control import ask

    bricks: list[str] = ask(record.socket, op, volume=name, timeout_s=PATIENCE_S, **arguments)
    return bricks


def _say(output: Output, name: str, bricks: list[str], text: str) -> None:
    output.result({"volume": name, "bricks": bricks}, text)
