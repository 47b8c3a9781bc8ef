"""Latency histograms with logarithmic buckets: what the load generator counts, turned into percentiles.

32 buckets to each power of two, so a bucket is at most 3 % wide: 0..31 ns have a bucket each; above, the bucket of `ns`
is its leading six bits and how far they stand from the right.  The same layout is computed in loadgen/histogram.h; a
test compares the two.  Histograms of several threads, processes or runs add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BUCKETS", "Histogram", "bucket_of", "bucket_range"]

SUB_BITS = 5
BUCKETS = 1248  # up to 2^42 ns, more than an hour; whatever is longer counts in the last


def bucket_of(ns: int) -> int:
    """The bucket of a latency in nanoseconds."""
    if ns < 1 << SUB_BITS:
        return ns
    shift = ns.bit_length() - 1 - SUB_BITS
    return min((shift << SUB_BITS) + (ns >> shift), BUCKETS - 1)


def bucket_range(bucket: int) -> tuple[int, int]:
    """The lowest latency that falls into `bucket`, and the lowest that does not any more."""
    if bucket < 2 << SUB_BITS:
        return bucket, bucket + 1
    shift = (bucket >> SUB_BITS) - 1
    lowest = (bucket - (shift << SUB_BITS)) << shift
    return lowest, lowest + (1 << shift)


@dataclass
class Histogram:
    """Latencies of one kind of call."""

    count: int = 0
    errors: int = 0
    total_ns: int = 0
    max_ns: int = 0
    buckets: Counter[int] = field(default_factory=Counter)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Histogram:
        buckets = Counter({int(bucket): count for bucket, count in data["buckets"].items()})
        return cls(data["count"], data["errors"], data["total_ns"], data["max_ns"], buckets)

    def to_json(self) -> dict[str, Any]:
        buckets = {str(bucket): count for bucket, count in sorted(self.buckets.items())}
        return {
            "count": self.count, "errors": self.errors, "total_ns": self.total_ns, "max_ns": self.max_ns, "buckets": buckets,
        }  # fmt: skip

    def record(self, ns: int) -> None:
        self.count += 1
        self.total_ns += ns
        self.max_ns = max(self.max_ns, ns)
        self.buckets[bucket_of(ns)] += 1

    def add(self, other: Histogram) -> None:
        """Count what `other` counted."""
        self.count += other.count
        self.errors += other.errors
        self.total_ns += other.total_ns
        self.max_ns = max(self.max_ns, other.max_ns)
        self.buckets.update(other.buckets)

    def percentile_ns(self, percent: float) -> float:
        """The latency that `percent` of the calls do not exceed: the middle of its bucket, at most `max_ns`; 0 without calls."""
        wanted = self.count * percent / 100
        seen = 0
        for bucket, count in sorted(self.buckets.items()):
            seen += count
            if seen >= wanted:
                low, high = bucket_range(bucket)
                return min((low + high - 1) / 2, self.max_ns)
        return self.max_ns

    @property
    def mean_ns(self) -> float:
        return self.total_ns / self.count if self.count else 0.0
