"""The channel against a stand-in for the kernel: requests in, replies out, nothing else."""

from __future__ import annotations

import errno
import logging
import struct
from typing import Any

import pytest
import trio
import trio.testing

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel.protocol import InitFlag, Opcode, OpenFlag
from fusemux.fuse.kernel.session import SessionOptions
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Frame
from tests.fusemux.fuse.kernel.wire import ALL_FLAGS, Kernel, fixed, play


def test_a_file_lives_and_dies() -> None:
    async def scene(kernel: Kernel) -> None:
        assert (await kernel.ask(Opcode.LOOKUP, 1, b"file\0")).errno == 0  # a negative entry
        node, fh = await kernel.create(b"file")
        reply = await kernel.ask(Opcode.WRITE, node, fixed(Opcode.WRITE, fh, 2, 5, 0, 0, 0) + b"hello")
        assert reply == (reply.unique, 0, struct.pack("=II", 5, 0))
        reply = await kernel.ask(Opcode.READ, node, fixed(Opcode.READ, fh, 0, 100, 0, 0, 0))
        assert reply.body == b"\0\0hello"
        reply = await kernel.ask(Opcode.GETATTR, node, fixed(Opcode.GETATTR, 0, 0))
        assert struct.unpack_from("=QQ", reply.body, 16) == (node, 7)
        for opcode, body in (
            (Opcode.FLUSH, fixed(Opcode.FLUSH, fh, 0)),
            (Opcode.RELEASE, fixed(Opcode.RELEASE, fh, 0, 0, 0)),
        ):
            assert (await kernel.ask(opcode, node, body)).errno == 0
        assert (await kernel.ask(Opcode.UNLINK, 1, b"file\0")).errno == 0
        await kernel.send(Opcode.FORGET, node, fixed(Opcode.FORGET, 1))
        assert (await kernel.ask(Opcode.GETATTR, node, fixed(Opcode.GETATTR, 0, 0))).errno == errno.ESTALE
        assert (kernel.bridge.handles, list(kernel.bridge.nodes)) == ({}, [1])

    play(scene)


def test_unknown_opcodes_are_answered_enosys() -> None:
    async def scene(kernel: Kernel) -> None:
        for opcode in (7, 19, 48, 49, 54, 1000, 4096, Opcode.POLL, Opcode.BMAP):
            assert (await kernel.ask(opcode, 1, bytes(64))).errno == errno.ENOSYS
        assert (await kernel.ask(Opcode.IOCTL, 1, bytes(64))).errno == errno.ENOTTY

    play(scene)


def test_short_and_contradictory_requests_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(kernel: Kernel) -> None:
        for opcode, body in [
            (Opcode.CREATE, bytes(15)),
            (Opcode.LOOKUP, b"no-nul"),
            (Opcode.RENAME, bytes(8) + b"only-one\0"),
            (Opcode.WRITE, fixed(Opcode.WRITE, 1, 0, 100, 0, 0, 0) + b"short"),
        ]:
            assert (await kernel.ask(opcode, 1, body)).errno == errno.EINVAL
        assert (await kernel.ask(Opcode.GETATTR, 1, bytes(16))).errno == 0

    play(scene)
    assert len(caplog.records) == 4


def test_a_request_that_lies_about_its_length_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(kernel: Kernel) -> None:
        await kernel.send(Opcode.GETATTR, 1, bytes(16), length=99)
        await kernel.socket.send(b"junk")
        assert (await kernel.ask(Opcode.GETATTR, 1, bytes(16))).errno == 0

    play(scene)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_a_handler_that_raises_answers_eio_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(kernel: Kernel) -> None:
        async def fail(*args: Any) -> None:
            raise ZeroDivisionError("a bug")

        kernel.bridge.before["getattr"] = fail
        for _ in range(3):
            assert (await kernel.ask(Opcode.GETATTR, 1, bytes(16))).errno == errno.EIO
        assert (await kernel.ask(Opcode.STATFS, 1)).errno == 0

    play(scene)
    (record,) = caplog.records
    assert "GETATTR of node 0x1" in record.message
    assert record.exc_info


