"""Bricks handed over between fusemux and a real GlusterFS: the example's checks, one test for each shape and scenario."""

from __future__ import annotations

import functools
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "glusterfs_takeover"
LIMIT_S = 240  # of one shape; it takes a fraction of it
WHY_NOT = runpy.run_path(str(EXAMPLE / "machine.py"))["why_not"]()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.mount,
    pytest.mark.timeout(LIMIT_S + 30),
    pytest.mark.skipif(bool(WHY_NOT), reason=f"needs a real GlusterFS: {WHY_NOT}"),
]

REPLICATED = ("replica 2", "replica 3", "2x2")


@functools.cache
def played(shape: str, *more: str) -> tuple[dict[str, dict[str, list[str]]], str]:
    """Of each scenario what was checked and what was wrong; and what the run had to say besides."""
    # Scenarios of one shape follow each other on one volume: its second owner finds what the first one left.
    command = [sys.executable, EXAMPLE, shape, "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    checks: dict[str, dict[str, list[str]]] = {}
    for line in done.stdout.splitlines():
        _, scenario, what, problems = json.loads(line)
        checks.setdefault(scenario, {})[what] = problems
    return checks, done.stderr


def wrong(shape: str, scenario: str, *expected: str, more: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """The checks that found something; all of `expected` must have been made."""
    checks, said = played(shape, *more)
    made = checks.get(scenario, {})
    missing = [start for start in expected if not any(what.startswith(start) for what in made)]
    assert not missing, f"{shape}, {scenario}: not checked: {missing}\n{said}"
    return {what: problems for what, problems in made.items() if problems}


@pytest.mark.parametrize("shape", REPLICATED)
def test_glusterfs_heals_what_fusemux_wrote_while_a_brick_was_down(shape: str) -> None:
    checks = ("a heal is pending", "GlusterFS shows", "GlusterFS's client", "and again", "heal info", "the copies")
    assert wrong(shape, "fusemux_writes", *checks) == {}


def test_glusterfs_adopts_and_heals_a_volume_that_fusemux_has_created() -> None:
    more = ("--made-by=fusemux", "--only=fusemux_writes")
    checks = ("a heal is pending", "GlusterFS shows", "GlusterFS's client", "and again", "heal info", "the copies")
    assert wrong("replica 2", "fusemux_writes", *checks, more=more) == {}


@pytest.mark.parametrize("shape", REPLICATED)
def test_fusemux_heals_what_glusterfs_wrote_while_a_brick_was_down(shape: str) -> None:
    assert wrong(shape, "gluster_writes", "fusemux shows", "heal info", "fusemux logged", "the copies") == {}


@pytest.mark.parametrize("shape", REPLICATED)
def test_glusterfs_heals_after_the_server_was_killed_in_the_middle_of_fops(shape: str) -> None:
    checks = (*(f"nothing of crash-{i}" for i in range(5)), "the copies")
    assert wrong(shape, "fusemux_dies", *checks) == {}


def test_an_arbiter_is_handed_over_too() -> None:
    more = ("--only=fusemux_writes", "--only=gluster_writes")
    assert wrong("arbiter", "fusemux_writes", "a heal is pending", "GlusterFS shows", "the copies", more=more) == {}
    assert wrong("arbiter", "gluster_writes", "fusemux shows", "heal info", "the copies", more=more) == {}


def test_a_distributed_volume_is_taken_over_with_its_layouts_and_link_files() -> None:
    more = ("--only=fusemux_writes", "--only=gluster_writes")
    checks = ("GlusterFS shows", "GlusterFS's client", "and again", "the copies")
    assert wrong("distribute", "fusemux_writes", *checks, more=more) == {}
    assert wrong("distribute", "gluster_writes", "fusemux shows", "the copies", more=more) == {}
