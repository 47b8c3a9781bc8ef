"""One mount for each kind of volume and each binding, with the tmpfs that it is compared with."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import mounting
from tests.mounting import Place
from tests.parity.differences import lacks
from tests.parity.runner import Runner
from tests.parity.world import Line

KINDS = {"one brick": "1", "distribute": "2", "2x2": "2x2"}
_MODULES = {"kernel": "fusemux.fuse.kernel.binding", "pyfuse3": "fusemux.fuse.pyfuse3_binding"}
BINDINGS = tuple(name for name in mounting.BINDINGS if importlib.util.find_spec(_MODULES[name]))


class Reference:
    """The tmpfs side for one binding; every script runs there once."""

    def __init__(self, folder: Path, binding: str) -> None:
        folder.mkdir()
        self.runner = Runner(folder, lacks=lacks(binding))
        self._transcripts: dict[str, list[Line]] = {}

    def run(self, script: str) -> list[Line]:
        if script not in self._transcripts:
            self._transcripts[script] = self.runner.run(script)
        return self._transcripts[script]


class Sides:
    """A mounted volume and a tmpfs, each with a process that runs scripts in it."""

    def __init__(self, place: Place, kind: str, binding: str, reference: Reference) -> None:
        self.kind = kind
        self.binding = binding
        self.mount = place.mount(KINDS[kind], f"binding={binding}")
        self.there = reference
        self.here = Runner(self.mount)


@pytest.fixture(scope="module")
def references(tmpfs: Path) -> Iterator[dict[str, Reference]]:
    made = {binding: Reference(tmpfs / binding, binding) for binding in BINDINGS}
    yield made
    for reference in made.values():
        reference.runner.close()


@pytest.fixture(
    scope="module",
    params=[(kind, binding) for binding in BINDINGS for kind in KINDS],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def sides(request: pytest.FixtureRequest, references: dict[str, Reference]) -> Iterator[Sides]:
    kind, binding = request.param
    if reason := mounting.why_not_mount():
        pytest.skip(reason)
    with mounting.place() as place:
        made = Sides(place, kind, binding, references[binding])
        try:
            yield made
        finally:
            made.here.close()
        if os.path.ismount(made.mount):
            place.umount(made.mount)
        assert not (log := place.log(made.mount)), f"the server warned:\n{log}"
