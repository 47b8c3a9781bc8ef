"""One mounted file system: its /dev/fuse descriptor, what was agreed in INIT, and what is known of its nodes."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Coroutine, Iterator, MutableSet
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.negotiation import Agreement, Wishes
from fusemux.fuse.kernel.passthrough import Passthrough
from fusemux.fuse.kernel.protocol import InitFlag, OpenFlag
from fusemux.fuse.kernel.replies import Validity
from fusemux.graph.framework.types import Frame

if TYPE_CHECKING:
    from fusemux.fuse.bridge import Bridge

__all__ = ["Append", "Session", "SessionOptions", "SessionStatistics", "notify"]

log = logging.getLogger("fusemux.fuse")
Append = Callable[[Frame, int, memoryview], Coroutine[Any, Any, int]]

_LOGGED_MAX = 256  # distinct faults of handlers that are logged in full, in one session
_INCAPABLE_MAX = 65536
_NOFLUSH = int(OpenFlag.NOFLUSH)


# ENOENT: the kernel does not know the node; EINVAL: it does not know the message; the others: it is over.
_UNHEARD = (errno.ENOENT, errno.EINVAL, errno.ENODEV, errno.EBADF, errno.ENOTCONN, errno.ECONNABORTED, errno.ENOTDIR)


def notify(fd: int, message: bytes) -> None:
    """Write a notification to a connection; that the kernel cannot use it is no error."""
    try:
        os.write(fd, message)
    except OSError as error:
        if error.errno not in _UNHEARD:
            raise


class SessionOptions(NamedTuple):
    """What a session needs to know of a mount's options."""

    entry_timeout: float = float("inf")
    attr_timeout: float = float("inf")
    negative_timeout: float = float("inf")
    keep_cache: bool = True
    wishes: Wishes = Wishes()


class SessionStatistics(NamedTuple):
    requests: int
    suspended: int
    errors: int
    minor: int
    max_write: int
    flags: str
    passed: int  # files that the kernel reads and writes by itself


def _nothing() -> None:
    pass


def _no_request(buffer: Any) -> int | None:
    return None


class _Everything(MutableSet[int]):
    """Somebody else may have made any node a privileged one."""

    def __contains__(self, nodeid: object) -> bool:
        return True

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def add(self, value: int) -> None:
        pass

    def discard(self, value: int) -> None:
        pass


