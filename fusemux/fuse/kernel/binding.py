"""The binding to the kernel: mounts volumes, serves all of them from one channel, unmounts each on its own.

The channel runs as a system task from the first mount on, so that a mount serves from the moment `mount` returns; whatever
is still mounted when the event loop ends is taken away with it.  What can wait for a file system that this process
itself serves (mount(2), umount2(2), resolving a path) runs in a thread.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from fusemux.fuse.kernel import mounting, notifier, tuning
from fusemux.fuse.kernel.channel import Channel
from fusemux.fuse.kernel.negotiation import Wishes
from fusemux.fuse.kernel.notifier import Notifier
from fusemux.fuse.kernel.revoking import revoke
from fusemux.fuse.kernel.session import Session, SessionOptions
from fusemux.graph.framework.errors import FusemuxError

if TYPE_CHECKING:
    from fusemux.fuse.binding import MountPoint

__all__ = ["KernelBinding"]

log = logging.getLogger("fusemux.fuse")

_READY_TIMEOUT_S = 20
_STOP_TIMEOUT_S = 10


class _Place(NamedTuple):
    """Where a connection is mounted."""

    fd: int
    path: str  # without symbolic links
    device: str  # MAJOR:MINOR


class _Mount:
    """A session and the place where it is mounted."""

    def __init__(self, point: MountPoint, session: Session, place: _Place) -> None:
        self.point = point
        self.session = session
        self.place = place
        self.gone = trio.Event()  # everything is cleaned up

    @property
    def path(self) -> str:
        return self.place.path


class KernelBinding:
    """Serves any number of mounts over /dev/fuse (see fusemux/fuse/binding.py for the protocol)."""

    name = "kernel"

    def __init__(self, *, max_write: int = 1 << 20) -> None:
        self.max_write = max_write
        self.mounts: dict[str, _Mount] = {}  # by resolved path
        self._channel: Channel | None = None
        self._nursery: trio.Nursery | None = None
        self._threads = notifier.limiter()
        self._idle = trio.Event()
        self._idle.set()

    # -- the protocol of bindings ------------------------------------------------------------------------------

    async def mount(self, mounts: Sequence[MountPoint]) -> None:
        """Mount all of them, or none.  Returns when the kernel and every session have agreed (INIT)."""
        await self._start()
        done: list[_Mount] = []
        try:
            for point in mounts:
                done.append(await self._mount_one(point))
        except BaseException:
            with trio.CancelScope(shield=True):
                for mount in reversed(done):
                    await self._abandon(mount)
            raise

    async def serve(self) -> None:
        """Until nothing is mounted any more."""
        await self._idle.wait()

    async def unmount(self, path: str, *, lazy: bool = False) -> None:
        """Unmount one; raises MountBusy when it is in use (and not `lazy`)."""
        mount = self.mounts.get(path)
        if mount is None:
            mount = self.mounts.get(await trio.to_thread.run_sync(_resolved, path))
        if mount is None:
            raise FusemuxError(f"{path} is not mounted from here; mounted are {', '.join(self.mounts) or 'none'}")
        await self._unmount(mount, lazy=lazy)
        if not lazy:
            await mount.gone.wait()

    async def stop(self) -> None:
        """Unmount all.  What is in use is written back and detached, and its connection ended: open files there fail."""
        busy = []
        for mount in sorted(self.mounts.values(), key=lambda mount: -len(mount.path)):  # what lies in another one first
            with trio.move_on_after(_STOP_TIMEOUT_S):
                try:
                    await self._unmount(mount)
                    await mount.gone.wait()
                    continue
                except FusemuxError as error:
                    log.warning("%s; what is open there fails from now on", error)
            busy.append(mount)
        async with trio.open_nursery() as nursery:
            for mount in busy:
                nursery.start_soon(self._detach, mount)

    def bypassing(self, path: str) -> set[int]:
        mount = self._mounted(path)
        return mount.session.passthrough.bypassing() if mount is not None and mount.session.passthrough else set()

    async def revoke(self, path: str, nodes: Collection[int]) -> int:
        """See revoking.py."""
        mount = self._mounted(path)
        return await revoke(mount.session, mount.path, mount.place.device, nodes) if mount is not None else 0

    def _mounted(self, path: str) -> _Mount | None:
        """The mount of the point `path`, whatever links lead there."""
        return next((mount for mount in self.mounts.values() if mount.point.path == path), None)

    def statistics(self) -> dict[str, Any]:
        """For each mount point what its session has done."""
        return {mount.point.path: mount.session.statistics()._asdict() for mount in self.mounts.values()}

    # -- one mount ---------------------------------------------------------------------------------------------

    async def _mount_one(self, point: MountPoint) -> _Mount:
        place = await trio.to_thread.run_sync(_mount, point)
        session = Session(place.fd, point.bridge, place.path, session_options(point, self.max_write))
        mount = _Mount(point, session, place)
        self.mounts[place.path] = mount
        if self._idle.is_set():
            self._idle = trio.Event()
        assert self._channel is not None
        assert self._nursery is not None
        self._channel.add(session)
        self._nursery.start_soon(self._watch, mount)
        try:
            with trio.move_on_after(_READY_TIMEOUT_S):
                await session.ready.wait()
            if session.failure is not None:
                raise session.failure
            if session.agreement is None:
                raise FusemuxError(f"the kernel did not start the connection of {place.path} in {_READY_TIMEOUT_S} s")
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._abandon(mount)
            raise
        tuning.tune(place.device, session.agreement.max_write, writeback=session.options.wishes.writeback_cache)
        return mount

    async def _watch(self, mount: _Mount) -> None:
        """Tell the kernel what has become stale; clean up when the session has ended, however it did."""
        session, bridge = mount.session, mount.point.bridge
        told = Notifier(session, self._threads)
        try:
            bridge.on_invalidate, bridge.on_invalidate_entry, bridge.on_excess = told.inode, told.entry, told.excess
            async with trio.open_nursery() as nursery:
                nursery.start_soon(told.run)
                await session.ended.wait()
                nursery.cancel_scope.cancel()
            bridge.on_invalidate = bridge.on_invalidate_entry = bridge.on_excess = None
            with trio.move_on_after(_STOP_TIMEOUT_S):
                await session.drained.wait()
            disconnect = getattr(bridge, "disconnect", None)
            if disconnect is not None:
                await disconnect()  # the kernel went without closing and forgetting
            if session.aborted:  # the mount is still there, and dead
                await self._unmount(mount, lazy=True)
        except Exception:
            log.exception("cleaning up after %s", mount.path)
        finally:
            self._remove(mount)

    async def _detach(self, mount: _Mount) -> None:
        """End a mount that is in use, with what the kernel still holds of it written back."""
        with trio.move_on_after(_STOP_TIMEOUT_S):
            try:
                await trio.to_thread.run_sync(mounting.write_back, mount.path, abandon_on_cancel=True)
            except OSError as error:
                log.error("writing back %s: %s", mount.path, error)
        await self._abandon(mount)

    async def _abandon(self, mount: _Mount) -> None:
        """Take the mount away whatever happens, and end its connection."""
        if not mount.session.ended.is_set():
            with trio.move_on_after(_STOP_TIMEOUT_S):
                try:
                    await self._unmount(mount, lazy=True, force=True)
                except FusemuxError as error:
                    log.error("%s", error)
            if self._channel is not None:
                self._channel.remove(mount.session)
        await mount.gone.wait()

    async def _unmount(self, mount: _Mount, *, lazy: bool = False, force: bool = False) -> None:
        call = partial(_unmount, mount.place, lazy=lazy, force=force)
        await trio.to_thread.run_sync(call, abandon_on_cancel=True)

    def _remove(self, mount: _Mount) -> None:
        if self.mounts.get(mount.path) is mount:
            del self.mounts[mount.path]
        mount.gone.set()
        if not self.mounts:
            self._idle.set()

    # -- the channel -------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        if self._channel is not None:
            return
        self._channel = Channel(self.max_write)
        _channels.add(self._channel)
        started = trio.Event()
        trio.lowlevel.spawn_system_task(self._run, self._channel, started, name="fusemux kernel channel")
        await started.wait()

    async def _run(self, channel: Channel, started: trio.Event) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                await self._nursery.start(channel.run)
                started.set()
        except Exception:
            log.exception("the kernel channel failed")
        finally:
            self._channel = self._nursery = None
            for mount in list(self.mounts.values()):  # the loop ends under us: a dead mount must not stay
                channel.remove(mount.session)
                try:
                    _unmount(mount.place, lazy=True, force=True)
                except Exception as error:
                    log.error("%s", error)
                self._remove(mount)
            started.set()


def session_options(point: MountPoint, max_write: int) -> SessionOptions:
    """What `point`'s mount options mean for its session."""
    options = point.options
    wishes = Wishes(
        max_write=min(max_write, options.max_write or max_write),
        writeback_cache=options.writeback_cache,
        posix_acl=options.posix_acl,
        passthrough=options.passthrough and not options.shared and os.geteuid() == 0 and point.bridge.passes,
        shared=options.shared,
        locks=options.locks,
    )
    return SessionOptions(
        entry_timeout=options.entry_timeout,
        attr_timeout=options.attr_timeout,
        negative_timeout=options.negative_timeout,
        wishes=wishes,
    )


