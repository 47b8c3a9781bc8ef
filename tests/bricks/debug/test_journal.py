"""A power cut that takes names and attributes: a brick is again what it was at its last sync."""

from __future__ import annotations

import os
import pkgutil
import random
import stat
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fusemux.bricks.debug import recording
from fusemux.bricks.storage import posix
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import SetAttr
from fusemux.testing.graph import GraphVolume

ONE = pytest.mark.fusemux("1", backend="graph", volatile="names")
THREE = pytest.mark.fusemux(replica=3, backend="graph", volatile="names", options={"cluster.self-heal-daemon": "off"})
EXCHANGE, NOREPLACE = 2, 1
ACL = bytes.fromhex("0200000001000600ffffffff02000600e803000004000400ffffffff10000600ffffffff20000000ffffffff")

Change = Callable[[GraphVolume], Awaitable[Any]]


async def make(volume: GraphVolume) -> None:
    """What every change finds, synced."""
    for folder in ("/dir", "/dir/empty", "/other"):
        await volume.mkdir(folder)
    for file in ("/file", "/dir/file", "/linked"):
        await volume.write(file, b"old" * 3000)
    await link(volume, "/linked", "/dir/link")
    await symlink(volume, "/symlink")
    await setxattr(volume, "/file", b"user.old", b"value")
    await sync(volume)


async def sync(volume: GraphVolume) -> None:
    await volume.top.syncfs(volume.frame, await volume.lookup("/"), None)


async def place(volume: GraphVolume, path: str) -> tuple[Any, bytes]:
    above, _, name = path.rpartition("/")
    return await volume.lookup(above), name.encode()


async def link(volume: GraphVolume, old: str, new: str) -> None:
    await volume.top.link(volume.frame, await volume.lookup(old), *await place(volume, new), None)


async def symlink(volume: GraphVolume, path: str) -> None:
    await volume.top.symlink(volume.frame, *await place(volume, path), b"text", volume.process.new_gfid(), None)


async def mknod(volume: GraphVolume, path: str, kind: int) -> None:
    gfid = volume.process.new_gfid()
    await volume.top.mknod(volume.frame, *await place(volume, path), kind | 0o640, 0, gfid, None)


async def rmdir(volume: GraphVolume, path: str) -> None:
    await volume.top.rmdir(volume.frame, *await place(volume, path), await volume.lookup(path), None)


async def rename(volume: GraphVolume, old: str, new: str, flags: int) -> None:
    replaced = await volume.lookup(new) if flags & EXCHANGE else None
    places = *await place(volume, old), *await place(volume, new)
    await volume.top.rename(volume.frame, *places, await volume.lookup(old), replaced, flags, None)


async def setattr_(volume: GraphVolume, path: str, **attrs: int) -> None:
    await volume.top.setattr(volume.frame, await volume.lookup(path), SetAttr(**attrs), None)


async def setxattr(volume: GraphVolume, path: str, name: bytes, value: bytes) -> None:
    await volume.top.setxattr(volume.frame, await volume.lookup(path), {name: value}, 0, None)


async def remove_open(volume: GraphVolume) -> None:
    async with volume.open("/file") as file:
        await volume.unlink("/file")
        await file.write(b"new")


async def rename_over_open(volume: GraphVolume) -> None:
    async with volume.open("/file"):
        await volume.rename("/dir/file", "/file")


CHANGES: dict[str, Change] = {
    "create": lambda volume: volume.write("/new", b"new" * 3000),
    "create over": lambda volume: volume.write("/file", b"new"),
    "mkdir": lambda volume: volume.mkdir("/dir/new"),
    "symlink": lambda volume: symlink(volume, "/dir/new-symlink"),
    "fifo": lambda volume: mknod(volume, "/fifo", stat.S_IFIFO),
    "mknod": lambda volume: mknod(volume, "/node", stat.S_IFREG),
    "link": lambda volume: link(volume, "/file", "/dir/another"),
    "unlink": lambda volume: volume.unlink("/dir/file"),
    "unlink one of two": lambda volume: volume.unlink("/linked"),
    "unlink a symlink": lambda volume: volume.unlink("/symlink"),
    "unlink an open file": remove_open,
    "rmdir": lambda volume: rmdir(volume, "/dir/empty"),
    "rename": lambda volume: volume.rename("/file", "/dir/renamed"),
    "rename over": lambda volume: volume.rename("/file", "/dir/file"),
    "rename over one of two": lambda volume: volume.rename("/file", "/linked"),
    "rename over an open file": rename_over_open,
    "rename a directory": lambda volume: volume.rename("/dir", "/other/dir"),
    "rename over a directory": lambda volume: volume.rename("/other", "/dir/empty"),
    "rename to a free name": lambda volume: rename(volume, "/file", "/free", NOREPLACE),
    "exchange": lambda volume: rename(volume, "/file", "/dir", EXCHANGE),
    "chmod": lambda volume: setattr_(volume, "/file", mode=0o4711),
    "chmod of a directory": lambda volume: setattr_(volume, "/dir", mode=0o1700),
    "chown": lambda volume: setattr_(volume, "/file", uid=os.geteuid(), gid=os.getegid(), mode=0o600),
    "times": lambda volume: setattr_(volume, "/dir/file", mtime_ns=10**9, atime_ns=10**9),
    "set an xattr": lambda volume: setxattr(volume, "/file", b"user.new", b"value"),
    "change an xattr": lambda volume: setxattr(volume, "/file", b"user.old", b"another"),
    "ACL": lambda volume: setxattr(volume, "/file", b"system.posix_acl_access", ACL),
}  # fmt: skip


