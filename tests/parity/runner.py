"""A process that runs scripts in one directory, and the tests' end of it.

Scripts run in forked children of a small process of their own: they change users, umasks and working directories, and on a
mount that hangs only that process hangs; the test kills it and says where it stopped.

    python -m tests.parity.runner DIRECTORY LACKS     (LACKS: a JSON object for World)
"""

from __future__ import annotations

import json
import os
import pickle
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.parity.world import Line, World, forked

ROOT = Path(__file__).resolve().parents[2]


class Hung(AssertionError):
    """A call did not come back in time."""


class Runner:
    """Runs scripts below `directory`, each in a folder of its own, and returns their transcripts."""

    def __init__(self, directory: Path, *, lacks: Mapping[str, str] | None = None, limit_s: float = 60) -> None:
        self.directory = directory
        self.limit_s = limit_s
        command = [sys.executable, "-m", "tests.parity.runner", str(directory), json.dumps(dict(lacks or {}))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def run(self, script: str) -> list[Line]:
        """The transcript of a script of the table, run in a new folder that is left behind."""
        return self._ask(("script", script))

    def step(self, folder: str, call: str, *args: Any) -> list[Line]:
        """One call in `folder`, for random sequences."""
        return self._ask(("step", folder, call, args))

    def _ask(self, request: tuple[Any, ...]) -> list[Line]:
        pickle.dump(request, self._in)
        self._in.flush()
        if not select.select([self._out], [], [], self.limit_s)[0]:
            self.close()
            raise Hung(f"{request[:3]} in {self.directory} did not end within {self.limit_s} s")
        good, answer = pickle.load(self._out)
        if not good:
            raise AssertionError(f"{request[:3]} in {self.directory}: {answer}")
        lines: list[Line] = answer
        return lines

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()


def _script(directory: Path, name: str, lacks: Mapping[str, str]) -> list[Line]:
    from tests.parity.scripts import SCRIPTS

    folder = directory / name
    folder.mkdir()
    os.umask(0o022)
    os.chdir(folder)
    world = World(lacks=lacks)
    SCRIPTS[name](world)
    return world.lines


def _serve(directory: Path, lacks: Mapping[str, str]) -> None:
    os.umask(0o022)
    worlds: dict[str, World] = {}
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if request[0] == "script":
                answer = forked(lambda name=request[1]: _script(directory, name, lacks))
            else:
                _, folder, call, args = request
                answer = _one(directory / folder, worlds.setdefault(folder, World(lacks=lacks)), call, args)
            reply = (True, answer)
        except Exception as error:
            reply = (False, str(error))
        pickle.dump(reply, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _one(folder: Path, world: World, call: str, args: tuple[Any, ...]) -> list[Line]:
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    world.lines = []
    try:
        getattr(world, call)(*args)
    finally:
        os.chdir("/")
    return world.lines


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), json.loads(sys.argv[2]))
