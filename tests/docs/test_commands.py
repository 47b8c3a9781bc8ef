"""The commands in README.md and docs/ exist, parse, and the tours among them run as they stand there."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mounting import Place

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(?P<info>\S[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s{2,}#.*$|^#.*$", re.MULTILINE)


class Block(NamedTuple):
    page: str
    line: int
    info: str
    body: str


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in _BLOCK.finditer(text):
            found.append(Block(page.name, text.count("\n", 0, match.start()) + 1, match["info"], match["body"]))
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    for block in blocks():
        if block.info.startswith("sh"):
            for line in _COMMENT.sub("", block.body).splitlines():
                words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
                if words:
                    yield f"{block.page}:{block.line} {line.strip()}", words


COMMANDS = [pytest.param(words, id=where) for where, words in commands()]
TOURS = [pytest.param(block.body, id=f"{block.page}:{block.line}") for block in blocks() if block.info == "sh run"]
KNOWN = {"cd", "cp", "echo", "ls", "mkdir", "mount", "umount", "cat", "pip"}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_the_docs_exists_and_parses(words: list[str]) -> None:
    program, *arguments = words
    if program == "fusemux" and arguments[0] != "bench":
        from fusemux.cli.parser import parse

        parse(arguments)
    elif program.startswith(("./", "scripts/", ".ci/")):
        assert os.access(ROOT / program, os.X_OK), f"{program} is no program"
        assert all((ROOT / word).exists() for word in arguments if word.startswith("tests/")), arguments
    elif program == "python":
        assert importlib.util.find_spec(arguments[1]) if arguments[0] == "-m" else (ROOT / arguments[0]).exists()
    else:
        assert program in KNOWN or program == "fusemux", f"is {program} really part of what a reader has?"


@pytest.mark.mount
@pytest.mark.slow
@pytest.mark.parametrize("tour", TOURS)
def test_a_tour_runs_as_it_stands(tour: str, volume_place: Place) -> None:
    """In one shell that stops at the first failure, in an empty folder; `fusemux` is this checkout's."""
    bin = volume_place.root / "bin"
    bin.mkdir()
    for name, module in (("fusemux", "fusemux"), ("mount.fusemux", "fusemux.mount")):
        (bin / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        (bin / name).chmod(0o755)
    folder = volume_place.root / "here"
    folder.mkdir()
    (folder / "mnt").mkdir()
    volume_place.environment["PATH"] = f"{bin}:{os.environ['PATH']}"
    volume_place.run("sh", "-eux", "-c", tour, cwd=folder)
    assert volume_place.mounts() == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