def contents(path: str) -> dict[str, tuple[Any, ...]]:
    """All that a brick holds, apart from what says how it was served and found."""
    found: dict[str, tuple[Any, ...]] = {}
    for above, folders, files in os.walk(path):
        for name in [*folders, *files, "."]:
            where = os.path.join(above, name)
            st = os.lstat(where)
            xattrs = {
                key: os.getxattr(where, key, follow_symlinks=False)
                for key in os.listxattr(where, follow_symlinks=False)
            }
            text: str | bytes = os.readlink(where) if stat.S_ISLNK(st.st_mode) else b""
            if stat.S_ISREG(st.st_mode):
                with open(where, "rb") as file:
                    text = file.read()
            links = 1 if stat.S_ISDIR(st.st_mode) else st.st_nlink
            found[os.path.relpath(where, path)] = (st.st_mode, links, st.st_uid, st.st_gid, xattrs, text)
    apart = (".glusterfs/indices", ".glusterfs/health_check", ".glusterfs/landfill")
    return {name: what for name, what in found.items() if not name.startswith(apart)}


async def is_as_before(volume: GraphVolume, *changes: Change) -> None:
    await make(volume)
    brick = volume.brick(0)
    before = contents(str(brick.path))
    for change in changes:
        await change(volume)
    changed = contents(str(brick.path))
    await brick.power_cut()
    left = contents(str(brick.path))
    assert changed != before
    differing = {name: (before.get(name), left.get(name)) for name in before.keys() | left.keys()}
    assert {name: pair for name, pair in differing.items() if pair[0] != pair[1]} == {}
    await brick.start()
    assert await volume.read("/file") == b"old" * 3000


@pytest.mark.parametrize("what", CHANGES)
@ONE
def test_a_change_that_was_not_synced_is_undone(fusemux_volume: GraphVolume, what: str) -> None:
    fusemux_volume.run(lambda volume: is_as_before(volume, CHANGES[what]))


@pytest.mark.fusemux("1", backend="graph", volatile="names", disk=True)
@pytest.mark.parametrize("what", ["create", "unlink", "rename over", "exchange", "chmod", "rmdir"])
def test_a_brick_on_a_disk_undoes_it_too(fusemux_volume: GraphVolume, what: str) -> None:
    fusemux_volume.run(lambda volume: is_as_before(volume, CHANGES[what]))


@ONE
def test_changes_upon_changes_are_undone(fusemux_volume: GraphVolume) -> None:
    random_ = random.Random(fusemux_volume.seed)
    names = random_.sample(list(CHANGES), len(CHANGES))

    async def all_of_them(volume: GraphVolume) -> None:
        for name in names:
            try:
                await CHANGES[name](volume)
            except FopError:
                pass  # an earlier one took away what it is about

    fusemux_volume.run(lambda volume: is_as_before(volume, all_of_them))


@ONE
def test_a_sync_of_any_file_makes_all_earlier_names_last(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await make(volume)
        await volume.mkdir("/earlier")
        await volume.unlink("/linked")
        await volume.write("/synced", b"data", sync=True)
        await volume.mkdir("/later")
        await volume.power_cut()
        names = os.listdir(volume.brick(0).path)
        assert {"earlier", "synced"} <= set(names)
        assert not {"linked", "later"} & set(names)
        assert await volume.read("/synced") == b"data"

    fusemux_volume.run(scenario)


@ONE
def test_a_failed_sync_makes_no_name_last(fusemux_volume: GraphVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fd: int) -> None:
        raise OSError(5, "injected")

    async def scenario(volume: GraphVolume) -> None:
        await make(volume)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fails)
            with pytest.raises(FopError):
                await volume.write("/new", b"data", sync=True)
        await volume.power_cut()
        assert "new" not in os.listdir(volume.brick(0).path)

    fusemux_volume.run(scenario)


