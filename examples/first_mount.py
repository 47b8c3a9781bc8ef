"""A first volume: mount 2x2 on ramdisks, write and read real files, see where they landed, unmount.

    ./try-it                            sets up what is missing and runs this
    .venv/bin/python examples/first_mount.py

Everything is gone afterwards.  It uses only what any program would: the command `fusemux`, and files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FUSEMUX = (sys.executable, "-m", "fusemux")
SOURCES = Path(__file__).resolve().parents[1] / "graph"


def main() -> int:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    folder = Path(tempfile.mkdtemp(prefix="first-mount-"))
    mount = folder / "mnt"
    mount.mkdir()
    try:
        mounted = subprocess.run([*FUSEMUX, "mount", "2x2", str(mount)], stdout=subprocess.DEVNULL, check=False)
        if mounted.returncode != 0:
            return mounted.returncode
        try:
            show(mount)
        finally:
            subprocess.run([*FUSEMUX, "umount", str(mount)], stdout=subprocess.DEVNULL, check=True)
        print("Unmounted; the ramdisks are gone.\n")
    finally:
        for directory in (mount, folder):  # never what is in them: where unmounting failed that would be the volume
            with contextlib.suppress(OSError):
                directory.rmdir()
    print(next_steps())
    return 0


def show(mount: Path) -> None:
    bricks = bricks_of(mount)
    print(f"Mounted a volume of {len(bricks)} bricks at {mount}: two sets (distribute) of two copies (replicate).")
    written = write(mount)
    size = sum(path.stat().st_size for path in written)
    print(f"Wrote {len(written)} files, {size / 2**20:.1f} MiB, through the mount: texts, a source tree, a large file.")
    wrong = [path for path, digest in written.items() if sha256(path) != digest]
    if wrong:
        raise SystemExit(f"these read back differently, which is a bug: {wrong}")
    print("Read all of them back: equal.\n\nWhere some of them are, as plain files in the bricks' directories:\n")
    print(table(mount, bricks, [path.relative_to(mount) for path in written]))


def write(mount: Path) -> dict[Path, str]:
    """Every file that was written, with the digest of what was meant."""
    written: dict[Path, str] = {}
    for name in ("oak", "birch", "willow", "rowan", "yew", "elder"):
        path = mount / f"{name}.txt"
        text = f"The {name} stands in the volume.\n" * 40
        path.write_text(text)
        written[path] = hashlib.sha256(text.encode()).hexdigest()
    for source in sorted(SOURCES.rglob("*.py")):
        path = mount / "sources" / source.relative_to(SOURCES)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, path)
        written[path] = sha256(source)
    large = os.urandom(1 << 20) * 16
    (mount / "large.bin").write_bytes(large)
    written[mount / "large.bin"] = hashlib.sha256(large).hexdigest()
    return written


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bricks_of(mount: Path) -> list[Path]:
    """Ask the serving process where its bricks are."""
    answer = subprocess.run([*FUSEMUX, "status", "--json"], check=True, capture_output=True, text=True).stdout
    for server in json.loads(answer)["servers"]:
        for volume in server["volumes"]:
            if volume["mount"] == str(mount.resolve()):
                return [Path(brick["path"]) for brick in volume["bricks"]]
    raise SystemExit(f"no server has a mount at {mount}")


def table(mount: Path, bricks: list[Path], files: list[Path]) -> str:
    shown = [path for path in files if path.parent == Path()] + [path for path in files if path.parent != Path()][:4]
    width = max(len(str(path)) for path in shown)
    lines = [f"  {'file':<{width}}{'bytes':>10}  " + "  ".join(f"{brick.name:<4}" for brick in bricks).rstrip()]
    for path in shown:
        marks = "  ".join(f"{'yes' if (brick / path).is_file() else '-':<4}" for brick in bricks)
        lines.append(f"  {path!s:<{width}}{(mount / path).stat().st_size:>10}  {marks}".rstrip())
    return "\n".join([*lines, "", *(f"  {brick.name} is {brick}" for brick in bricks), ""])


def next_steps() -> str:
    fusemux = Path(sys.executable).with_name("fusemux")
    command = str(fusemux.relative_to(Path.cwd())) if fusemux.is_relative_to(Path.cwd()) else str(fusemux)
    root = os.geteuid() == 0
    directory = "/mnt/volume" if root else "~/volume"
    data = "/srv" if root else "~"
    lines = [
        "A volume of your own, on ramdisks, gone with the unmount:",
        f"    mkdir -p {directory}",
        f"    {command} mount 2x2 {directory}",
        f"    {command} umount {directory}",
        "One that stays, in directories of yours:",
        f"    {command} volume create web replica 2 {data}/b0 {data}/b1 {data}/b2 {data}/b3",
        f"    {command} mount web {directory}",
    ]
    if root:
        lines += [
            "From fstab and mount(8), after the links are made once:",
            f"    {command} install-helper",
            f"    mount -t fusemux web {directory}",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
