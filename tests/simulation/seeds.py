"""Many seeds: a few processes, each with directories that it uses again and again."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.graph.cluster.replicate.volume import TEMPORARY
from tests.simulation.ground import Ground
from tests.simulation.run import simulate

__all__ = ["KINDS", "Job", "run_all"]

KINDS = ((2, False), (3, False), (3, True))  # copies, and whether the last one is an arbiter
_AT_ONCE = 16


class Job(NamedTuple):
    seed: int
    copies: int
    arbiter: bool

    @property
    def words(self) -> str:
        """For the command line."""
        return f"--seed {self.seed} --copies {self.copies}{' --arbiter' if self.arbiter else ''}"


def run_all(jobs: Sequence[Job], *, processes: int) -> Iterator[str]:
    """What failed, with how to replay it, as it fails."""
    # Not forked: the caller may have threads, and the order of sets is part of what must replay.
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(dir=TEMPORARY) as base,
        _ordered_sets(),
        spawn.Pool(processes, _prepare, (base,)) as pool,
    ):
        yield from filter(None, pool.imap_unordered(_one, jobs, chunksize=_AT_ONCE))


@contextmanager
def _ordered_sets() -> Iterator[None]:
    """For the processes that are started meanwhile."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        yield
    finally:
        del os.environ["PYTHONHASHSEED"]
        if before is not None:
            os.environ["PYTHONHASHSEED"] = before


_ground: Ground | None = None


def _prepare(base: str) -> None:
    global _ground
    logging.getLogger("fusemux").setLevel(logging.CRITICAL)  # bricks die all the time
    gc.set_threshold(100_000, 20, 100)  # graphs come and go; the default looks at the lasting ones over and over
    _ground = Ground(base).__enter__()  # who made `base` removes it


def _one(job: Job) -> str:
    assert _ground is not None
    try:
        simulate(job.seed, _ground, copies=job.copies, arbiter=job.arbiter)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"replay it with: python -m tests.simulation {job.words} --verbose\n{traceback.format_exc(limit=-6)}"
    return ""
