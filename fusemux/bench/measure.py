"""One measurement: a load on a target, with what it cost its servers; several of them, and their median."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fusemux.bench.accounting import Cost
from fusemux.bench.load import Load, LoadResult, run_load
from fusemux.bench.targets import Target, plain

__all__ = ["Measurement", "call_json", "errors_of", "measure", "median_by", "touch_memory"]

T = TypeVar("T")


@dataclass(frozen=True)
class Measurement:
    """What one load on one target gave."""

    target: str
    load: LoadResult
    cost: Cost

    @property
    def per_s(self) -> float:
        return self.load.operations_per_s

    @property
    def bytes_per_s(self) -> float:
        return self.load.bytes_per_s

    @property
    def cpu_per_operation_s(self) -> float:
        """The servers' CPU seconds per operation."""
        return self.cost.cpu_s / self.load.operations if self.load.operations else 0.0

    def to_json(self) -> dict[str, Any]:
        load = self.load
        return {
            "target": self.target, "operations": load.operations, "errors": load.errors, "first_error": load.first_error,
            "elapsed_s": round(load.elapsed_s, 6), "per_s": round(self.per_s, 1),
            "bytes_per_s": round(self.bytes_per_s), "cpu_s": round(self.cost.cpu_s, 4),
            "cpu_system_s": round(self.cost.system_s, 2), "cpu_us_per_operation": round(self.cpu_per_operation_s * 1e6, 2),
            "load_cpu_s": round(load.cpu_s, 4), "phases_s": {name: round(s, 6) for name, s in load.phases.items()},
            "calls": {name: call_json(histogram) for name, histogram in load.calls.items()},
        }  # fmt: skip


def call_json(histogram: Any) -> dict[str, Any]:
    """What people ask of one kind of call, in microseconds."""
    return {
        "count": histogram.count, "errors": histogram.errors, "mean_us": round(histogram.mean_ns / 1000, 2),
        "p50_us": round(histogram.percentile_ns(50) / 1000, 2), "p99_us": round(histogram.percentile_ns(99) / 1000, 2),
        "max_us": round(histogram.max_ns / 1000, 2),
    }  # fmt: skip


def measure(target: Target, load: Load, *, limit_s: float = 600.0, python: bool = False) -> Measurement:
    """Put `load` on `target` and account for it.  Raises FusemuxError when the server dies or the load hangs."""
    before = target.cpu()
    result = run_load(load, limit_s=limit_s, python=python)
    return Measurement(target.name, result, target.cpu().since(before))


def median_by(runs: Iterable[T], key: Callable[[T], float]) -> T:
    """The run in the middle when ordered by `key`: a real run, not a mixture of several (the lower one of two)."""
    ordered: Sequence[T] = sorted(runs, key=key)
    return ordered[(len(ordered) - 1) // 2]


def errors_of(runs: Iterable[Measurement]) -> int:
    return sum(run.load.errors for run in runs)


def touch_memory(size_bytes: int) -> None:
    """Write so much memory once, so that the first to be measured has no disadvantage.

    A virtual machine gets memory from its host when it is first touched, at a tenth of the speed.
    """
    with plain() as target:
        run_load(Load("write", target.directories, size=size_bytes, block=1 << 20))
