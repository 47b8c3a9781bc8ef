"""Bricks that are full: ENOSPC for who writes, everything written before intact, and room again after a removal."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.fusemux.private import needs_root
from tests.mounting import Place
from tests.parity.conftest import BINDINGS

pytestmark = [pytest.mark.mount, needs_root]  # only root's ramdisks have a size of their own

SPECS = {
    "one brick": "distribute=1,size=24M",
    "distribute": "distribute=2,size=24M",
    "2x2": "distribute=2,replica=2,size=24M",
}
CHUNK = bytes(range(256)) * 4096  # 1 MiB


def filled(path: Path) -> bytes:
    """Write until there is no room, also none for the file itself; what was safe on the bricks by then."""
    safe = b""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    except OSError as error:
        assert error.errno == errno.ENOSPC
        return safe
    try:
        while True:
            count = os.write(fd, CHUNK)
            os.fsync(fd)
            safe += CHUNK[:count]
    except OSError as error:
        assert error.errno == errno.ENOSPC
        return safe
    finally:
        try:
            os.close(fd)
        except OSError as error:
            assert error.errno == errno.ENOSPC


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_full_volume_refuses_and_keeps_what_it_has(volume_place: Place, spec: str, binding: str) -> None:
    mount = volume_place.mount(spec, f"binding={binding}", "log-level=error")
    kept = {mount / f"kept{place}": b"%d " % place * 1000 for place in range(20)}
    for path, content in kept.items():
        path.write_bytes(content)
    safe = {mount / f"large{place}": filled(mount / f"large{place}") for place in range(4)}
    assert any(safe.values())
    for path, content in safe.items():
        assert not content or path.read_bytes()[: len(content)] == content
    assert {path: path.read_bytes() for path in kept} == kept
    for path in safe:
        path.unlink(missing_ok=True)
    (mount / "room again").write_bytes(CHUNK)
    assert (mount / "room again").read_bytes() == CHUNK
    volume_place.umount(mount)
