"""The histogram's layout and its percentiles; the C program must use the same layout."""

import random
import subprocess

import pytest

from fusemux.bench.generator import build_load_generator
from fusemux.bench.histogram import BUCKETS, Histogram, bucket_of, bucket_range


def test_every_latency_lies_within_the_range_of_its_bucket():
    draw = random.Random(1)
    for _ in range(2000):
        ns = draw.randrange(1 << draw.randrange(1, 42))
        low, high = bucket_range(bucket_of(ns))
        assert low <= ns < high


def test_ranges_touch_and_are_at_most_three_per_cent_wide():
    previous = 0
    for bucket in range(BUCKETS):
        low, high = bucket_range(bucket)
        assert low == previous
        assert high - low == 1 or (high - low) / low <= 1 / 32
        previous = high


def test_a_latency_of_hours_counts_in_the_last_bucket():
    assert bucket_of(1 << 60) == BUCKETS - 1


def test_percentiles_are_within_a_bucket_of_the_exact_ones():
    draw = random.Random(2)
    latencies = sorted(int(draw.lognormvariate(10, 1.5)) for _ in range(5000))
    histogram = Histogram()
    for ns in latencies:
        histogram.record(ns)
    for percent in (1, 50, 90, 99, 99.9):
        exact = latencies[int(len(latencies) * percent / 100) - 1]
        assert histogram.percentile_ns(percent) == pytest.approx(exact, rel=0.04)
    assert histogram.percentile_ns(100) <= latencies[-1]
    assert histogram.mean_ns == pytest.approx(sum(latencies) / len(latencies))


def test_histograms_add_up_to_that_of_all_latencies():
    parts = [Histogram() for _ in range(3)]
    whole, total = Histogram(), Histogram()
    for ns in range(0, 100_000, 37):
        parts[ns % 3].record(ns)
        whole.record(ns)
    for part in parts:
        total.add(part)
    assert total == whole
    assert Histogram.from_json(total.to_json()) == whole


def test_nothing_counted_is_zero():
    assert Histogram().percentile_ns(99) == 0
    assert Histogram().mean_ns == 0


def test_the_load_generator_counts_in_the_same_buckets():
    program = build_load_generator()
    if program is None:
        pytest.skip("no C compiler")
    latencies = [*range(200), *(1 << n for n in range(8, 45)), *((1 << n) - 1 for n in range(8, 45)), 12_345_678]
    answer = subprocess.run([program, "bucket", *map(str, latencies)], capture_output=True, text=True, check=True)
    assert [int(line) for line in answer.stdout.split()] == [bucket_of(ns) for ns in latencies]
