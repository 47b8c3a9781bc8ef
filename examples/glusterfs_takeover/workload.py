"""What is written through one owner's mount, and how the whole tree looks through either one's."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

__all__ = ["Picture", "change", "differences", "picture", "populate"]

Picture = dict[str, dict[str, object]]
_NAMES = 24


def _text(name: str, size: int = 3000) -> bytes:
    return (name.encode() * (size // len(name) + 1))[:size]


def populate(top: Path) -> None:
    """While all copies are there.  `top` is new."""
    top.mkdir()
    for folder in ("d", "d/deep/er", "moved-from", "goes", "goes/in", "attrs"):
        (top / folder).mkdir(parents=True)
    for i in range(_NAMES):
        (top / "d" / f"f{i}").write_bytes(_text(f"f{i}"))
    for name in (
        "keep",
        "append",
        "cut",
        "gone",
        "again",
        "over",
        "overwritten",
        "to-move",
        "linked",
        "moved-from/x",
        "goes/in/y",
    ):
        (top / name).write_bytes(_text(name))
    (top / "big").write_bytes(_text("big", 3 << 20))
    _sparse(top / "sparse")
    os.link(top / "linked", top / "d/link")
    os.symlink("d/f0", top / "symlink")
    os.symlink("nowhere", top / "old-symlink")
    os.mkfifo(top / "fifo")
    os.setxattr(top / "keep", "user.kept", b"value")
    os.setxattr(top / "attrs", "user.dropped", b"value")
    for i in range(_NAMES // 2):  # on a distributed volume some of these leave link files
        os.rename(top / "d" / f"f{i}", top / "d" / f"renamed-{i}")
    os.utime(top / "keep", ns=(10**18 + 1, 10**18 + 2))


def change(top: Path) -> None:
    """While a copy may be away: one of each kind of change."""
    with open(top / "append", "ab") as file:
        file.write(_text("more", 200_000))
    with open(top / "big", "r+b") as file:
        file.seek(1 << 20)
        file.write(_text("middle", 5000))
    with open(top / "overwritten", "r+b") as file:
        file.write(_text("anew", 3000))
        os.fsync(file.fileno())
    os.truncate(top / "cut", 100)
    os.unlink(top / "gone")
    os.unlink(top / "again")
    (top / "again").write_bytes(b"another file of the same name\n")
    (top / "over.new").write_bytes(b"renamed over\n")
    os.rename(top / "over.new", top / "over")
    for i in range(_NAMES):
        (top / "d" / f"new-{i}").write_bytes(_text(f"new-{i}"))
    for i in range(_NAMES // 2, _NAMES):
        os.rename(top / "d" / f"f{i}", top / "d/deep" / f"g{i}")
    _names(top)
    _metadata(top)


def _names(top: Path) -> None:
    (top / "fresh/er/est").mkdir(parents=True)
    (top / "fresh/er/file").write_bytes(_text("fresh", 70_000))
    os.symlink("er/file", top / "fresh/symlink")
    os.unlink(top / "old-symlink")
    os.symlink("d", top / "old-symlink")
    os.mkfifo(top / "fresh/fifo", 0o640)
    os.mknod(top / "fresh/null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.rename(top / "moved-from", top / "d/moved-to")
    os.rename(top / "to-move", top / "d/deep/er/moved")
    os.link(top / "keep", top / "fresh/link-of-keep")
    os.unlink(top / "d/link")
    os.unlink(top / "goes/in/y")
    os.rmdir(top / "goes/in")
    os.rmdir(top / "goes")
    _sparse(top / "fresh/sparse")
    (top / "fresh/empty").touch()
    (top / "fresh/\xe4\xf6 \u20ac 'quoted'").write_bytes(b"a name\n")


def _metadata(top: Path) -> None:
    os.chmod(top / "keep", 0o640)
    os.chown(top / "linked", 1234, 4321)
    os.chmod(top / "attrs", 0o2750)
    os.removexattr(top / "attrs", "user.dropped")
    os.setxattr(top / "attrs", "user.added", b"\0\1\2")
    os.setxattr(top / "fresh/er/file", "user.fresh", b"fresh")
    os.chown(top / "fresh/er", 7, 8)
    os.chmod(top / "fresh/er/file", 0o4711)
    os.utime(top / "fresh/empty", ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.seek(5 << 20)
        file.write(b"end")


def picture(top: Path) -> Picture:
    """Everything below a mount that a program can see, but for inode numbers, link counts of directories and access times."""
    found: Picture = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder, name)
            found[str(path.relative_to(top))] = _look(path)
    return found


def _look(path: Path) -> dict[str, object]:
    status = os.lstat(path)
    seen: dict[str, object] = {
        "mode": oct(status.st_mode), "owner": (status.st_uid, status.st_gid), "mtime": status.st_mtime_ns,
        "ctime": status.st_ctime_ns, "rdev": status.st_rdev,
    }  # fmt: skip
    if not stat.S_ISDIR(status.st_mode):
        seen |= {"size": status.st_size, "links": status.st_nlink}
    if stat.S_ISREG(status.st_mode):
        seen["content"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if stat.S_ISLNK(status.st_mode):
        seen["target"] = os.readlink(path)
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        names = [name for name in os.listxattr(path) if name.startswith("user.")]
        seen["xattrs"] = {name: os.getxattr(path, name) for name in sorted(names)}
    return seen


def differences(expected: Picture, found: Picture, *, ctime: bool) -> list[str]:
    """Nothing when the two are alike; `ctime`: also in the times of change."""
    lines = [f"{path}: is missing" for path in sorted(expected.keys() - found.keys())]
    lines += [f"{path}: should not be there" for path in sorted(found.keys() - expected.keys())]
    for path in sorted(expected.keys() & found.keys()):
        before, now = expected[path], found[path]
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key) and (ctime or key != "ctime"):
                lines.append(f"{path}: {key} was {before.get(key)}, is {now.get(key)}")
    return lines