class Session:
    """The state of one mount.  The channel reads its descriptor; operations use the rest."""

    def __init__(self, fd: int, bridge: Bridge, name: str, options: SessionOptions | None = None) -> None:
        options = options or SessionOptions()
        self.fd = fd
        self.bridge = bridge
        self.name = name
        self.options = options
        self.valid: Validity = replies.validity(options.entry_timeout, options.attr_timeout)
        self.negative: Validity | None = (
            replies.validity(options.negative_timeout, 0.0) if options.negative_timeout > 0 else None
        )
        self._file_flags = int(OpenFlag.KEEP_CACHE if options.keep_cache else 0)
        self.directory_flags = int(OpenFlag.KEEP_CACHE | OpenFlag.CACHE_DIR) if options.entry_timeout > 0 else 0
        self.agreement: Agreement | None = None
        self.failure: Exception | None = None
        self.ready = trio.Event()  # INIT was answered, or failed
        self.ended = trio.Event()  # unmounted or aborted
        self.drained = trio.Event()  # and no request of it is being served any more
        self.aborted = False
        # Of a bridge that knows better than one kernel where a file ends: append(frame, fh, data).
        self.append: Append | None = getattr(bridge, "append", None)
        self.passthrough: Passthrough | None = None
        self.direct: dict[int, int] = {}  # nodes that are written past the page cache -> by how many open files
        self._direct_flag = 0
        # Nodes whose attributes are not kept: they may be changed by stores to memory, of which nobody hears.
        self.stores: set[int] = getattr(bridge, "doubtful", set())
        self._fleeting = replies.validity(options.entry_timeout, 0.0)
        shared = options.wishes.shared
        self.exclusive = options.attr_timeout == float("inf") and not shared  # nobody else changes the volume
        # Nodes with setuid or setgid bits or file capabilities.
        self.privileged: MutableSet[int] = _Everything() if shared else set()
        self.incapable: set[int] = set()  # nodes known to have no file capabilities
        self.revoking = trio.Lock()
        self.revoker = 0  # the thread that makes the kernel give up inodes (revoking.py), while there is one
        self.generations: dict[int, int] = {}  # of nodes to which that was done: how often
        self.suspended: dict[int, Callable[[], None]] = {}  # unique -> interrupt
        self.receive: Callable[[Any], int | None] = _no_request  # the channel's: read a request, None: there is none
        self.send_held: Callable[[], None] = _nothing  # the channel's: send the answers that it holds
        self.requests = 0
        self.errors = 0
        self._logged: set[tuple[str, str, int]] = set()

    def agree(self, agreement: Agreement) -> None:
        """INIT is settled."""
        self.agreement = agreement
        if agreement.has(InitFlag.PASSTHROUGH):
            self.passthrough = Passthrough(self.fd, self.bridge, self.name)
        if agreement.has(InitFlag.DIRECT_IO_ALLOW_MMAP):  # else who reads a file meanwhile could not map it
            self._direct_flag = int(OpenFlag.DIRECT_IO)
        self.ready.set()

    def valid_of(self, nodeid: int) -> Validity:
        """How long the kernel may believe what it is told of a node."""
        return self.valid if nodeid not in self.stores else self._fleeting

    def opened(self, nodeid: int, fh: int) -> tuple[int, int]:
        """How the kernel shall treat a file that is opened now: flags, and what it is passed through to (0: nothing)."""
        flags = self._file_flags if self.bridge.flushes else self._file_flags | _NOFLUSH
        if self.direct and nodeid in self.direct:
            flags |= self._written_directly(nodeid, fh)
        if self.passthrough is None:
            return flags, 0
        flags, backing = self.passthrough.opened(nodeid, fh, flags)
        if backing and nodeid not in self.stores and self.bridge.access_of(fh) == os.O_RDWR:  # it can be mapped
            self.stores.add(nodeid)
            self.notify(replies.inval_inode(nodeid, -1))  # attributes only
        return flags, backing

    def made(self, nodeid: int, fh: int) -> tuple[int, int]:
        """The same for a new file.

        What can only be written through its handle is written without the page cache: what is in memory already, in
        a brick, would lie there twice, and the kernel would ask for file capabilities before the first write.

        Before such a write, or a little after it too, the kernel drops what it has cached of the place: who reads in the middle
        has it cached again, as it was, while the size is already known.  So who opens the file meanwhile does not use the cache either;
        and where requests overtake each other, so that mapped memory would meet the same, nothing is written like this.
        """
        self.incapable_now(nodeid)
        flags, backing = self.opened(nodeid, fh)
        if self._direct_flag and not backing and not self.bridge.waits and self.bridge.only_written(fh):
            flags |= self._written_directly(nodeid, fh)
        return flags, backing

    def _written_directly(self, nodeid: int, fh: int) -> int:
        """The flag for one more open file of a node that is written past the page cache."""
        if self.bridge.access_of(fh) != os.O_RDONLY:
            self.direct[nodeid] = self.direct.get(nodeid, 0) + 1
        return self._direct_flag

    def closed(self, nodeid: int, fh: int) -> None:
        """An open file is about to be released."""
        if self.direct and nodeid in self.direct and self.bridge.access_of(fh) != os.O_RDONLY:
            self.direct[nodeid] -= 1
            if not self.direct[nodeid]:
                del self.direct[nodeid]
        if self.passthrough is not None and self.passthrough.closed(nodeid) and nodeid in self.stores:
            self.stores.discard(nodeid)
            self.notify(replies.inval_inode(nodeid, -1))

    # -- privileges ------------------------------------------------------------------------------------------

    def incapable_now(self, nodeid: int) -> None:
        """A new file, or one that was looked at: the kernel's question for its capabilities can be answered from here."""
        if self.exclusive:
            if len(self.incapable) >= _INCAPABLE_MAX:
                self.incapable.clear()
            self.incapable.add(nodeid)

    def capable(self, nodeid: int) -> None:
        """The node has file capabilities, or may have."""
        self.incapable.discard(nodeid)
        self.privileged.add(nodeid)

    def forgotten(self, nodeid: int, nlookup: int) -> None:
        if self.privileged:
            self.privileged.discard(nodeid)
        self.incapable.discard(nodeid)
        self.bridge.forget(nodeid, nlookup)

    # -- the kernel ------------------------------------------------------------------------------------------

    def notify(self, message: bytes) -> None:
        """Send a notification, after what was answered before.

        Only those that wait for no lock of the kernel may be sent from the event loop.
        """
        self.send_held()
        notify(self.fd, message)

    def end(self) -> None:
        """Nothing more comes; what waits and may be cut short is."""
        self.ended.set()
        self.passthrough = None  # what the kernel had of ours it has given back
        for cancel in list(self.suspended.values()):
            cancel()
        self.settle()

    def settle(self) -> None:
        """Call it when a suspended request has ended."""
        if self.ended.is_set() and not self.suspended:
            self.drained.set()

    def interrupt(self, unique: int) -> None:
        """The kernel asks to end a request early.  One that has been answered, or must not be cut, is left alone."""
        cancel = self.suspended.get(unique)
        if cancel is not None:
            cancel()

    # -- reporting -------------------------------------------------------------------------------------------

    def report(self, operation: str, nodeid: int, fault: BaseException) -> None:
        """Log a handler's fault with its call, in full the first time."""
        self.errors += 1
        trace = fault.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        key = (operation, type(fault).__name__, trace.tb_lineno if trace is not None else 0)
        if key in self._logged or len(self._logged) >= _LOGGED_MAX:
            log.debug("%s: %s of node %#x failed again: %r", self.name, operation, nodeid, fault)
            return
        self._logged.add(key)
        log.error("%s: %s of node %#x raised, answered EIO", self.name, operation, nodeid, exc_info=fault)

    def statistics(self) -> SessionStatistics:
        agreed = self.agreement
        return SessionStatistics(
            self.requests, len(self.suspended), self.errors,
            agreed.minor if agreed else 0, agreed.max_write if agreed else 0, agreed.flags.name or "" if agreed else "",
            self.passthrough.count if self.passthrough is not None else 0,
        )  # fmt: skip