def test_requests_overtake_one_that_waits() -> None:
    async def scene(kernel: Kernel) -> None:
        gate = trio.Event()

        async def wait(*args: Any) -> None:
            await gate.wait()

        kernel.bridge.before["statfs"] = wait
        slow = [await kernel.send(Opcode.STATFS, 1) for _ in range(3)]
        for _ in range(10):
            assert (await kernel.ask(Opcode.GETATTR, 1, bytes(16))).errno == 0
        assert set(kernel.session.suspended) == set(slow)
        gate.set()
        assert {(await kernel.reply()).unique for _ in slow} == set(slow)
        assert not kernel.session.suspended

    play(scene)


def test_what_a_suspended_handler_opened_belongs_to_it() -> None:
    """Nurseries, cancel scopes and locks entered before the first suspension work as in any task."""

    async def scene(kernel: Kernel) -> None:
        lock = trio.Lock()
        seen: list[str] = []

        async def child(n: int) -> None:
            await trio.lowlevel.checkpoint()
            seen.append(f"child {n}")

        async def work(*args: Any) -> None:
            me = trio.lowlevel.current_task()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, 1)
                nursery.start_soon(child, 2)
            with trio.move_on_after(0):
                await trio.sleep_forever()
            async with lock:
                await trio.lowlevel.checkpoint()
                assert trio.lowlevel.current_task() is me
            seen.append("done")

        kernel.bridge.before["getattr"] = work
        asked = [await kernel.send(Opcode.GETATTR, 1, bytes(16)) for _ in range(5)]
        replies = [await kernel.reply() for _ in asked]
        assert {reply.unique for reply in replies} == set(asked)
        assert not any(reply.errno for reply in replies)
        assert seen.count("done") == 5
        assert not lock.locked()

    play(scene)


def test_errors_after_a_suspension_reach_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(kernel: Kernel) -> None:
        async def refuse(frame: Frame, nodeid: int, fh: int) -> None:
            await trio.lowlevel.checkpoint()
            if nodeid == 1:
                raise FopError(errno.EDQUOT)
            raise KeyError("a bug")

        kernel.bridge.before["getattr"] = refuse
        assert (await kernel.ask(Opcode.GETATTR, 1, bytes(16))).errno == errno.EDQUOT
        assert (await kernel.ask(Opcode.GETATTR, 2, bytes(16))).errno == errno.EIO

    play(scene)
    assert len(caplog.records) == 1


def test_payload_of_a_suspended_write_stays_while_others_are_read() -> None:
    async def scene(kernel: Kernel) -> None:
        gate = trio.Event()

        async def wait(*args: Any) -> None:
            await gate.wait()

        node, fh = await kernel.create(b"file")
        kernel.bridge.before["write"] = wait
        for n in range(8):
            body = fixed(Opcode.WRITE, fh, n * 1000, 1000, 0, 0, 0) + bytes([n + 1]) * 1000
            await kernel.send(Opcode.WRITE, node, body)
        assert (await kernel.ask(Opcode.GETATTR, node, bytes(16))).errno == 0
        gate.set()
        for _ in range(8):
            assert (await kernel.reply()).errno == 0
        expected = b"".join(bytes([n + 1]) * 1000 for n in range(8))
        assert kernel.bridge.nodes[node].data == expected

    play(scene)


def test_an_interrupt_ends_what_only_reads() -> None:
    async def scene(kernel: Kernel) -> None:
        async def forever(*args: Any) -> None:
            await trio.sleep_forever()

        kernel.bridge.before["getattr"] = forever
        asked = await kernel.send(Opcode.GETATTR, 1, bytes(16))
        await kernel.send(Opcode.INTERRUPT, 0, fixed(Opcode.INTERRUPT, asked))
        assert await kernel.reply() == (asked, errno.EINTR, b"")

    play(scene)


