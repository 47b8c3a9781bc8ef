"""Git in a volume: make a repository with a history, clone it, commit, branch, merge, collect garbage, check.

python -m tests.programs.git DIR [COMMITS]
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path


def git(*words: str, cwd: Path) -> str:
    environment = os.environ | {
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "fusemux", "GIT_AUTHOR_EMAIL": "fusemux@localhost",
        "GIT_COMMITTER_NAME": "fusemux", "GIT_COMMITTER_EMAIL": "fusemux@localhost",
    }  # fmt: skip
    done = subprocess.run(
        ["git", *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"git {' '.join(words)} in {cwd}: {done.stdout}{done.stderr}")
    return done.stdout


def change(tree: Path, rng: random.Random, step: int) -> None:
    """Write, rewrite, move and remove some files."""
    for _ in range(8):
        path = tree / f"dir{rng.randrange(6)}" / f"file{rng.randrange(40)}.txt"
        path.parent.mkdir(exist_ok=True)
        match rng.randrange(5):
            case 0 if path.exists():
                path.unlink()
            case 1 if path.exists():
                path.rename(path.with_name(f"moved{step}-{rng.randrange(100)}.txt"))
            case 2:
                path.write_bytes(rng.randbytes(rng.randrange(60_000)))
            case _:
                with open(path, "a") as file:
                    file.writelines(f"{step} {rng.random()}\n" for _ in range(rng.randrange(1, 60)))


def history(tree: Path, commits: int, seed: int) -> None:
    rng = random.Random(seed)
    tree.mkdir()
    git("init", "-q", "-b", "main", cwd=tree)
    for step in range(commits):
        change(tree, rng, step)
        git("add", "-A", cwd=tree)
        git("commit", "-q", "--allow-empty", "-m", f"step {step}", cwd=tree)


def load(directory: Path, commits: int = 20, seed: int = 1) -> None:
    """Raises AssertionError where git, or what comes back, is wrong."""
    origin, clone, far = directory / "origin", directory / "clone", directory / "far"
    history(origin, commits, seed)
    git("clone", "-q", "--no-local", str(origin), str(clone), cwd=directory)
    git("clone", "-q", "--mirror", str(clone), str(far), cwd=directory)
    git("checkout", "-q", "-b", "work", "HEAD~3", cwd=clone)
    (clone / "own.txt").write_text("of the branch\n")
    git("add", "-A", cwd=clone)
    git("commit", "-q", "-m", "on the branch", cwd=clone)
    git("merge", "-q", "--no-edit", "origin/main", cwd=clone)
    git("push", "-q", str(far), "work", cwd=clone)
    git("stash", cwd=clone)
    git("gc", "-q", "--aggressive", "--prune=now", cwd=clone)
    for repository in (origin, clone, far):
        git("fsck", "--full", "--strict", cwd=repository)
    assert git("status", "--porcelain", cwd=clone) == ""
    assert git("rev-parse", "work", cwd=clone) == git("rev-parse", "work", cwd=far)
    fresh = directory / "fresh"
    git("clone", "-q", str(far), str(fresh), "-b", "work", cwd=directory)
    assert contents(fresh) == contents(clone)
    for tree in (origin, clone, far, fresh):
        shutil.rmtree(tree)


def contents(tree: Path) -> dict[str, bytes]:
    files = (path for path in tree.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(tree)): path.read_bytes() for path in files}


if __name__ == "__main__":
    load(Path(sys.argv[1]), *(int(word) for word in sys.argv[2:3]))
