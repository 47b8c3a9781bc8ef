"""`fusemux mount|umount|status|serve`."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusemux.cli.output import Output, table
from fusemux.cli.parser import UsageError
from fusemux.graph.framework.errors import FusemuxError
from fusemux.mount.errors import Exit, MountError
from fusemux.mount.main import mount as do_mount
from fusemux.mount.parsing import MountRequest, parse
from fusemux.mount.plan import PlannedMount, plan_mount
from fusemux.serve import mounttable, unmounting
from fusemux.serve.control import Refused, Unreachable, ask
from fusemux.serve.record import Record, all_records, record_of, remove_empty

__all__ = ["mount", "request_of", "serve", "status", "umount"]

END_S = 60


def request_of(arguments: Namespace) -> MountRequest:
    """The mount options of a command."""
    more = [word for word in ("replace-stale", "foreground") if getattr(arguments, word.replace("-", "_"), False)]
    return parse([*arguments.options, *more])


def mount(arguments: Namespace, output: Output) -> int:
    request = request_of(arguments)
    status = do_mount(arguments.spec, arguments.path, request)
    if status == 0 and not request.opt.foreground:
        path = os.path.realpath(arguments.path)
        record = record_of(path)
        value = {"spec": arguments.spec, "mount": path, "pid": record.pid if record else None}
        output.result(
            value,
            "" if request.remount else f"{arguments.spec} is mounted at {path}; unmount it with: fusemux umount {path}",
        )
    return status


# -- umount --------------------------------------------------------------------------------------------------------


def umount(arguments: Namespace, output: Output) -> None:
    for path in arguments.paths:
        _umount(os.path.realpath(path), lazy=arguments.lazy)
    output.result({"unmounted": [os.path.realpath(path) for path in arguments.paths]}, "")


def _umount(path: str, *, lazy: bool) -> None:
    if unmounting.clear_stale(path):
        return
    entry = mounttable.mounted_at(path)
    if entry is None or not entry.is_ours:
        raise MountError(f"{path} is no mount of fusemux; `fusemux status` shows what is mounted")
    record = record_of(path)
    if record is None:
        _umount_directly(path, lazy)
        return
    try:
        ask(record.socket, "unmount", path=path, lazy=lazy, timeout_s=END_S)
    except Refused as error:
        raise MountError(str(error), Exit(error.exit)) from None
    except Unreachable:
        if mounttable.mounted_at(path) == entry:  # it did not end because of us
            _umount_directly(path, lazy)
    _wait_for_end(record, path)


def _umount_directly(path: str, lazy: bool) -> None:
    """A mount whose server is not in our run directory."""
    try:
        unmounting.unmount(path, lazy=lazy)
    except OSError as error:
        raise MountError(f"{path}: {error.strerror}; close what is open there, or use --lazy") from None


def _wait_for_end(record: Record, path: str) -> None:
    """Until the server has let go of the volume: it ends, or still serves others and this one no more."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        if record.has_ended():
            return
        try:
            volumes = ask(record.socket, "status")["volumes"]
        except Unreachable:
            volumes = None  # about to end
        mounted = [volume["mount"] for volume in volumes or () if volume["mounted"]]
        if mounted and path not in mounted:
            return
        time.sleep(0.01)
    raise MountError(f"{path} is unmounted, but its server (process {record.pid}) still holds the volume")


# -- status --------------------------------------------------------------------------------------------------------


def status(arguments: Namespace, output: Output) -> None:
    servers, dead = [], []
    for record in all_records():
        if not record.alive:
            dead.append(record)
            continue
        try:
            servers.append((record, ask(record.socket, "statedump" if arguments.dump else "status")))
        except Unreachable:
            continue  # it has just ended, or does not serve yet
    if arguments.dump:
        output.result([dump for _, dump in servers], "\n".join(dump for _, dump in servers))
        return
    values = [_filtered(state, arguments.name) for _, state in servers]
    values = [value for value in values if value["volumes"]]
    if arguments.name and not values:
        raise FusemuxError(f"volume {arguments.name!r} is not served; mount it: fusemux mount {arguments.name} DIR")
    stale = [{"pid": r.pid, "mounts": list(r.mounts), "ramdisks": list(r.ramdisks)} for r in dead]
    output.result({"servers": values, "dead": stale}, _text(values))
    for record in dead:
        where = " ".join(record.mounts)
        output.note(f"process {record.pid} died and left {where}; clear it with: fusemux umount {where}")


def _filtered(state: dict[str, Any], name: str | None) -> dict[str, Any]:
    return {**state, "volumes": [v for v in state["volumes"] if name in (None, v["name"])]}


def _text(servers: list[dict[str, Any]]) -> str:
    if not servers:
        return "Nothing is served."
    rows = [
        (v["name"], v["mount"] if v["mounted"] else "(unmounted)", f"{sum(b['up'] for b in v['bricks'])}/{len(v['bricks'])}",
         v["bridge"]["open_files"], v["inodes"], s["pid"], s["binding"], f"{s['rss-bytes'] / 1048576:.0f} MB")
        for s in servers for v in s["volumes"]
    ]  # fmt: skip
    return table(("Volume", "Mounted at", "Bricks up", "Open files", "Inodes", "Process", "Binding", "Memory"), rows)


# -- serve ---------------------------------------------------------------------------------------------------------


def serve(arguments: Namespace, output: Output) -> int:
    from fusemux.mount.preflight import check_fuse, check_target
    from fusemux.serve.background import serve as do_serve
    from fusemux.volume.places import run_dir

    request = request_of(arguments)
    check_fuse(allow_other=request.opt.allow_other)
    root = Path(arguments.mount_root) if arguments.mount_root else run_dir() / "mnt"
    plans: list[PlannedMount] = []
    made: list[str] = []
    try:
        for number, word in enumerate(arguments.specs):
            spec, place = _place(word)
            plan = plan_mount(spec, place or "", request)
            path = place or str(root / (str(number) if _is_nameless(plan.source.name) else plan.source.name))
            if any(plan.path == os.path.realpath(path) for plan in plans):
                raise UsageError(f"fusemux serve: {path} is named twice")
            _clear_or_refuse(path, request.opt.replace_stale)
            made += _make_folders(path, root)
            plans.append(replace(plan, path=check_target(path)))
        return do_serve(plans, foreground=not arguments.daemon, folders=made)
    finally:
        if not arguments.daemon or not all(record_of(plan.path) for plan in plans):
            remove_empty(made)


def _place(word: str) -> tuple[str, str | None]:
    """`SPEC:DIR` (DIR absolute) or `SPEC`."""
    spec, colon, path = word.rpartition(":/")
    if colon and spec and spec != "localhost":
        return spec, "/" + path
    return word, None


def _is_nameless(name: str) -> bool:
    return name.startswith("tmp-")


def _clear_or_refuse(path: str, replace_stale: bool) -> None:
    """Before anything is made there: what a dead server left goes with the folders it had made."""
    real = os.path.realpath(path)
    if replace_stale:
        try:
            unmounting.clear_stale(real)
        except unmounting.StaleMount as error:
            raise MountError(str(error)) from None
    elif mounttable.is_stale(real):
        raise MountError(unmounting.stale_message(real))


def _make_folders(path: str, root: Path) -> list[str]:
    """Make the mount point below `root` if it is missing; what was made."""
    made = []
    for folder in (str(root), path):
        if not os.path.lexists(folder) and (folder == path or path.startswith(str(root))):
            try:
                os.makedirs(folder)
            except OSError as error:
                raise MountError(f"mount point {folder}: {error.strerror}") from None
            made.append(folder)
    return made