@ONE
def test_without_a_power_cut_nothing_is_undone_and_nothing_is_left(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await make(volume)
        await volume.unlink("/file")
        path = volume.brick(0).path
        assert os.listdir(path / ".glusterfs/unlink"), "kept, for its name may come back"
        async with volume.brick(0).down():
            assert os.listdir(path / ".glusterfs/unlink") == []
            assert "file" not in os.listdir(path)

    fusemux_volume.run(scenario)


@pytest.mark.fusemux("1", backend="graph", volatile="names", options={"debug.volatile-memory": "64KB"})
def test_what_is_kept_is_bounded_and_the_oldest_changes_count_as_written_back(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await make(volume)
        for count in range(200):
            await volume.mkdir(f"/new{count}")
        await volume.power_cut()
        names = os.listdir(volume.brick(0).path)
        assert "new0" in names
        assert "new199" not in names

    fusemux_volume.run(scenario)


@ONE
def test_many_removed_files_do_not_use_up_descriptors(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        for count in range(400):
            await volume.write(f"/{count}", b"")
        before = len(os.listdir("/proc/self/fd"))
        for count in range(400):
            await volume.unlink(f"/{count}")
        assert len(os.listdir("/proc/self/fd")) - before <= 260

    fusemux_volume.run(scenario)


@THREE
def test_what_one_brick_lost_is_healed_from_the_others(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await make(volume)
        await volume.write("/synced", b"data", sync=True)
        await sync(volume)
        for what in ("create", "mkdir", "unlink", "rename over", "rename a directory", "chmod", "change an xattr"):
            await _tried(volume, what)
        brick = volume.brick(1)
        assert "new" in os.listdir(brick.path)
        await brick.power_cut()
        names = os.listdir(brick.path)
        assert "new" not in names
        assert "synced" in names
        await brick.start()
        await volume.wait_healed()
        assert volume.bricks_identical()
        assert brick.read_bytes("/new") == b"new" * 3000

    fusemux_volume.run(scenario)


async def _tried(volume: GraphVolume, what: str) -> None:
    try:
        await CHANGES[what](volume)
    except FopError:
        pass  # an earlier one took away what it is about


@THREE
def test_all_bricks_together_go_back_to_something_alike(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        await make(volume)
        await _tried(volume, "create")
        await _tried(volume, "unlink")
        await volume.power_cut()
        await volume.wait_healed()
        assert volume.bricks_identical()
        assert await volume.read("/dir/file") == b"old" * 3000

    fusemux_volume.run(scenario)


@pytest.mark.fusemux("1", backend="graph")
def test_the_option_is_live_and_costs_nothing_while_it_is_off(fusemux_volume: GraphVolume) -> None:
    async def scenario(volume: GraphVolume) -> None:
        brick = next(iter(volume.process.bricks.values()))
        volatile = next(t for t in brick.graph.translators.values() if t.type == "debug/volatile")
        assert recording.data.os is os, "the bricks' own calls"
        volatile.reconfigure({"names": "on"})
        await volume.mkdir("/noted")
        assert volatile.statedump()["unsynced-changes"] > 0
        volatile.reconfigure({"names": "off"})
        assert volatile.statedump()["unsynced-changes"] == 0
        assert recording.data.os is os

    fusemux_volume.run(scenario)


def test_every_module_of_the_store_that_changes_something_is_recorded() -> None:
    apart = {"health", "layout", "syscalls"}  # its own file; before the brick serves; no changes by `os`
    names = {module.name for module in pkgutil.iter_modules(posix.__path__)} - apart
    loaded = {name: sys.modules.get(f"{posix.__name__}.{name}") for name in names}
    calling = {name for name, module in loaded.items() if getattr(module, "os", None) is os and _changes(module)}
    assert calling <= {module.__name__.rpartition(".")[2] for module in recording.MODULES}


def _changes(module: Any) -> bool:
    with open(module.__file__, encoding="utf-8") as file:
        text = file.read()
    return any(
        f"os.{call}(" in text for call in vars(recording.RecordingOs) if not call.startswith("_") and call != "open"
    )
