"""`fusemux volume set|get|reset|help`: the options of a volume, also while it is served."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fusemux.cli.output import Output, table
from fusemux.cli.parser import UsageError
from fusemux.cli.volume import serving
from fusemux.graph.framework.errors import FusemuxError
from fusemux.volume import settings
from fusemux.volume.definition import Volume
from fusemux.volume.settings import Setting
from fusemux.volume.store import VolumeStore

__all__ = ["change", "get", "help_", "reset", "set_"]

GRANULAR = "cluster.granular-entry-heal"


def set_(arguments: Namespace, output: Output) -> None:
    words = arguments.words
    if arguments.name == "help" and not words:
        help_(Namespace(key=None), output)
        return
    if not words or len(words) % 2:
        raise UsageError("fusemux volume set: expected VOLUME OPTION VALUE [OPTION VALUE ...]")
    changes = dict(zip(words[::2], words[1::2], strict=True))
    if GRANULAR in changes:
        raise FusemuxError(
            f"option {GRANULAR}: what copies have missed so far must be healed before the index can be relied on, which is looked "
            f"after by `fusemux volume heal {arguments.name} granular-entry-heal enable` (or disable)"
        )
    change(arguments.name, lambda volume: settings.set_options(volume, changes), changes, "set", output)


def reset(arguments: Namespace, output: Output) -> None:
    key = None if arguments.key in (None, "all", "force") else arguments.key
    change(arguments.name, lambda volume: settings.reset(volume, key), {key: None} if key else {}, "reset", output)


def change(
    name: str, edit: Callable[[Volume], Volume], changes: Mapping[str, str | None], word: str, output: Output
) -> None:
    """Store the change and hand it to the server, if there is one; when that refuses, the old definition comes back."""
    store = VolumeStore()
    before = store.load(name)
    after = store.change(name, edit)
    record = serving().get(name)
    taken = None
    if record is not None and after != before:
        from fusemux.serve.control import Refused, Unreachable, ask

        try:
            taken = bool(ask(record.socket, "reread", volume=name))
        except Refused as error:
            store.change(name, lambda volume: replace(volume, options=before.options))
            raise FusemuxError(
                f"volume {name!r}: the running volume refused the change, nothing was changed: {error}"
            ) from None
        except Unreachable:
            taken = None  # it ended meanwhile
    when = "" if taken is None else " (in effect)" if taken else " (in effect from the next mount on)"
    output.result({"volume": name, "options": dict(after.options), "in_effect": taken}, f"volume {word}: success{when}")


def get(arguments: Namespace, output: Output) -> None:
    volume = VolumeStore().load(arguments.name)
    if arguments.key == "all":
        keys = sorted({*settings.settings(), *volume.options})
    else:
        keys = [arguments.key]
    found = {key: settings.effective(volume, key) for key in keys}
    rows = [
        (key, f"{'(null)' if value is None else value}{' (DEFAULT)' if default else ''}")
        for key, (value, default) in found.items()
    ]
    output.result(
        {key: {"value": value, "default": default} for key, (value, default) in found.items()},
        table(("Option", "Value"), rows),
    )


def help_(arguments: Namespace, output: Output) -> None:
    chosen = [settings.find_setting(arguments.key)] if arguments.key else list(settings.settings().values())
    values = [_as_value(setting) for setting in chosen]
    output.result(values[0] if arguments.key else values, "\n\n".join(_text(value) for value in values))


def _as_value(setting: Setting) -> dict[str, Any]:
    row = setting.row
    return {
        "option": setting.key,
        "type": row.type,
        "default": row.default,
        "choices": list(row.choices),
        "min": row.low,
        "max": row.high,
        "description": " ".join(row.doc.split()),
        "live": setting.live,
        "translators": [type_ for type_, _ in setting.rows if type_],
    }


def _text(value: Mapping[str, Any]) -> str:
    lines = [
        f"Option: {value['option']}",
        f"Default Value: {'(null)' if value['default'] is None else value['default']}",
        f"Description: {value['description']}",
    ]
    if value["choices"]:
        lines.append(f"Values: {', '.join(value['choices'])}")
    if value["min"] is not None or value["max"] is not None:
        low, high = ("" if edge is None else f"{edge:g}" for edge in (value["min"], value["max"]))
        lines.append(f"Range: {low}..{high}")
    if not value["live"]:
        lines.append("Takes effect at the next mount.")
    return "\n".join(lines)