def test_an_interrupt_lets_changes_finish() -> None:
    async def scene(kernel: Kernel) -> None:
        gate = trio.Event()

        async def wait(*args: Any) -> None:
            await gate.wait()

        kernel.bridge.before["mkdir"] = wait
        asked = await kernel.send(Opcode.MKDIR, 1, fixed(Opcode.MKDIR, 0o755, 0) + b"d\0")
        await kernel.send(Opcode.INTERRUPT, 0, fixed(Opcode.INTERRUPT, asked))
        await kernel.send(Opcode.INTERRUPT, 0, fixed(Opcode.INTERRUPT, 123456))  # answered long ago
        assert (await kernel.ask(Opcode.GETATTR, 1, bytes(16))).errno == 0
        gate.set()
        reply = await kernel.reply()
        assert (reply.unique, reply.errno) == (asked, 0)
        assert b"d" in kernel.bridge.root.names

    play(scene)


def test_a_batch_forgets_all_its_nodes() -> None:
    async def scene(kernel: Kernel) -> None:
        nodes = []
        for n in range(500):
            reply = await kernel.ask(Opcode.MKNOD, 1, fixed(Opcode.MKNOD, 0o100644, 0, 0) + b"f%d\0" % n)
            nodes.append(struct.unpack_from("=Q", reply.body)[0])
            assert (await kernel.ask(Opcode.UNLINK, 1, b"f%d\0" % n)).errno == 0
        assert len(kernel.bridge.nodes) == 501
        batch = fixed(Opcode.BATCH_FORGET, 500) + b"".join(struct.pack("=QQ", node, 1) for node in nodes)
        await kernel.send(Opcode.BATCH_FORGET, 0, batch)
        assert (await kernel.ask(Opcode.GETATTR, 1, bytes(16))).errno == 0
        assert list(kernel.bridge.nodes) == [1]

    play(scene)


def test_sessions_take_turns() -> None:
    """One session with a long queue does not hold up the others."""

    async def scene(busy: Kernel, other: Kernel) -> None:
        served_before: list[int] = []

        async def note(*args: Any) -> None:
            served_before.append(busy.session.requests)

        other.bridge.before["getattr"] = note
        for _ in range(200):
            busy.push(Opcode.GETATTR, 1, bytes(16))
        for _ in range(3):
            other.push(Opcode.GETATTR, 1, bytes(16))
        for _ in range(3):
            await other.reply()
        assert max(served_before) <= 16

    play(scene, sessions=2)


def test_a_session_that_ends_leaves_the_others() -> None:
    async def scene(first: Kernel, second: Kernel) -> None:
        first.socket.close()
        await first.session.ended.wait()
        assert (await second.ask(Opcode.GETATTR, 1, bytes(16))).errno == 0

    play(scene, sessions=2)


def test_a_session_ends_when_its_last_request_has() -> None:
    async def scene(kernel: Kernel) -> None:
        gate = trio.Event()

        async def wait(*args: Any) -> None:
            await gate.wait()

        kernel.bridge.before["mkdir"] = wait
        kernel.bridge.before["statfs"] = wait
        await kernel.send(Opcode.MKDIR, 1, fixed(Opcode.MKDIR, 0o755, 0) + b"d\0")
        await kernel.send(Opcode.STATFS, 1)
        kernel.socket.close()
        await kernel.session.ended.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert len(kernel.session.suspended) == 1  # statfs was cut short
        assert not kernel.session.drained.is_set()
        gate.set()
        await kernel.session.drained.wait()
        assert b"d" in kernel.bridge.root.names

    play(scene)


def test_init_agrees_and_starts_the_session() -> None:
    async def scene(kernel: Kernel) -> None:
        body = struct.pack("=IIIII", 7, 40, 131072, ALL_FLAGS & 0xFFFFFFFF, ALL_FLAGS >> 32) + bytes(44)
        reply = await kernel.ask(Opcode.INIT, 0, body)
        assert struct.unpack_from("=II", reply.body) == (7, 40)
        assert kernel.session.ready.is_set()
        assert kernel.session.agreement is not None
        assert kernel.session.agreement.has(InitFlag.HANDLE_KILLPRIV_V2)

    play(scene)


def test_init_of_an_old_kernel_fails_the_session() -> None:
    async def scene(kernel: Kernel) -> None:
        reply = await kernel.ask(Opcode.INIT, 0, struct.pack("=IIII", 7, 20, 131072, 0))
        assert reply.errno == errno.EPROTO
        assert kernel.session.ready.is_set()
        assert "7.20" in str(kernel.session.failure)

    play(scene)


