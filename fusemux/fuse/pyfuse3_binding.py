"""The binding through pyfuse3 and libfuse: one FUSE session a process, whatever number of volumes it carries.

One volume is mounted where it shall be.  Several share the session: it is mounted in a private folder, each volume's root is
bound from there to its place, and the private mount is taken away again, so that the session ends with the last
place.  What pyfuse3 cannot do then: `statfs` for one of several volumes, and inode number 1 for their roots.

Mounting is done here (mount(2), or fusermount3 for ordinary users) and libfuse is given the open descriptor: it has no
say in sources and options, and cannot block the loop that must answer the requests which mounting causes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import pyfuse3
import trio

from fusemux.fuse import binds
from fusemux.fuse.binding import MountOptions, MountPoint
from fusemux.fuse.kernel import mounting, replies, tuning
from fusemux.fuse.pyfuse3_loop import ReaderLoop
from fusemux.fuse.pyfuse3_operations import Pyfuse3Operations
from fusemux.fuse.pyfuse3_volume import Pyfuse3Volume
from fusemux.fuse.routes import VOLUMES_MAX, ManyRoutes, Routes, SoleRoute
from fusemux.graph.framework.errors import FusemuxError

__all__ = ["Pyfuse3Binding"]

log = logging.getLogger("fusemux.fuse")

_TASKS_MAX = 64  # requests that may wait at one time; each keeps a buffer of the largest request
_READY_TIMEOUT_S = 20
_STOP_TIMEOUT_S = 10
_NOTICES_AT_ONCE = 256
_REQUEST_MAX = 1 << 20  # of libfuse
_SESSION_WIDE = (
    "allow_other",
    "default_permissions",
    "writeback_cache",
    "posix_acl",
    "max_read",
    "subtype",
    "sync",
    "dirsync",
)


class Pyfuse3Binding:
    """Serves mounts through pyfuse3 (see fusemux/fuse/binding.py for the protocol)."""

    name = "pyfuse3"
    _current: ClassVar[Pyfuse3Binding | None] = None

    def __init__(self) -> None:
        self.points: dict[str, MountPoint] = {}
        self.routes: Routes[Pyfuse3Volume]
        self._device = ""  # MAJOR:MINOR of the session
        self._initialised = trio.Event()
        self._ended = trio.Event()
        self._ended.set()
        self._notices: dict[
            tuple[int, bytes | None], None
        ] = {}  # in order, each once: bounded by what the kernel knows
        self._surplus: list[int] = []
        self._notice = trio.Event()
        self._notifying = False
        self._prunes = True  # whether the kernel drops nodes when asked; found out by asking
        self._fd = -1  # the session's

    # -- the protocol of bindings ------------------------------------------------------------------------------

    async def mount(self, mounts: Sequence[MountPoint]) -> None:
        """Mount all of them, or none."""
        options = _agreed(mounts)
        if Pyfuse3Binding._current is not None:
            raise FusemuxError("pyfuse3 carries one session a process, and it serves already; mount all at once")
        Pyfuse3Binding._current = self
        try:
            if len(mounts) == 1:
                fd = await self._mount_session(mounts[0].path, mounts[0].shown, options)
                self.points[os.path.abspath(mounts[0].path)] = mounts[0]
                await self._start(fd, mounts)
            else:
                await self._mount_many(mounts, options)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._abandon()
            raise

    async def serve(self) -> None:
        """Until nothing is mounted any more."""
        await self._ended.wait()

    async def unmount(self, path: str, *, lazy: bool = False) -> None:
        """Unmount one; raises MountBusy when it is in use (and not `lazy`)."""
        path = os.path.abspath(path)
        if path not in self.points:
            raise FusemuxError(f"{path} is not mounted from here; mounted are {', '.join(self.points) or 'none'}")
        await trio.to_thread.run_sync(partial(self._unmount, path, lazy=lazy), abandon_on_cancel=True)
        self.points.pop(path, None)
        if not self.points and not lazy:
            with trio.move_on_after(_STOP_TIMEOUT_S):  # a place that was detached before may still be in use
                await self._ended.wait()

    async def stop(self) -> None:
        """Unmount all.  What is in use is written back, and its connection ended: open files there fail from then on."""
        for path in reversed(list(self.points)):
            with trio.move_on_after(_STOP_TIMEOUT_S):
                try:
                    await self.unmount(path)
                except mounting.MountBusy:
                    log.warning("%s is in use; files open there are lost to their programs", path)
                except FusemuxError as error:
                    log.error("%s", error)
        await self._abandon()

    def statistics(self) -> dict[str, Any]:
        """For each mount point what its bridge holds."""
        return {path: point.bridge.statistics()._asdict() for path, point in self.points.items()}

    def bypassing(self, path: str) -> set[int]:
        """pyfuse3 passes nothing through."""
        return set()

    async def revoke(self, path: str, nodes: Collection[int]) -> int:
        return 0

    # -- mounting ----------------------------------------------------------------------------------------------

    async def _mount_session(self, path: str, source: str, options: MountOptions) -> int:
        call = partial(
            mounting.mount, path, source=source, subtype=options.subtype, words=options.words(),
            allow_other=options.allow_other, default_permissions=options.default_permissions, max_read=options.max_read,
        )  # fmt: skip
        fd = await trio.to_thread.run_sync(call)
        self._device = mounting.mounts_at(path)[-1].device
        return fd

    async def _mount_many(self, mounts: Sequence[MountPoint], options: MountOptions) -> None:
        if os.geteuid() != 0:
            raise FusemuxError("several volumes in one pyfuse3 process need root; use one process for each, or root")
        with _private_folders() as (all_of_them, one_of_them):
            session = MountOptions(**{name: getattr(options, name) for name in _SESSION_WIDE})
            fd = await self._mount_session(all_of_them, mounts[0].shown, session)
            try:
                await self._start(fd, mounts)
                for index, point in enumerate(mounts):
                    await trio.to_thread.run_sync(_place, fd, one_of_them, index, point)
                    self.points[os.path.abspath(point.path)] = point
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(partial(mounting.unmount, all_of_them, lazy=True))

    async def _start(self, fd: int, mounts: Sequence[MountPoint]) -> None:
        """Serve the session of `fd`; returns when the kernel's INIT is answered."""
        volumes = [Pyfuse3Volume(point) for point in mounts]
        self.routes = SoleRoute(volumes[0]) if len(volumes) == 1 else ManyRoutes(volumes)
        for volume in volumes:
            volume.bridge.on_invalidate = partial(self._stale, volume)
            volume.bridge.on_invalidate_entry = partial(self._stale, volume)
            volume.bridge.on_excess = partial(self._excess, volume)
        loop = ReaderLoop()
        operations = Pyfuse3Operations(self.routes, loop, self._initialised.set, mounts[0].options)
        setattr(pyfuse3, "trio", loop)  # noqa: B010 (a global that its stubs do not name)
        pyfuse3.init(operations, f"/dev/fd/{fd}", set())
        self._fd = fd
        self._ended = trio.Event()
        trio.lowlevel.spawn_system_task(self._run, name="fusemux pyfuse3 session")
        with trio.move_on_after(_READY_TIMEOUT_S):
            await self._initialised.wait()
        if not self._initialised.is_set() or self._ended.is_set():
            raise FusemuxError(f"the kernel did not start the connection within {_READY_TIMEOUT_S} s")
        options = mounts[0].options
        tuning.tune(self._device, min(options.max_read, _REQUEST_MAX), writeback=options.writeback_cache)

    # -- the session -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._notify_kernel)
                await pyfuse3.main(min_tasks=0, max_tasks=_TASKS_MAX)
                nursery.cancel_scope.cancel()
            for volume in self.routes.volumes:
                await volume.bridge.disconnect()
        except Exception:
            log.exception("the pyfuse3 session failed")
        finally:
            self._end()

    def _end(self) -> None:
        """Nobody answers any more: no dead mount must stay.  Plain, as the loop itself may be ending."""
        for path in list(self.points):
            try:
                self._unmount(path, lazy=True)
            except FusemuxError as error:
                log.error("%s", error)
        self.points.clear()
        if not self._notifying:  # else a thread is still inside libfuse, and the process must end first
            pyfuse3.close(unmount=False)
        if Pyfuse3Binding._current is self:
            Pyfuse3Binding._current = None
        self._initialised.set()
        self._ended.set()

    def _unmount(self, path: str, *, lazy: bool) -> None:
        """Unmount `path` if it is still ours that is mounted there."""
        listed = mounting.mounts_at(path)
        if self._device not in {each.device for each in listed}:
            return
        if listed[-1].device != self._device:
            raise FusemuxError(f"{listed[-1].source} is mounted over {path}; unmount that first")
        mounting.unmount(path, lazy=lazy)

    async def _abandon(self) -> None:
        """Take away whatever is left, and end the session."""
        for path in reversed(list(self.points)):
            with trio.move_on_after(_STOP_TIMEOUT_S):
                await trio.to_thread.run_sync(self._tear_down, path, abandon_on_cancel=True)
            self.points.pop(path, None)
        if self._ended.is_set():
            if Pyfuse3Binding._current is self:
                Pyfuse3Binding._current = None
            return
        with trio.move_on_after(1):
            await self._ended.wait()
        if not self._ended.is_set():
            pyfuse3.terminate()
            await self._ended.wait()

    def _tear_down(self, path: str) -> None:
        """Unmount `path` whoever uses it; what the kernel has gathered is written back before."""
        try:
            self._unmount(path, lazy=False)
        except mounting.MountBusy:
            if not self._ended.is_set():
                binds.sync(path)
            if os.geteuid() == 0 and len(self.points) == 1:
                binds.force(path)
            else:
                self._unmount(path, lazy=True)

    # -- telling the kernel ------------------------------------------------------------------------------------

    def _stale(self, volume: Pyfuse3Volume, nodeid: int, name: bytes | None = None) -> None:
        """The kernel shall drop a node's attributes and contents, or a name in it."""
        self._notices[self.routes.show(volume, nodeid), name] = None
        self._notice.set()

    def _excess(self, volume: Pyfuse3Volume, nodes: list[int]) -> None:
        """The kernel shall drop nodes if nobody uses them."""
        if self._prunes:
            self._surplus += [self.routes.show(volume, nodeid) for nodeid in nodes]
            self._notice.set()
        else:
            for place in volume.bridge.places_of_files(nodes):
                self._stale(volume, *place)

    async def _notify_kernel(self) -> None:
        """Notices can wait for locks and pages that are held by requests which wait for us: a thread sends them."""
        while True:
            await self._notice.wait()
            self._notice = trio.Event()
            pending, self._notices = list(self._notices), {}
            surplus, self._surplus = self._surplus, []
            for start in range(0, max(len(pending), len(surplus)), _NOTICES_AT_ONCE):
                self._notifying = True
                batch = slice(start, start + _NOTICES_AT_ONCE)
                await trio.to_thread.run_sync(self._send, pending[batch], surplus[batch], abandon_on_cancel=True)

    def _send(self, stale: Sequence[tuple[int, bytes | None]], surplus: Sequence[int]) -> None:
        try:
            if surplus and self._prunes:
                self._prune(surplus)
            for shown, name in stale:
                try:
                    if name is None:
                        pyfuse3.invalidate_inode(shown)
                    else:
                        pyfuse3.invalidate_entry(shown, name)
                except OSError as error:
                    log.debug("the kernel has no use for a notice: %s", error)
        finally:
            self._notifying = False

    def _prune(self, surplus: Sequence[int]) -> None:
        try:
            os.write(self._fd, replies.prune(surplus))
        except OSError as error:
            log.debug("the kernel does not drop nodes when asked (Linux 6.18 does): %s", error)
            self._prunes = False


