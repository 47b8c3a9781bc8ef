"""`fusemux install-helper`: the links by which mount(8) finds us.

mount(8) runs /sbin/mount.TYPE; TYPE is `fusemux`, or `fuse.fusemux`, which is what /proc/mounts and many fstabs say.
"""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from pathlib import Path

from fusemux.cli.output import Output
from fusemux.graph.framework.errors import FusemuxError

__all__ = ["LINKS", "install_helper"]

LINKS = ("mount.fusemux", "mount.fuse.fusemux")


def install_helper(arguments: Namespace, output: Output) -> None:
    target = _target(arguments.target)
    folder = Path(arguments.prefix) / "sbin"
    done = {}
    for name in LINKS:
        path = folder / name
        try:
            done[str(path)] = _link(path, target, arguments.force)
        except PermissionError:
            raise FusemuxError(
                f"{path} cannot be made: permission denied; run this as root, or name a --prefix of yours"
            ) from None
        except OSError as error:
            raise FusemuxError(f"{path} cannot be made: {error.strerror}") from None
    lines = [f"{path} -> {target}: {what}" for path, what in done.items()]
    output.result({"target": target, "links": done}, "\n".join(lines))


def _target(given: str | None) -> str:
    """The program to link to."""
    beside = [Path(sys.argv[0]).absolute().parent / "mount.fusemux", Path(sys.executable).parent / "mount.fusemux"]
    found = given or next((str(path) for path in beside if path.exists()), None) or shutil.which("mount.fusemux")
    if found is None:
        raise FusemuxError("mount.fusemux is not installed; run `pip install .` first, or name it with --target")
    path = os.path.abspath(found)
    if not os.access(path, os.X_OK):
        raise FusemuxError(f"{path} is no program that could be linked to; name another one with --target")
    return path


def _link(path: Path, target: str, force: bool) -> str:
    """What was done."""
    if path.is_symlink() and os.readlink(path) == target:
        return "was there already"
    if os.path.abspath(path) == target:
        return "is the program itself"
    existed = os.path.lexists(path)
    if existed and not (path.is_symlink() or force):
        raise FusemuxError(f"{path} is there and no link; look at it, and use --force to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    os.symlink(target, fresh)
    os.replace(fresh, path)
    return "replaced" if existed else "made"
