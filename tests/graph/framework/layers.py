"""Translators for the framework's tests: a leaf that answers, and layers that do one thing each."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

import trio

from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.fops import Fop
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.options import Option
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Event, Translator
from fusemux.graph.framework.types import Frame, Iatt, StatVfs

SPACE = StatVfs(4096, 4096, 1000, 500, 500, 100, 50, 50)


def iatt(gfid: bytes, size: int = 0) -> Iatt:
    return Iatt(gfid, 0o100644, 1, 0, 0, 0, size, 0, 4096, 0, 0, 0)


class Recorded(Translator):
    """Writes its life into `journal`, one for all translators of a test."""

    journal: ClassVar[list[tuple[str, ...]]] = []  # replaced by the fixture of the same name

    async def init(self) -> None:
        self.journal.append(("init", self.name))

    async def drain(self) -> None:
        self.journal.append(("drain", self.name))

    async def fini(self) -> None:
        self.journal.append(("fini", self.name))

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        self.journal.append((event.name, self.name))
        super().notify(event, source, data)


class Leaf(Recorded):
    """Answers statfs, stat and readv; everything else is refused by linking."""

    type = "testing/leaf"
    children_min = children_max = 0
    options = (
        Option("size", "size", "1KB", "How large every file is.", low=1, high=1024**3),
        Option("slow", "bool", "off", "Whether fops may wait."),
    )

    @property
    def suspends(self) -> bool:
        return bool(self.opt.slow)

    async def statfs(self, frame: Frame, inode: Inode, xdata: Any = None) -> StatVfs:
        self.journal.append(("statfs", self.name))
        if self.opt.slow:
            await trio.lowlevel.checkpoint()
        return SPACE

    async def stat(self, frame: Frame, target: Inode | Fd, xdata: Any = None) -> Iatt:
        inode = target.inode if isinstance(target, Fd) else target
        return iatt(inode.gfid, self.opt.size)


class Idle(Recorded):
    """Intercepts nothing."""

    type = "testing/idle"


class Switch(Recorded):
    """Intercepts statfs while it is on."""

    type = "testing/switch"
    options = (Option("active", "bool", "off", "Whether statfs stops here."),)

    def intercepts(self, fop: str) -> bool:
        return bool(self.opt.active) and fop == "statfs"

    async def statfs(self, frame: Frame, inode: Inode, xdata: Any = None) -> StatVfs:
        self.journal.append(("statfs", self.name))
        return await self.child.statfs(frame, inode, xdata)


class Around(Recorded):
    """Sees every fop, by one method."""

    type = "testing/around"

    async def around(self, fop: Fop, next: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        self.journal.append((f"around {fop.name}", self.name))
        return await next(*args)


class Fan(Recorded):
    """Has several children and answers statfs from the first; remembers inodes it was told to forget."""

    type = "testing/fan"
    children_max = None
    inode_slots = 1
    fd_slots = 1

    async def statfs(self, frame: Frame, inode: Inode, xdata: Any = None) -> StatVfs:
        self.journal.append(("statfs", self.name))
        return await self.children[0].statfs(frame, inode, xdata)

    def forget(self, inode: Inode) -> None:
        self.journal.append(("forget", self.name))


class Failing(Recorded):
    """Cannot start."""

    type = "testing/failing"

    async def init(self) -> None:
        raise FusemuxError(f"{self.name} cannot start")


class Stubborn(Recorded):
    """Asks the process for threads, and takes no new options but the number of threads."""

    type = "testing/stubborn"
    options = (Option("threads", "int", "4", "Threads of the pool.", low=1, high=64),)

    def __init__(self, name: str, given: Mapping[str, str], process: Process) -> None:
        super().__init__(name, given, process)
        process.request("pool-threads", self, self.opt.threads)

    def reconfigure(self, given: Mapping[str, str]) -> None:
        super().reconfigure(given)
        self.process.request("pool-threads", self, self.opt.threads)


class Broken(Recorded):
    """Answers with whatever `reply` is, calls it, awaits it or raises it."""

    type = "testing/broken"
    children_min = children_max = 0
    reply: Any = None

    async def _answer(self, *args: Any) -> Any:
        if isinstance(self.reply, BaseException):
            raise self.reply
        reply = self.reply(*args) if callable(self.reply) else self.reply
        return await reply if inspect.isawaitable(reply) else reply

    stat = statfs = readv = writev = readdir = getxattr = release = _answer
