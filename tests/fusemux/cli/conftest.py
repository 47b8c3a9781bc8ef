"""The command line against a volume that is mounted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from fusemux.cli.main import main
from fusemux.testing.volume import Volume


class Done(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture
def fusemux(
    fusemux_volume: Volume, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], _own_directories: None
) -> Command:
    """`fusemux("volume", "heal", ...)`, which sees the volume of the test."""
    for name in ("FUSEMUX_RUN_DIR", "FUSEMUX_STATE_DIR"):
        monkeypatch.setenv(name, fusemux_volume.env[name])

    def command(*words: str) -> Done:
        capsys.readouterr()
        return Done(main(words), *capsys.readouterr())

    return command