def test_names_that_do_not_exist_are_remembered_unless_told_otherwise() -> None:
    async def remembered(kernel: Kernel) -> None:
        reply = await kernel.ask(Opcode.LOOKUP, 1, b"nothing\0")
        assert (reply.errno, struct.unpack_from("=QQQ", reply.body)) == (0, (0, 0, 1 << 40))

    async def asked_again(kernel: Kernel) -> None:
        assert (await kernel.ask(Opcode.LOOKUP, 1, b"nothing\0")).errno == errno.ENOENT

    play(remembered)
    play(asked_again, options=SessionOptions(negative_timeout=0))


def test_the_kernel_need_not_flush_where_nobody_listens() -> None:
    async def scene(kernel: Kernel) -> None:
        for name, flushes in ((b"f", True), (b"g", False)):
            kernel.bridge.flushes = flushes
            reply = await kernel.ask(Opcode.CREATE, 1, fixed(Opcode.CREATE, 2, 0o100644, 0, 0) + name + b"\0")
            node, fh = struct.unpack_from("=Q120xQ", reply.body)
            assert bool(struct.unpack_from("=I", reply.body, 136)[0] & OpenFlag.NOFLUSH) is not flushes
            assert (await kernel.ask(Opcode.FLUSH, node, fixed(Opcode.FLUSH, fh, 0))).errno == 0

    play(scene)


# -- privileges ----------------------------------------------------------------------------------------------------

_KILL = p.WRITE_KILL_SUIDGID


@pytest.mark.parametrize(("mode", "left"), [(0o6777, 0o777), (0o4711, 0o711), (0o2744, 0o744), (0o2755, 0o755)])
def test_a_write_by_others_takes_setuid_and_setgid_away(mode: int, left: int) -> None:
    async def scene(kernel: Kernel) -> None:
        node, fh = await kernel.create(b"f")
        body = fixed(Opcode.SETATTR, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0o100000 | mode, 0, 0)
        assert (await kernel.ask(Opcode.SETATTR, node, body)).errno == 0
        write = fixed(Opcode.WRITE, fh, 0, 1, _KILL, 0, 0) + b"x"
        unique = await kernel.send(Opcode.WRITE, node, write, uid=1000, gid=1000)
        notice = await kernel.reply()
        assert (notice.unique, notice.errno) == (0, -2)  # its attributes are stale
        assert (await kernel.reply()) == (unique, 0, struct.pack("=II", 1, 0))
        assert kernel.bridge.nodes[node].mode == 0o100000 | left
        assert kernel.bridge.nodes[node].data == b"x"

    play(scene)


def test_a_write_without_the_mark_leaves_them() -> None:
    async def scene(kernel: Kernel) -> None:
        node, fh = await kernel.create(b"f")
        body = fixed(Opcode.SETATTR, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0o104755, 0, 0)
        await kernel.ask(Opcode.SETATTR, node, body)
        await kernel.ask(Opcode.WRITE, node, fixed(Opcode.WRITE, fh, 0, 1, 0, 0, 0) + b"x")
        assert kernel.bridge.nodes[node].mode == 0o104755

    play(scene)