def _resolved(path: str) -> str:
    """The path as the kernel lists it; what leads to it must be there, itself it may be dead."""
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(parent), name) if name else parent


def _mount(point: MountPoint) -> _Place:
    options = point.options
    path = os.path.realpath(point.path) if not mounting.is_stale(point.path) else point.path
    fd = mounting.mount(
        path,
        source=point.shown,
        subtype=options.subtype,
        words=options.words(),
        allow_other=options.allow_other,
        default_permissions=options.default_permissions,
        max_read=options.max_read or 0,
    )
    listed = mounting.mounts_at(path)
    if not listed:  # somebody was faster
        os.close(fd)
        raise FusemuxError(f"{path} was unmounted while it was being mounted; try again")
    return _Place(fd, path, listed[-1].device)


def _unmount(place: _Place, *, lazy: bool, force: bool = False) -> None:
    """Unmount it if it is still what is mounted there."""
    listed = mounting.mounts_at(place.path)
    if place.device not in {each.device for each in listed}:
        return
    if listed[-1].device != place.device:
        raise FusemuxError(f"{listed[-1].source} is mounted over {place.path}; unmount that first")
    mounting.unmount(place.path, lazy=lazy, force=force)


# A forked child shares our descriptors: as long as it lives, a connection whose server died would not end.
_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


def _close_in_child() -> None:
    for channel in _channels:
        for fd in channel.sessions:
            try:
                os.close(fd)
            except OSError:
                pass
        channel.sessions.clear()


os.register_at_fork(after_in_child=_close_in_child)
