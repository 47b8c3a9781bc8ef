"""protocol/client: the leaf of the client's graph, and the boundary of a brick.

It leads to the brick that the process serves under the name `remote-subvolume`.  While there is none, or it is down,
every fop answers ENOTCONN; when it comes up or goes down the parents hear of it.

The boundary keeps both sides apart.  Open files: the brick gets an `Fd` of its own (`BrickFd`), which hangs in the client
`Fd`'s slot and is opened anew when the brick was restarted since.  Directory offsets: see offsets.py.  Errors:
anything but a FopError is a bug in the brick, becomes EIO for that call, and takes that brick down, not the process.

What the brick answers without waiting (`Edge.now`) is called here as a plain function, and its OSErrors become FopErrors here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.fops import FOPS, Fop, Kind
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Now
from fusemux.graph.framework.options import Option
from fusemux.graph.framework.process import AttachedBrick
from fusemux.graph.framework.translator import Event, Translator
from fusemux.graph.framework.types import DirEntry, Frame, Xdata
from fusemux.graph.protocol.offsets import decode, encode, room_for

__all__ = ["BrickFd", "Client"]

_ONCE = os.O_CREAT | os.O_EXCL | os.O_TRUNC  # flags of the first open only


class BrickFd(Fd):
    """The brick's side of an open file."""

    __slots__ = ("session",)

    is_brick_fd = True

    def __init__(self, inode: Inode, flags: int, slots: int, pid: int, session: object) -> None:
        self.inode = inode  # not through super(): one is made for every create
        self.flags = flags
        self.pid = pid
        self.ctx = [None] * slots
        self.session = session  # the run of the brick that it was opened in


class _Down:
    """Stands for the brick while it does not serve."""

    now: Mapping[str, Now] = MappingProxyType({})

    def __init__(self, path: str) -> None:
        async def refuse(*args: Any) -> Any:
            raise FopError(errno.ENOTCONN, f"brick {path} is down")

        for name in FOPS:
            setattr(self, name, refuse)