def test_a_truncation_by_others_takes_them_away() -> None:
    async def scene(kernel: Kernel) -> None:
        node, _ = await kernel.create(b"f")
        chmod = fixed(Opcode.SETATTR, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0o104755, 0, 0)
        await kernel.ask(Opcode.SETATTR, node, chmod)
        truncate = fixed(Opcode.SETATTR, 0x808, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        await kernel.send(Opcode.SETATTR, node, truncate, uid=1000)
        assert (await kernel.reply()).unique == 0
        reply = await kernel.reply()
        assert struct.unpack_from("=I", reply.body, 16 + 60) == (0o100755,)

    play(scene)


def test_capabilities_of_new_files_are_answered_without_asking() -> None:
    async def scene(kernel: Kernel) -> None:
        kernel.bridge.record = True
        question = fixed(Opcode.GETXATTR, 20) + b"security.capability\0"
        node, _ = await kernel.create(b"f")
        assert (await kernel.ask(Opcode.GETXATTR, node, question)).errno == errno.ENODATA
        assert "getxattr" not in kernel.bridge.calls
        value = fixed(Opcode.SETXATTR, 3, 0, 0, 0) + b"security.capability\0cap"
        kernel.session.agreement = None  # without SETXATTR_EXT the fixed part is half as long
        short = value[:8] + value[16:]
        assert (await kernel.ask(Opcode.SETXATTR, node, short)).errno == 0
        assert (await kernel.ask(Opcode.GETXATTR, node, question)).body == b"cap"

    play(scene)


def test_a_write_takes_capabilities_away() -> None:
    async def scene(kernel: Kernel) -> None:
        node, fh = await kernel.create(b"f")
        await kernel.ask(Opcode.SETXATTR, node, fixed(Opcode.SETXATTR, 3, 0, 0, 0)[:8] + b"security.capability\0cap")
        await kernel.send(Opcode.WRITE, node, fixed(Opcode.WRITE, fh, 0, 1, _KILL, 0, 0) + b"x", uid=1000)
        assert (await kernel.reply()).unique == 0
        assert (await kernel.reply()).errno == 0
        assert not kernel.bridge.nodes[node].xattrs

    play(scene)


# -- directories and xattrs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [Opcode.READDIR, Opcode.READDIRPLUS])
def test_a_directory_is_read_in_pieces(opcode: Opcode) -> None:
    async def scene(kernel: Kernel) -> None:
        names = {b"%s%d" % (b"n" * (n % 40), n) for n in range(150)}
        for name in names:
            await kernel.ask(Opcode.MKNOD, 1, fixed(Opcode.MKNOD, 0o100644, 0, 0) + name + b"\0")
        before = {number: node.nlookup for number, node in kernel.bridge.nodes.items()}
        fh = struct.unpack_from("=Q", (await kernel.ask(Opcode.OPENDIR, 1, bytes(8))).body)[0]
        found: list[bytes] = []
        offset = 0
        while True:
            reply = await kernel.ask(opcode, 1, fixed(opcode, fh, offset, 4096, 0, 0, 0))
            assert reply.errno == 0
            if not reply.body:
                break
            assert len(reply.body) <= 4096
            position = 0
            while position < len(reply.body):
                position += 128 if opcode == Opcode.READDIRPLUS else 0
                _, offset, length, _ = p.DIRENT.unpack_from(reply.body, position)
                found.append(reply.body[position + 24 : position + 24 + length])
                position += 24 + (length + 7 & ~7)
        assert sorted(found) == sorted(names | {b".", b".."})
        gained = [node.nlookup - before[number] for number, node in kernel.bridge.nodes.items() if number != 1]
        assert set(gained) == {1 if opcode == Opcode.READDIRPLUS else 0}
        assert (await kernel.ask(Opcode.RELEASEDIR, 1, fixed(Opcode.RELEASEDIR, fh, 0, 0, 0))).errno == 0

    play(scene)


def test_xattrs_tell_their_size_first() -> None:
    async def scene(kernel: Kernel) -> None:
        await kernel.ask(Opcode.SETXATTR, 1, fixed(Opcode.SETXATTR, 5, 0, 0, 0)[:8] + b"user.a\0value")
        for size, expected in ((0, (0, struct.pack("=II", 5, 0))), (5, (0, b"value")), (4, (errno.ERANGE, b""))):
            reply = await kernel.ask(Opcode.GETXATTR, 1, fixed(Opcode.GETXATTR, size) + b"user.a\0")
            assert reply[1:] == expected
        for size, expected in ((0, (0, struct.pack("=II", 7, 0))), (7, (0, b"user.a\0")), (6, (errno.ERANGE, b""))):
            assert (await kernel.ask(Opcode.LISTXATTR, 1, fixed(Opcode.LISTXATTR, size)))[1:] == expected
        assert (await kernel.ask(Opcode.REMOVEXATTR, 1, b"user.a\0")).errno == 0
        assert (await kernel.ask(Opcode.REMOVEXATTR, 1, b"user.a\0")).errno == errno.ENODATA

    play(scene)
