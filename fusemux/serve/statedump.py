"""The state of a serving process as text: GlusterFS's statedump, sections of key=value.

SIGUSR1 and `fusemux status --dump` write one, together with the stacks of all tasks and threads.
"""

from __future__ import annotations

import faulthandler
import os
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import trio

from fusemux.serve.volume import ServedVolume
from fusemux.volume.places import run_dir

__all__ = ["dump", "sections", "write_dump"]


def sections(volumes: Iterable[ServedVolume], process: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Name and values of every section."""
    yield "process", process
    for volume in volumes:
        if not volume.serving:
            continue
        bridges = {f"bridge{number or ''}": bridge.statistics() for number, bridge in enumerate(volume.bridges)}
        yield f"volume.{volume.name}", {**bridges, "inodes": len(volume.graph.itable)}
        for translator in volume.graph.translators.values():
            yield f"{translator.type}.{translator.name}", {**_options(translator.opt), **translator.statedump()}
        for brick in volume.bricks:
            yield f"brick.{brick.path}", _flat(brick.statedump())
            for translator in brick.graph.translators.values() if brick.up else ():
                if vars(translator.opt):
                    yield f"{translator.type}.{translator.name}@{brick.path}", _options(translator.opt)


def _options(opt: Any) -> dict[str, Any]:
    return {f"option.{name.replace('_', '-')}": value for name, value in vars(opt).items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def dump(volumes: Iterable[ServedVolume], process: Mapping[str, Any]) -> str:
    lines = []
    for name, values in sections(volumes, process):
        lines += ["", f"[{name}]", *(f"{key}={value}" for key, value in values.items())]
    return "\n".join(lines[1:]) + "\n"


def write_dump(volumes: Iterable[ServedVolume], process: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Write stacks and state to a new file in `folder` (default: RUN_DIR/dumps), and return its path."""
    folder = folder or run_dir() / "dumps"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"fusemux.{os.getpid()}.dump.{time.time_ns()}"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
        print(f"DUMP-START-TIME: {time.strftime('%Y-%m-%d %H:%M:%S')}", file=file)
        _tasks(file)
        file.flush()
        print("\n[threads]", file=file, flush=True)
        faulthandler.dump_traceback(file, all_threads=True)
        file.write("\n" + dump(volumes, process))
    return path


def _tasks(file: IO[str]) -> None:
    """The stack of every task, from the outermost."""
    root = trio.lowlevel.current_root_task()
    pending = [root] if root is not None else []
    while pending:
        task = pending.pop()
        print(f"\n[task {task.name}]", file=file)
        for frame, line in _frames(task.coro):
            print("".join(traceback.format_list(traceback.StackSummary.extract([(frame, line)]))), end="", file=file)
        pending += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def _frames(coroutine: Any) -> Iterable[tuple[Any, int]]:
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            return
        yield frame, frame.f_lineno
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