class Client(Translator):
    type = "protocol/client"
    children_min = 0
    children_max = 0
    fd_slots = 1
    options = (
        Option("remote-host", "str", "localhost", "The host that serves the brick.", live=False),
        Option("remote-subvolume", "str", None, "The brick: its path on that host.", live=False),
    )  # fmt: skip

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.brick: AttachedBrick | None = None
        self.edge: Any = _Down(self.opt.remote_subvolume or "?")
        self.up = False
        self.slots = 0
        self.session: object = None
        self.leaf, self.leaves, self.numbered = 0, 1, False

    @property
    def suspends(self) -> bool:
        return self.brick is not None and self.brick.edge.suspends

    @property
    def flushes(self) -> bool:
        return self.brick is not None and getattr(self.brick.edge, "flushes", False)

    @property
    def passes(self) -> bool:
        return self.brick is not None and getattr(self.brick.edge, "passes", False)

    @property
    def recalls(self) -> bool:
        return self.brick is not None and self.up and bool(self.brick.edge.recalls)

    def backing(self, fd: Fd) -> int | None:
        mine = fd.ctx[self.fd_slot]
        if mine is None or mine.session is not self.session:
            return None
        found: int | None = self.edge.backing(mine)
        return found

    async def init(self) -> None:
        if not self.opt.remote_subvolume:
            raise FusemuxError(f"{self.name}: option remote-subvolume is missing; it is the brick's path")
        self._number()
        self.process.expect_brick(self.opt.remote_subvolume, self._changed)
        self._connect()

    def _number(self) -> None:
        """Find the place of this leaf in directory offsets.

        There is room for more leaves, and who has a number keeps it: a listing goes on when bricks come or go.
        """
        others = [t for t in self.graph.translators.values() if isinstance(t, Client) and t is not self]
        count = len(others) + 1
        taken = {other.leaf for other in others if other.numbered}
        room = max((other.leaves for other in others if other.numbered), default=1)
        self.leaf = next(number for number in range(count) if number not in taken)
        self.leaves = max(room, 1 if count == 1 else room_for(count) if count > room else room)
        self.numbered = True
        for other in others:
            other.leaves = self.leaves

    async def fini(self) -> None:
        self.process.unexpect_brick(self.opt.remote_subvolume, self._changed)
        self._disconnect()

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        if event is Event.PARENT_UP:
            self._report()
        elif event is not Event.PARENT_DOWN:
            super().notify(event, source, data)

    def reconfigure(self, given: Mapping[str, str]) -> None:
        """Another `remote-subvolume`: the brick was replaced.  What was open on the old one is not open on the new."""
        before = self.opt.remote_subvolume
        super().reconfigure(given)
        if self.opt.remote_subvolume == before:
            return
        self.process.unexpect_brick(before, self._changed)
        if self.up:
            self._disconnect()
            self.graph.relink()
            super().notify(Event.CHILD_DOWN, self)
        self.edge = _Down(self.opt.remote_subvolume)
        self.process.expect_brick(self.opt.remote_subvolume, self._changed)
        self._changed()

    # -- the brick comes and goes ----------------------------------------------------------------------------

    def _changed(self) -> None:
        """The brick was attached, came up, went down or was detached."""
        was = self.up
        self._connect()
        if self.up == was or not self.graph.started:
            return
        self.graph.relink()  # what waits may have changed
        self._report()

    def _report(self) -> None:
        past = self.brick.past if self.brick is not None else None
        super().notify(Event.CHILD_UP if self.up else Event.CHILD_DOWN, self, past)

    def _connect(self) -> None:
        brick = self.process.bricks.get(self.opt.remote_subvolume)
        if brick is None or not brick.up:
            self._disconnect()
            return
        self.brick = brick
        self.edge, self.session, self.slots = brick.edge, brick.session, brick.fd_slots
        self.up = True

    def _disconnect(self) -> None:
        if self.up:
            self.edge = _Down(self.opt.remote_subvolume)
        self.brick, self.session, self.up = None, None, False

    def refusal(self, fop: str, by_name: bool, now: Now | None, args: tuple[Any, ...], error: Exception) -> FopError:
        """What the caller hears when the brick raised something else than a FopError."""
        if now is not None and isinstance(error, OSError):
            return FopError.of(error, by_name=by_name)
        return self.broken(fop, args, error)

    def broken(self, fop: str, args: tuple[Any, ...], error: Exception) -> FopError:
        """A bug in the brick: report it once, with the call, and take the brick down."""
        if self.brick is not None:
            self.brick.fail(f"{fop}{args!r}", error)
        return FopError(errno.EIO, f"brick {self.opt.remote_subvolume}: {type(error).__name__}: {error}")

    # -- open files ------------------------------------------------------------------------------------------

    def new_fd(self, fd: Fd) -> BrickFd:
        return BrickFd(fd.inode, fd.flags, self.slots, fd.pid, self.session)

    def has_open(self, fd: Fd) -> bool:
        """Whether `fd` is open on the brick as it is now."""
        mine = fd.ctx[self.fd_slot]
        return self.up and mine is not None and mine.session is self.session

    async def reopen(self, frame: Frame, fd: Fd) -> BrickFd:
        """`fd` was opened while the brick was away, or before it was restarted."""
        mine = self.new_fd(fd)
        if fd.inode.type == 0o040000:
            await self.edge.opendir(frame, fd.inode, mine, None)
        else:
            await self.edge.open(frame, fd.inode, fd.flags & ~_ONCE, mine, None)
        fd.ctx[self.fd_slot] = mine
        return mine

    async def readdir(
        self, frame: Frame, fd: Fd, count: int, offset: int, plus: bool, xdata: Xdata = None
    ) -> list[DirEntry]:
        mine = fd.ctx[self.fd_slot]
        if mine is None or mine.session is not self.session:
            mine = await self.reopen(frame, fd)
        leaf, leaves = self.leaf, self.leaves
        try:
            entries: list[DirEntry] = await self.edge.readdir(
                frame, mine, count, decode(offset, leaves)[1], plus, xdata
            )
        except FopError:
            raise
        except Exception as error:
            raise self.broken("readdir", (fd, offset), error) from error
        if leaves == 1:
            return entries
        return [entry._replace(offset=encode(entry.offset, leaf, leaves)) for entry in entries]


Method = Callable[..., Awaitable[Any]]


def _plain(fop: Fop) -> Method:
    """A fop without an open file."""
    name, by_name = fop.name, fop.by_name

    async def call(self: Client, *args: Any) -> Any:
        edge = self.edge
        now = edge.now.get(name)
        try:
            return now(*args) if now is not None else await getattr(edge, name)(*args)
        except FopError:
            raise
        except Exception as error:
            raise self.refusal(name, by_name, now, args, error) from error

    return call


