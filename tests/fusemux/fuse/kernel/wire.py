"""The kernel's end of the wire, for tests without a kernel: a socket that keeps messages apart stands for /dev/fuse."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, NamedTuple

import trio

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel.channel import Channel
from fusemux.fuse.kernel.protocol import InitFlag, Opcode
from fusemux.fuse.kernel.session import Session, SessionOptions
from tests.fusemux.fuse.kernel.memory import MemoryBridge

ALL_FLAGS = sum(flag.value for flag in InitFlag)


def request(
    opcode: int,
    nodeid: int,
    body: bytes = b"",
    *,
    unique: int = 1,
    uid: int = 0,
    gid: int = 0,
    pid: int = 1,
    length: int = -1,
) -> bytes:
    size = p.HEADER.size + len(body)
    return p.HEADER.pack(size if length < 0 else length, opcode, unique, nodeid, uid, gid, pid, 0, 0) + body


def fixed(opcode: Opcode, *values: Any) -> bytes:
    return p.BODIES[opcode].pack(*values)


class Reply(NamedTuple):
    unique: int
    errno: int
    body: bytes


class Kernel:
    """Sends requests to one session and takes its replies."""

    def __init__(self, end: socket.socket, channel: Channel, session: Session, bridge: MemoryBridge) -> None:
        self._end = end
        self.channel = channel
        self.socket = trio.socket.from_stdlib_socket(end)
        self.session = session
        self.bridge = bridge
        self._uniques = count(2, 2)

    async def send(self, opcode: int, nodeid: int, body: bytes = b"", **more: Any) -> int:
        """Send a request and return its unique number; `more` goes to `request`."""
        unique = self.push(opcode, nodeid, body, **more)
        await trio.lowlevel.checkpoint()
        return unique

    def push(self, opcode: int, nodeid: int, body: bytes = b"", **more: Any) -> int:
        """The same, and nobody else runs meanwhile."""
        unique = next(self._uniques)
        self._end.send(request(opcode, nodeid, body, unique=unique, **more))
        return unique

    async def reply(self) -> Reply:
        data = await self.socket.recv(2 << 20)
        length, error, unique = p.ERROR.unpack_from(data)
        assert length == len(data), f"a reply of {len(data)} bytes says {length}"
        return Reply(unique, -error, data[p.ERROR.size :])

    async def ask(self, opcode: int, nodeid: int, body: bytes = b"", **more: Any) -> Reply:
        unique = await self.send(opcode, nodeid, body, **more)
        reply = await self.reply()
        assert reply.unique == unique, f"the answer to {reply.unique} came, not to {unique}"
        return reply

    async def create(self, name: bytes, parent: int = 1) -> tuple[int, int]:
        """Node id and handle of a new file."""
        reply = await self.ask(Opcode.CREATE, parent, fixed(Opcode.CREATE, 0o102, 0o100644, 0, 0) + name + b"\0")
        assert reply.errno == 0
        values = p.CREATED.unpack(bytes(p.ERROR.size) + reply.body)
        return values[3], values[25]


def play(scene: Callable[..., Awaitable[None]], *, sessions: int = 1, options: SessionOptions | None = None) -> None:
    """Run `scene(kernel, ...)` with one Kernel for each session of one channel."""

    async def main() -> None:
        with trio.fail_after(30):
            async with served(sessions, options) as kernels:
                await scene(*kernels)

    trio.run(main)


@asynccontextmanager
async def served(sessions: int = 1, options: SessionOptions | None = None) -> AsyncIterator[list[Kernel]]:
    async with trio.open_nursery() as nursery:
        channel = Channel(1 << 20)
        await nursery.start(channel.run)
        kernels = []
        for number in range(sessions):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            bridge = MemoryBridge()
            session = Session(theirs.detach(), bridge, f"test {number}", options)  # type: ignore[arg-type]
            channel.add(session)
            kernels.append(Kernel(ours, channel, session, bridge))
        try:
            yield kernels
        finally:
            nursery.cancel_scope.cancel()
            for kernel in kernels:
                kernel.socket.close()
