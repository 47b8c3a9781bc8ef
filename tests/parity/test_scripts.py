"""Every script on every kind of volume: the same results, errnos and side effects as on tmpfs."""

from __future__ import annotations

import os

import pytest

from tests.parity.compare import differences
from tests.parity.conftest import Sides
from tests.parity.differences import OTHERWISE
from tests.parity.scripts import ROOT_ONLY, SCRIPTS

pytestmark = pytest.mark.mount


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_mount_does_what_tmpfs_does(sides: Sides, name: str, request: pytest.FixtureRequest) -> None:
    if name in ROOT_ONLY and os.geteuid() != 0:
        pytest.skip("only root can change owners and make devices")
    if reason := OTHERWISE[sides.binding].get(name):
        request.applymarker(pytest.mark.xfail(reason=reason))
    report = differences(sides.there.run(name), sides.here.run(name))
    assert not report, f"{name} on {sides.kind} through {sides.binding}:\n{report}"