def _on_fd(fop: Fop) -> Method:
    """A fop whose first argument is an open file."""
    name, by_name = fop.name, fop.by_name

    async def call(self: Client, frame: Frame, fd: Fd, *args: Any) -> Any:
        mine = fd.ctx[self.fd_slot]
        if mine is None or mine.session is not self.session:
            mine = await self.reopen(frame, fd)
        edge = self.edge
        now = edge.now.get(name)
        try:
            return now(frame, mine, *args) if now is not None else await getattr(edge, name)(frame, mine, *args)
        except FopError:
            raise
        except Exception as error:
            raise self.refusal(name, by_name, now, (fd, *args), error) from error

    return call


def _closing(fop: Fop) -> Method:
    """flush and release: nothing is to be done where nothing was opened."""
    name, by_name, last = fop.name, fop.by_name, fop.name == "release"

    async def call(self: Client, frame: Frame, fd: Fd, *args: Any) -> None:
        mine = fd.ctx[self.fd_slot]
        if last:
            fd.ctx[self.fd_slot] = None
        if mine is None or mine.session is not self.session:
            return
        edge = self.edge
        now = edge.now.get(name)
        try:
            if now is not None:
                now(frame, mine, *args)
            else:
                await getattr(edge, name)(frame, mine, *args)
        except FopError:
            raise
        except Exception as error:
            raise self.refusal(name, by_name, now, (fd, *args), error) from error

    return call


def _on_target(fop: Fop) -> Method:
    """A fop whose first argument is an inode or an open file."""
    name, by_name = fop.name, fop.by_name

    async def call(self: Client, frame: Frame, target: Any, *args: Any) -> Any:
        if isinstance(target, Fd):
            mine = target.ctx[self.fd_slot]
            target = await self.reopen(frame, target) if mine is None or mine.session is not self.session else mine
        edge = self.edge
        now = edge.now.get(name)
        try:
            return now(frame, target, *args) if now is not None else await getattr(edge, name)(frame, target, *args)
        except FopError:
            raise
        except Exception as error:
            raise self.refusal(name, by_name, now, (target, *args), error) from error

    return call


def _in_domain(fop: Fop) -> Method:
    """A fop that takes a target after the name of its domain."""
    plain = _plain(fop)

    async def call(self: Client, frame: Frame, domain: str, target: Any, *args: Any) -> Any:
        if isinstance(target, Fd):
            mine = target.ctx[self.fd_slot]
            target = await self.reopen(frame, target) if mine is None or mine.session is not self.session else mine
        return await plain(self, frame, domain, target, *args)

    return call


def _opening(fop: Fop, place: int) -> Method:
    """A fop that opens the file at `place` of its arguments after the frame."""
    name, by_name, after = fop.name, fop.by_name, place + 1

    async def call(self: Client, frame: Frame, *args: Any) -> Any:
        fd = args[place]
        mine = BrickFd(fd.inode, fd.flags, self.slots, fd.pid, self.session)
        edge = self.edge
        now = edge.now.get(name)
        try:
            if now is not None:
                reply = now(frame, *args[:place], mine, *args[after:])
            else:
                reply = await getattr(edge, name)(frame, *args[:place], mine, *args[after:])
        except FopError:
            raise
        except Exception as error:
            raise self.refusal(name, by_name, now, args, error) from error
        fd.ctx[self.fd_slot] = mine
        return reply

    return call


_COPY = _plain(FOPS["copy_file_range"])


async def _copy(self: Client, frame: Frame, fd: Fd, offset: int, fd_out: Fd, offset_out: int, *args: Any) -> Any:
    mine, out = fd.ctx[self.fd_slot], fd_out.ctx[self.fd_slot]
    if mine is None or mine.session is not self.session:
        mine = await self.reopen(frame, fd)
    if out is None or out.session is not self.session:
        out = await self.reopen(frame, fd_out)
    return await _COPY(self, frame, mine, offset, out, offset_out, *args)


def _method(fop: Fop) -> Method:
    kinds = [arg.kind for arg in fop.args]
    if fop.name in ("open", "opendir", "create", "tmpfile"):
        return _opening(fop, kinds.index(Kind.FD))
    if fop.name in ("flush", "release"):
        return _closing(fop)
    if fop.name == "copy_file_range":
        return _copy
    if Kind.TARGET in kinds:
        return _on_target(fop) if kinds[0] is Kind.TARGET else _in_domain(fop)
    return _on_fd(fop) if kinds[0] is Kind.FD else _plain(fop)


for _fop in FOPS.values():
    if _fop.name not in Client.__dict__:
        setattr(Client, _fop.name, _method(_fop))
