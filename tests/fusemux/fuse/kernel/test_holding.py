"""Where many sessions have requests at once, answers are held until a few are together: none is late, lost or misplaced."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest
import trio
import trio.testing

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.notifier import Notifier
from fusemux.fuse.kernel.protocol import Opcode
from fusemux.fuse.kernel.session import Session
from tests.fusemux.fuse.kernel.memory import MemoryBridge
from tests.fusemux.fuse.kernel.wire import Kernel, fixed, play

SESSIONS = 8


async def _ask_all(kernels: tuple[Kernel, ...]) -> None:
    """Each session gets its own answer."""
    for kernel in kernels:
        reply = await kernel.ask(Opcode.GETATTR, 1, bytes(16))
        assert reply.errno == 0


@pytest.mark.parametrize("each", [1, 3, 40])
def test_every_caller_gets_his_answer_in_the_order_of_his_requests(each: int) -> None:
    async def scene(*kernels: Kernel) -> None:
        pushed = [[kernel.push(Opcode.GETATTR, 1, bytes(16)) for _ in range(each)] for kernel in kernels]
        for kernel, uniques in zip(kernels, pushed, strict=True):
            assert [(await kernel.reply()).unique for _ in uniques] == uniques

    play(scene, sessions=SESSIONS)


def test_answers_of_all_kinds_arrive() -> None:
    """Errors, and answers with a payload, among plain ones."""

    async def scene(*kernels: Kernel) -> None:
        first, second, *others = kernels
        node, handle = await second.create(b"f")
        write = fixed(Opcode.WRITE, handle, 0, 5, 0, 0, 0) + b"hello"
        assert (await second.ask(Opcode.WRITE, node, write)).errno == 0
        for kernel in others:
            kernel.push(Opcode.GETATTR, 1, bytes(16))
        first.push(Opcode.LOOKUP, 1, b"nothing\0")
        second.push(Opcode.READ, node, fixed(Opcode.READ, handle, 0, 100, 0, 0, 0))
        second.push(Opcode.GETATTR, 1, bytes(16))
        assert (await second.reply()).body == b"hello"
        assert (await second.reply()).errno == 0
        assert (await first.reply()).errno in (0, errno.ENOENT)  # 0: an entry that says that there is none
        for kernel in others:
            assert (await kernel.reply()).errno == 0

    play(scene, sessions=SESSIONS)


def test_a_notification_comes_after_what_was_answered_before() -> None:
    """Else the kernel would keep for ever what the answer says and the notification has made untrue."""

    async def scene(*kernels: Kernel) -> None:
        first, *others = kernels
        order: list[str] = []

        async def change(*args: Any) -> None:
            first.session.notify(replies.inval_inode(1, -1))

        for kernel in others:
            kernel.bridge.before["getattr"] = change
        first.push(Opcode.GETATTR, 1, bytes(16))
        for kernel in others:
            kernel.push(Opcode.GETATTR, 1, bytes(16))
        for _ in range(2):
            data = await first.socket.recv(1 << 20)
            order.append("notification" if p.ERROR.unpack_from(data)[2] == 0 else "answer")
        assert order == ["answer", "notification"]
        for kernel in others:
            await kernel.reply()

    play(scene, sessions=SESSIONS)


@pytest.mark.parametrize("place", [0, 3, SESSIONS - 1])
def test_what_waits_holds_nobody_up(place: int) -> None:
    async def scene(*kernels: Kernel) -> None:
        slow, *others = kernels
        gate = trio.Event()

        async def wait(*args: Any) -> None:
            await gate.wait()

        slow.bridge.before["getattr"] = wait
        for kernel in (*others[:place], slow, *others[place:]):
            kernel.push(Opcode.GETATTR, 1, bytes(16))
        for kernel in others:
            assert (await kernel.reply()).errno == 0
        gate.set()
        assert (await slow.reply()).errno == 0

    play(scene, sessions=SESSIONS)


def test_a_session_that_ends_takes_no_answer_to_whoever_gets_its_descriptor() -> None:
    async def scene(*kernels: Kernel) -> None:
        gone, *others = kernels
        reader, writer = os.pipe()

        async def vanish(*args: Any) -> None:
            """In the middle of a turn the session is over, and its number is another file's."""
            if not gone.session.ended.is_set():
                fd = gone.session.fd
                gone.channel.remove(gone.session)
                os.dup2(writer, fd)
                opened.append(fd)

        opened: list[int] = []
        others[-1].bridge.before["getattr"] = vanish
        for kernel in kernels:
            kernel.push(Opcode.GETATTR, 1, bytes(16))
        for kernel in others:
            assert (await kernel.reply()).errno == 0
        assert opened, "it was removed while its answer was held"
        for fd in (*opened, writer):
            os.close(fd)
        assert os.read(reader, 100) == b""
        os.close(reader)

    play(scene, sessions=SESSIONS)


def test_nor_a_notification() -> None:
    """Of a session that is over another mount of the volume, or a heal, may tell before it is cleaned up."""

    async def scene(gone: Kernel, other: Kernel) -> None:
        reader, writer = os.pipe()
        fd = gone.session.fd
        gone.channel.remove(gone.session)
        os.dup2(writer, fd)
        told = Notifier(gone.session, trio.CapacityLimiter(1))
        told.inode(1)
        told.entry(1, b"f")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(told.run)
            await trio.testing.wait_all_tasks_blocked()
            os.close(fd)
            told.entry(1, b"g")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        os.close(writer)
        assert os.read(reader, 100) == b""
        os.close(reader)
        await _ask_all((other,))

    play(scene, sessions=2)


def test_a_session_that_is_removed_twice_does_not_take_another_with_it() -> None:
    async def scene(gone: Kernel, other: Kernel) -> None:
        fd, channel = gone.session.fd, gone.channel
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            channel.remove(gone.session)
            later = Session(os.dup2(theirs.fileno(), fd), MemoryBridge(), "later")  # type: ignore[arg-type]
            channel.add(later)
            channel.remove(gone.session)
            assert not later.ended.is_set()
            assert channel.sessions[fd] is later
            channel.remove(later)

    play(scene, sessions=2)


def test_all_go_on_after_that() -> None:
    async def scene(*kernels: Kernel) -> None:
        for _ in range(3):
            for kernel in kernels:
                kernel.push(Opcode.GETATTR, 1, bytes(16))
            for kernel in kernels:
                assert (await kernel.reply()).errno == 0
            await _ask_all(kernels)

    play(scene, sessions=SESSIONS)