def _agreed(mounts: Sequence[MountPoint]) -> MountOptions:
    """The options of a session, which all its mounts must share."""
    if not 1 <= len(mounts) <= VOLUMES_MAX:
        raise FusemuxError(f"pyfuse3 serves from 1 to {VOLUMES_MAX} volumes a process, not {len(mounts)}")
    options = mounts[0].options
    for point in mounts:
        if point.options.shared:
            raise FusemuxError(
                f"{point.path}: pyfuse3 mounts a volume at one place only; use binding=kernel, or mount --bind"
            )
        if point.options.locks:
            raise FusemuxError(f"{point.path}: pyfuse3 cannot carry locks; use binding=kernel, or locks=kernel")
        for name in _SESSION_WIDE:
            if getattr(point.options, name) != getattr(options, name):
                raise FusemuxError(
                    f"{point.path}: all volumes of a pyfuse3 process share the option {name}; "
                    f"give it to all or to none, or use binding=kernel"
                )
    return options


@contextlib.contextmanager
def _private_folders() -> Iterator[tuple[str, str]]:
    """Two folders to mount at, which are gone afterwards."""
    base = tempfile.mkdtemp(prefix="fusemux-")
    folders = os.path.join(base, "all"), os.path.join(base, "one")
    try:
        for folder in folders:
            os.mkdir(folder, 0o700)
        yield folders
    finally:
        for folder in (*folders, base):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _place(fd: int, folder: str, index: int, point: MountPoint) -> None:
    """Show volume `index` of the session `fd` at its place and under its own source; `folder` is for passing through."""
    if not os.path.isdir(point.path):
        raise FusemuxError(f"mount point {point.path} does not exist; create the directory first")
    binds.mount_again(fd, folder, point.shown, point.options.subtype)
    try:
        binds.bind(f"{folder}/{index}", point.path, point.options.words())
    finally:
        mounting.unmount(folder, lazy=True)
