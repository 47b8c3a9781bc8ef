"""A brick is GlusterFS's, byte for byte: compared with one that GlusterFS 10.3 has made."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from fusemux.bricks.storage.posix import mdata
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.types import ROOT_GFID, SetAttr
from tests.bricks.serving import Place, Volume, run

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "brick-layout.json").read_text())
ENTRIES: dict[str, dict[str, Any]] = VECTORS["entries"]
# Made by translators above storage/posix.
ABOVE = (".glusterfs/indices", ".glusterfs/changelogs")
KINDS = {"dir": stat.S_IFDIR, "file": stat.S_IFREG, "symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO,
         "char": stat.S_IFCHR, "socket": stat.S_IFSOCK}  # fmt: skip
DELETED = ".glusterfs/unlink/2717575a-acfa-4a18-9028-aa06783b3aa5"


def users_entries() -> list[str]:
    """What users made, parents first; the hard link after the file."""
    return sorted(path for path in ENTRIES if not path.startswith(".") and path != "dir/hardlink")


def gfid_at(path: str) -> bytes:
    return ROOT_GFID if path == "." else bytes.fromhex(ENTRIES[path]["xattr"]["trusted.gfid"])


def times_at(path: str) -> SetAttr:
    times = mdata.unpack(bytes.fromhex(ENTRIES[path]["xattr"]["trusted.glusterfs.mdata"]))
    assert times is not None
    return SetAttr(ctime_ns=times[0], mtime_ns=times[1], atime_ns=times[2])


class Builder:
    """Makes the captured tree through fops, with the captured gfids and times."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.top = volume.top
        self.fds: list[Fd] = []

    def inode(self, path: str) -> Inode:
        return self.volume.graph.itable.link(gfid_at(path), KINDS[ENTRIES[path]["type"]])

    def parent(self, path: str) -> tuple[Inode, bytes]:
        folder, _, name = path.rpartition("/")
        return self.inode(folder or "."), name.encode()

    async def make(self, path: str) -> None:
        entry, frame = ENTRIES[path], self.volume.frame()
        parent, name = self.parent(path)
        mode, gfid = int(entry["mode"], 8), gfid_at(path)
        match entry["type"]:
            case "dir":
                layout = {b"trusted.glusterfs.dht": bytes.fromhex(entry["xattr"]["trusted.glusterfs.dht"])}
                await self.top.mkdir(frame, parent, name, mode, gfid, layout)
            case "symlink":
                await self.top.symlink(frame, parent, name, entry["target"].encode(), gfid, None)
            case "file":
                await self.make_file(parent, name, path)
            case _:
                rdev = os.makedev(*entry["rdev"]) if "rdev" in entry else 0
                await self.top.mknod(frame, parent, name, KINDS[entry["type"]] | mode, rdev, gfid, None)

    async def make_file(self, parent: Inode, name: bytes, path: str) -> None:
        inode = self.inode(path)
        fd = self.volume.fd(inode)
        await self.top.create(
            self.volume.frame(), parent, name, os.O_RDWR, int(ENTRIES[path]["mode"], 8), inode.gfid, fd, None
        )
        await self.top.writev(self.volume.frame(), fd, ENTRIES[path]["content"].encode(), 0, None)
        self.fds.append(fd)

    async def build(self) -> None:
        for path in users_entries():
            await self.make(path)
        await self.top.link(self.volume.frame(), self.inode("file"), *self.parent("dir/hardlink"), None)
        await self.make_file(self.volume.root, b"deleted-open", DELETED)
        await self.top.unlink(self.volume.frame(), self.volume.root, b"deleted-open", self.inode(DELETED), None)
        for path in [*users_entries(), DELETED, "."]:
            await self.top.setattr(self.volume.frame(), self.inode(path), times_at(path), None)


