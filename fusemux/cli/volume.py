"""`fusemux volume create|info|list|delete`."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from fusemux.cli.output import Output, size_text
from fusemux.graph.framework.errors import FusemuxError
from fusemux.serve.record import Record, all_records
from fusemux.volume.definition import Volume, VolumeError
from fusemux.volume.store import VolumeStore

__all__ = ["create", "delete", "info", "list_names"]


def create(arguments: Namespace, output: Output) -> None:
    from fusemux.mount.plan import ramdisks_dir
    from fusemux.volume import words
    from fusemux.volume.bricks import prepared

    made = words.create(arguments.name, arguments.words, ramdisks_dir())
    store = VolumeStore()
    if store.has(made.volume.name):
        raise VolumeError(f"volume {made.volume.name!r} already exists; choose another name or delete it first")
    with prepared(made.volume, force=made.force):
        store.create(made.volume)
    output.result(
        as_value(made.volume, None),
        f"volume create: {made.volume.name}: success ({made.volume.type_text}, {made.volume.count_text} bricks)\n"
        f"mount it with: fusemux mount {made.volume.name} DIR",
    )


def list_names(arguments: Namespace, output: Output) -> None:
    names = VolumeStore().names()
    output.result(names, "\n".join(names))
    if not names:
        output.note("No volumes present")


def info(arguments: Namespace, output: Output) -> int:
    """Damaged definitions are reported after all others were shown."""
    store = VolumeStore()
    volumes, problems = [], []
    for name in [arguments.name] if arguments.name else store.names():
        try:
            volumes.append(store.load(name))
        except VolumeError as error:
            if arguments.name:
                raise
            problems.append(str(error))
    served = serving()
    values = [as_value(volume, served.get(volume.name)) for volume in volumes]
    output.result(values[0] if arguments.name else values, "\n\n".join(_text(v, served.get(v.name)) for v in volumes))
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not volumes and not problems:
        output.note("No volumes present")
    return 1 if problems else 0


def serving() -> dict[str, Record]:
    """The living server of each volume that is served."""
    return {name: record for record in all_records() if record.alive for name in record.volumes}


def _places(volume: Volume, record: Record | None) -> list[str]:
    if record is None:
        return []
    return [path for name, path in zip(record.volumes, record.mounts, strict=False) if name == volume.name]


def _status(volume: Volume, record: Record | None) -> str:
    return "Started" if record is not None else "Created" if volume.status == 0 else "Stopped"


def as_value(volume: Volume, record: Record | None) -> dict[str, Any]:
    """A volume as JSON shows it."""
    return {
        "name": volume.name,
        "id": str(volume.id),
        "type": volume.type_text,
        "status": _status(volume, record),
        "count": volume.count_text,
        "sets": volume.sets,
        "replica": volume.replica,
        "arbiter": volume.arbiter,
        "disperse": volume.disperse,
        "redundancy": volume.redundancy,
        "bricks": [
            {"host": b.host, "path": b.path, "ramdisk_bytes": b.ramdisk_bytes, "arbiter": volume.is_arbiter(i)}
            for i, b in enumerate(volume.bricks)
        ],
        "options": dict(volume.options),
        "mounts": _places(volume, record),
        "pid": record.pid if record is not None else None,
    }


def _text(volume: Volume, record: Record | None) -> str:
    """GlusterFS's words and order."""
    lines = [
        f"Volume Name: {volume.name}",
        f"Type: {volume.type_text}",
        f"Volume ID: {volume.id}",
        f"Status: {_status(volume, record)}",
        f"Number of Bricks: {volume.count_text}",
        "Transport-type: tcp",
        "Bricks:",
    ]
    for index, brick in enumerate(volume.bricks):
        remarks = ["arbiter"] if volume.is_arbiter(index) else []
        if brick.ramdisk_bytes is not None:
            remarks.append(f"ramdisk {size_text(brick.ramdisk_bytes)}" if brick.ramdisk_bytes else "ramdisk")
        lines.append(f"Brick{index + 1}: {brick}{' (' + ', '.join(remarks) + ')' if remarks else ''}")
    lines += (
        ["Options Reconfigured:", *(f"{key}: {value}" for key, value in volume.options.items())]
        if volume.options
        else []
    )
    lines += [f"Mounted: {path} (process {record.pid})" for path in _places(volume, record) if record is not None]
    return "\n".join(lines)


def delete(arguments: Namespace, output: Output) -> None:
    from fusemux.bricks import ramdisk
    from fusemux.serve.record import remove_empty

    store = VolumeStore()
    name = arguments.name
    record = serving().get(name)
    if record is not None:
        raise FusemuxError(
            f"volume {name!r} is served by process {record.pid}; unmount it first: fusemux umount {' '.join(record.mounts)}"
        )
    try:
        volume = store.load(name)
    except VolumeError:
        if name not in store.names():
            raise
        volume = None  # damaged, which is a reason to delete it
    ramdisks = [b.path for b in volume.bricks if b.ramdisk_bytes is not None] if volume is not None else []
    lost = ", with all files on its ramdisks" if any(map(ramdisk.exists, ramdisks)) else ""
    confirm(
        f"Deleting volume {name!r} will erase all information about the volume{lost}. Do you want to continue?",
        arguments.yes,
    )
    store.delete(name)
    for path in ramdisks:
        ramdisk.remove(path)
    remove_empty(sorted({path.rpartition("/")[0] for path in ramdisks}))
    left = [b.path for b in volume.bricks if b.ramdisk_bytes is None] if volume is not None else []
    stay = f"\nits bricks stay as they are: {' '.join(left)}" if left else ""
    output.result({"deleted": name, "bricks_left": left}, f"volume delete: {name}: success{stay}")


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal; elsewhere only `--yes` will do.  Raises FusemuxError for no."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise FusemuxError(f"{question.split('. Do')[0]}; confirm it with --yes")
    print(f"{question} (y/n) ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise FusemuxError("not confirmed, nothing was changed")
