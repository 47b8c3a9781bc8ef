"""The bridge's calls on names: finding, making, linking, renaming and removing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable

import pytest

from fusemux.fuse.bridge import Bridge
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Frame, ino_of
from tests.fusemux.fuse.memory import Memory

ROOT = 1
F = Frame(1000, 100, 4242, 0o022)
Play = Callable[..., None]


async def fails(number: int, call: Awaitable[object]) -> None:
    with pytest.raises(FopError) as caught:
        await call
    assert errno.errorcode[caught.value.errno] == errno.errorcode[number]


async def make(bridge: Bridge, name: bytes, parent: int = ROOT, data: bytes = b"") -> int:
    """A closed file; the kernel holds one reference to it."""
    nodeid, _, fh = await bridge.create(F, parent, name, os.O_WRONLY | os.O_CREAT, 0o644)
    if data:
        await bridge.write(F, fh, 0, data)
    await bridge.flush(F, fh)
    await bridge.release(F, fh)
    return nodeid


def test_the_node_id_is_the_inode_number_of_the_gfid(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file")
        again, iatt = await bridge.lookup(F, ROOT, b"file")
        assert again == nodeid == ino_of(iatt.gfid)
        assert (iatt.uid, iatt.gid, iatt.mode) == (1000, 100, stat.S_IFREG | 0o644)

    play(scene)


def test_lookup_of_what_is_not_there_is_enoent_and_of_a_forgotten_parent_estale(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await fails(errno.ENOENT, bridge.lookup(F, ROOT, b"file"))
        await fails(errno.ESTALE, bridge.lookup(F, 77, b"file"))

    play(scene)


@pytest.mark.parametrize("length", [255, 256, 4000])
def test_names_of_more_than_255_bytes_are_too_long_everywhere(play: Play, length: int) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        name = b"n" * length
        file = await make(bridge, b"file")
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: bridge.create(F, ROOT, name, os.O_CREAT, 0o644),
            lambda: bridge.lookup(F, ROOT, name),
            lambda: bridge.unlink(F, ROOT, name),
            lambda: bridge.mkdir(F, ROOT, name, 0o755),
            lambda: bridge.rmdir(F, ROOT, name),
            lambda: bridge.mknod(F, ROOT, name, stat.S_IFIFO | 0o644, 0),
            lambda: bridge.rename(F, ROOT, name, ROOT, b"new", 0),
            lambda: bridge.rename(F, ROOT, b"new", ROOT, name, 0),
            lambda: bridge.unlink(F, ROOT, name),
            lambda: bridge.symlink(F, ROOT, name, b"text"),
            lambda: bridge.unlink(F, ROOT, name),
            lambda: bridge.link(F, file, ROOT, name),
        ]
        for call in calls:
            if length > 255:
                await fails(errno.ENAMETOOLONG, call())
            else:
                await call()

    play(scene)


def test_everything_can_be_made_and_is_known_by_one_reference(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        made = [
            await bridge.mkdir(F, ROOT, b"dir", 0o750),
            await bridge.mknod(F, ROOT, b"fifo", stat.S_IFIFO | 0o600, 0),
            await bridge.mknod(F, ROOT, b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
            await bridge.symlink(F, ROOT, b"link", b"far/away"),
        ]
        assert [stat.S_IFMT(iatt.mode) for _, iatt in made] == [stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFLNK]
        assert made[2][1].rdev == os.makedev(1, 3)
        assert await bridge.readlink(F, made[3][0]) == b"far/away"
        assert bridge.statistics().nodes == 5
        for nodeid, _ in made:
            bridge.forget(nodeid, 1)
        assert bridge.statistics()[:2] == (1, 0)

    play(scene)


def test_forget_counts_references_and_never_drops_the_root(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file")
        await bridge.lookup(F, ROOT, b"file")
        bridge.forget(nodeid, 1)
        assert (await bridge.getattr(F, nodeid)).nlink == 1
        bridge.forget(nodeid, 1)
        await fails(errno.ESTALE, bridge.getattr(F, nodeid))
        bridge.forget(nodeid, 1)
        bridge.forget(ROOT, 1000)
        await bridge.getattr(F, ROOT)
        assert bridge.statistics().nodes == 1

    play(scene)


def test_a_forgotten_file_comes_back_with_the_same_node_id(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"file")
        bridge.forget(nodeid, 1)
        assert (await bridge.lookup(F, ROOT, b"file"))[0] == nodeid

    play(scene)


def test_unlinked_files_leave_nothing_behind(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        for number in range(10):
            nodeid = await make(bridge, b"%d" % number)
            await bridge.unlink(F, ROOT, b"%d" % number)
            bridge.forget(nodeid, 1)
        assert bridge.statistics() == (1, 0, 0, 0, 0, 0, 1)

    play(scene)


def test_unlink_and_rename_need_no_lookup_for_what_the_kernel_has_looked_up(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        for name in (b"one", b"two", b"three"):
            await make(bridge, name)
        await bridge.unlink(F, ROOT, b"one")
        await bridge.rename(F, ROOT, b"two", ROOT, b"three", 0)
        await bridge.unlink(F, ROOT, b"three")
        assert memory.calls["lookup"] == 0

    play(scene)


def test_unlink_and_rename_of_forgotten_names_look_them_up(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        for name in (b"one", b"two", b"three"):
            bridge.forget(await make(bridge, name), 1)
        await bridge.unlink(F, ROOT, b"one")
        await bridge.rename(F, ROOT, b"two", ROOT, b"three", 0)
        assert list(memory.root.entries) == [b"three"]
        await fails(errno.ENOENT, bridge.unlink(F, ROOT, b"one"))
        await fails(errno.ENOENT, bridge.rename(F, ROOT, b"two", ROOT, b"new", 0))

    play(scene)


def test_hard_links_are_one_node_with_fresh_attributes(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"one")
        linked, iatt = await bridge.link(F, nodeid, ROOT, b"two")
        assert (linked, iatt.nlink) == (nodeid, 2)
        assert (await bridge.lookup(F, ROOT, b"one"))[1].nlink == 2
        await bridge.unlink(F, ROOT, b"one")
        assert (await bridge.getattr(F, nodeid)).nlink == 1
        await bridge.unlink(F, ROOT, b"two")
        bridge.forget(nodeid, 3)
        assert bridge.statistics().nodes == 1

    play(scene)


def test_a_name_that_leads_elsewhere_now_is_not_confused_with_what_it_was(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        first = await make(bridge, b"a")
        await bridge.rename(F, ROOT, b"a", ROOT, b"b", 0)
        second = await make(bridge, b"a")
        await bridge.link(F, first, ROOT, b"c")
        await bridge.unlink(F, ROOT, b"a")
        await fails(errno.ESTALE, bridge.getattr(F, second))
        await bridge.unlink(F, ROOT, b"b")
        assert (await bridge.getattr(F, first)).nlink == 1
        await bridge.unlink(F, ROOT, b"c")

    play(scene)


def test_rename_over_a_file_keeps_what_is_open(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await make(bridge, b"new", data=b"new")
        old = await make(bridge, b"old", data=b"old")
        fh = await bridge.open(F, old, os.O_RDONLY)
        await bridge.rename(F, ROOT, b"new", ROOT, b"old", 0)
        assert bytes(await bridge.read(F, fh, 0, 10)) == b"old"
        assert (await bridge.getattr(F, old)).nlink == 0
        nodeid, _ = await bridge.lookup(F, ROOT, b"old")
        fresh = await bridge.open(F, nodeid, os.O_RDONLY)
        assert bytes(await bridge.read(F, fresh, 0, 10)) == b"new"
        for handle in (fh, fresh):
            await bridge.release(F, handle)
        await fails(errno.ENOENT, bridge.lookup(F, ROOT, b"new"))

    play(scene)


def test_rename_to_another_name_of_the_same_file_changes_nothing(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid = await make(bridge, b"one")
        await bridge.link(F, nodeid, ROOT, b"two")
        await bridge.rename(F, ROOT, b"one", ROOT, b"two", 0)
        assert sorted(memory.root.entries) == [b"one", b"two"]
        for name in (b"one", b"two"):
            await bridge.unlink(F, ROOT, name)

    play(scene)


def test_rename_flags(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        one, two = await make(bridge, b"one"), await make(bridge, b"two")
        await fails(errno.EEXIST, bridge.rename(F, ROOT, b"one", ROOT, b"two", 1))
        await bridge.rename(F, ROOT, b"one", ROOT, b"two", 2)
        assert (await bridge.lookup(F, ROOT, b"one"))[0] == two
        assert (await bridge.lookup(F, ROOT, b"two"))[0] == one
        await bridge.unlink(F, ROOT, b"one")
        assert list(memory.root.entries) == [b"two"]
        await fails(errno.EINVAL, bridge.rename(F, ROOT, b"two", ROOT, b"three", 4))

    play(scene)


def test_a_removed_directory_answers_while_it_is_referred_to(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid, _ = await bridge.mkdir(F, ROOT, b"dir", 0o700)
        await bridge.rmdir(F, ROOT, b"dir")
        gone = await bridge.getattr(F, nodeid)
        assert (gone.nlink, gone.mode, gone.uid) == (0, stat.S_IFDIR | 0o700, 1000)
        fh = await bridge.opendir(F, nodeid)
        assert [entry.name for entry in await bridge.readdir(F, fh, 0, 10)] == [b".", b".."]
        assert await bridge.readdir(F, fh, 2, 10) == []
        await bridge.releasedir(F, fh)
        bridge.forget(nodeid, 1)
        assert bridge.statistics() == (1, 0, 0, 0, 0, 0, 1)

    play(scene)


def test_a_directory_that_was_renamed_over_answers_too(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        await bridge.mkdir(F, ROOT, b"one", 0o700)
        nodeid, _ = await bridge.mkdir(F, ROOT, b"two", 0o755)
        await bridge.rename(F, ROOT, b"one", ROOT, b"two", 0)
        assert (await bridge.getattr(F, nodeid)).nlink == 0

    play(scene)


def test_rmdir_of_a_full_directory_leaves_it_as_it_is(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid, _ = await bridge.mkdir(F, ROOT, b"dir", 0o755)
        await make(bridge, b"file", nodeid)
        await fails(errno.ENOTEMPTY, bridge.rmdir(F, ROOT, b"dir"))
        assert (await bridge.getattr(F, nodeid)).nlink == 2
        await bridge.unlink(F, nodeid, b"file")
        await bridge.rmdir(F, ROOT, b"dir")

    play(scene)


def test_dot_and_dot_dot_can_be_looked_up_by_node_id(play: Play) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        nodeid, _ = await bridge.mkdir(F, ROOT, b"dir", 0o755)
        assert (await bridge.lookup(F, nodeid, b"."))[0] == nodeid
        assert (await bridge.lookup(F, nodeid, b".."))[0] == ROOT
        assert (await bridge.lookup(F, ROOT, b".."))[0] == ROOT
        await fails(errno.ESTALE, bridge.lookup(F, 12345, b"."))

    play(scene)


def test_two_gfids_with_one_inode_number_get_two_node_ids(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(bridge: Bridge, memory: Memory) -> None:
        gfids = iter([b"A" * 8 + b"\x80" * 8, b"B" * 8 + b"\x80" * 8, b"C" * 8 + bytes(7) + b"\x01"])
        monkeypatch.setattr(bridge.graph.process, "new_gfid", lambda: next(gfids))
        nodes = [await make(bridge, name, data=name) for name in (b"one", b"two", b"three")]
        assert len(set(nodes)) == 3
        assert ROOT not in nodes
        for nodeid, name in zip(nodes, (b"one", b"two", b"three"), strict=True):
            assert (await bridge.lookup(F, ROOT, name))[0] == nodeid
            fh = await bridge.open(F, nodeid, os.O_RDONLY)
            assert bytes(await bridge.read(F, fh, 0, 9)) == name
            await bridge.release(F, fh)
            await bridge.unlink(F, ROOT, name)
            bridge.forget(nodeid, 2)
        assert bridge.statistics() == (1, 0, 0, 0, 0, 0, 1)

    play(scene)
