"""One load and what came of it: the load generator's command line and its answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fusemux.bench.generator import load_command
from fusemux.bench.histogram import Histogram
from fusemux.graph.framework.errors import FusemuxError

__all__ = ["Load", "LoadResult", "run_load"]


@dataclass(frozen=True)
class Load:
    """What shall be done where; the fields are the load generator's options of the same names."""

    mode: str
    directories: Sequence[Path]
    threads: int = 1
    count: int = 1000
    size: int = 4096
    block: int = 1 << 20
    passes: int = 1
    direct: bool = False
    force_sync: bool = False
    own_directories: bool = False

    def arguments(self) -> list[str]:
        numbers = [f"--{name}={getattr(self, name)}" for name in ("threads", "count", "size", "block", "passes")]
        flags = [
            f"--{name.replace('_', '-')}" for name in ("direct", "force_sync", "own_directories") if getattr(self, name)
        ]
        return [self.mode, *numbers, *flags, *map(str, self.directories)]

    def but(self, mode: str, **changes: Any) -> Load:
        """The same load with another mode and whatever else is named."""
        return replace(self, mode=mode, **changes)


@dataclass
class LoadResult:
    """What the load generator saw.  Errors are answers: nothing is raised for a call that failed."""

    mode: str
    threads: int
    operations: int
    bytes: int
    errors: int
    first_error: str
    cpu_s: float  # of the load generator
    phases: dict[str, float]  # seconds
    calls: dict[str, Histogram] = field(default_factory=dict)
    cached_bytes: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LoadResult:
        calls = {name: Histogram.from_json(call) for name, call in data["calls"].items()}
        return cls(**{**data, "calls": calls})

    @property
    def elapsed_s(self) -> float:
        return sum(self.phases.values())

    @property
    def operations_per_s(self) -> float:
        return self.operations / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def bytes_per_s(self) -> float:
        return self.bytes / self.elapsed_s if self.elapsed_s else 0.0


def run_load(load: Load, *, limit_s: float = 600.0, python: bool = False) -> LoadResult:
    """Run the load in a process of its own.  Raises FusemuxError when it cannot start or does not end within `limit_s`."""
    command = [*load_command(python=python), *load.arguments()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            where = ", ".join(map(str, load.directories[:3]))
            raise FusemuxError(
                f"load {load.mode!r} on {where} did not end within {limit_s:g} s; is the mount served?"
            ) from None
    if process.returncode != 0:
        raise FusemuxError(f"the load generator failed with status {process.returncode}: {err.strip()}")
    return LoadResult.from_json(json.loads(out))