def captured(place: Place, path: str) -> dict[str, Any]:
    """An entry of a brick, as the vectors describe one."""
    full = place.path / path
    st = full.lstat()
    kind = next(name for name, bits in KINDS.items() if stat.S_IFMT(st.st_mode) == bits)
    entry: dict[str, Any] = {"type": kind, "mode": f"{stat.S_IMODE(st.st_mode):o}", "nlink": st.st_nlink}
    if kind == "symlink":
        entry["target"] = os.readlink(full)
    if kind == "char":
        entry["rdev"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
    if kind == "file":
        entry["size"] = st.st_size
    names = os.listxattr(full, follow_symlinks=False)
    entry["xattr"] = {name: os.getxattr(full, name, follow_symlinks=False).hex() for name in sorted(names)}
    if kind == "file":
        entry["content"] = full.read_text()
    return entry


def everything(place: Place) -> set[str]:
    """All paths of a brick, one of the first-level handle folders left out if it is empty."""
    found = {"."}
    for folder, folders, files in os.walk(place.path):
        for name in [*folders, *files]:
            path = str(Path(folder, name).relative_to(place.path))
            if not (path.startswith(".glusterfs/") and path.count("/") == 1 and len(name) == 2):
                found.add(path)
    return found


def test_a_tree_made_through_fops_equals_the_one_that_glusterfs_made(plain: Place) -> None:
    async def scenario(volume: Volume) -> None:
        builder = Builder(volume)
        await builder.build()
        expected = {path: entry for path, entry in ENTRIES.items() if not path.startswith(ABOVE)}
        assert everything(plain) == set(expected)
        for path, entry in expected.items():
            found = captured(plain, path)
            if path in (".glusterfs", "."):
                found["nlink"] = entry["nlink"]  # depends on what the translators above keep there
            assert found == entry, path
        for fd in builder.fds:
            await volume.top.release(volume.frame(), fd, None)
        assert not (plain.path / DELETED).exists()

    run(plain, scenario)


def test_first_level_handle_folders_are_all_there_and_private(plain: Place) -> None:
    folders = [plain.path / ".glusterfs" / f"{byte:02x}" for byte in range(256)]
    assert {f"{stat.S_IMODE(folder.stat().st_mode):o}" for folder in folders} == {VECTORS["hex_dir_entry"]["mode"]}


def there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def lay_down(place: Place) -> None:
    """The captured brick, made with plain system calls."""
    for path in sorted(path for path in ENTRIES if not path.startswith(ABOVE)):
        full = place.path / path
        if there(full):
            continue
        full.parent.mkdir(parents=True, exist_ok=True)
        group = next((group for group in VECTORS["inode_groups"] if path in group), [])
        same = next((place.path / other for other in group if there(place.path / other)), None)
        if same is not None:
            os.link(same, full, follow_symlinks=False)
        else:
            lay_down_one(full, ENTRIES[path])


def lay_down_one(full: Path, entry: dict[str, Any]) -> None:
    match entry["type"]:
        case "dir":
            full.mkdir()
        case "symlink":
            full.symlink_to(entry["target"])
        case "file":
            full.write_text(entry["content"])
        case _:
            os.mknod(full, KINDS[entry["type"]] | int(entry["mode"], 8), os.makedev(*entry.get("rdev", (0, 0))))
    if entry["type"] != "symlink":
        full.chmod(int(entry["mode"], 8))
    for name, value in entry["xattr"].items():
        os.setxattr(full, name, bytes.fromhex(value), follow_symlinks=False)


def test_a_brick_that_glusterfs_made_is_served(plain: Place) -> None:
    lay_down(plain)

    async def scenario(volume: Volume) -> None:
        assert await volume.names() == sorted(p.encode() for p in ENTRIES if "/" not in p and not p.startswith("."))
        for path in [*users_entries(), "dir/hardlink"]:
            folder, _, name = path.rpartition("/")
            parent = volume.graph.itable.link(gfid_at(folder or "."), stat.S_IFDIR)
            entry, iatt = ENTRIES[path], await volume.lookup(name.encode(), parent)
            assert (iatt.gfid, iatt.type) == (gfid_at(path), KINDS[entry["type"]])
            assert iatt.nlink == entry["nlink"] - (entry["type"] != "dir")
            attrs = times_at(path)
            assert (iatt.ctime_ns, iatt.mtime_ns, iatt.atime_ns) == (attrs.ctime_ns, attrs.mtime_ns, attrs.atime_ns)
        two = volume.graph.itable.link(gfid_at("dir/sub/two"), stat.S_IFREG)
        assert await volume.read(two) == b"second\n"

    run(plain, scenario)
    assert not (plain.path / DELETED).exists(), "what a crash left in unlink is purged at start"
