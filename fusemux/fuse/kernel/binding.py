"""The binding to the kernel: mounts volumes, serves all of them from one channel, unmounts each on its own.

The channel runs as a system task from the first mount to the end of the last, so that a mount serves from the moment
`mount` returns.  Whatever can wait for a file system that this process itself serves (mount(2), umount2(2), stat(2) on the
way) runs in a thread.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from fusemux.fuse.kernel import mounting, tuning
from fusemux.fuse.kernel.channel import Channel
from fusemux.fuse.kernel.negotiation import Wishes
from fusemux.fuse.kernel.session import Session, SessionOptions
from fusemux.graph.framework.errors import FusemuxError

if TYPE_CHECKING:
    from fusemux.fuse.binding import MountOptions, MountPoint

__all__ = ["KernelBinding"]

log = logging.getLogger("fusemux.fuse")

_READY_TIMEOUT_S = 20
_STOP_TIMEOUT_S = 10


class _Mount:
    """A session and the place where it is mounted."""

    def __init__(self, point: MountPoint, session: Session, mounted: mounting.Mounted | None) -> None:
        self.point = point
        self.path = os.path.abspath(point.path)
        self.session = session
        self.mounted = mounted
        self.gone = trio.Event()  # everything is cleaned up


class KernelBinding:
    """Serves any number of mounts over /dev/fuse (see fusemux/fuse/binding.py for the protocol)."""

    name = "kernel"

    def __init__(self, *, max_write: int = 1 << 20) -> None:
        self.max_write = max_write
        self.mounts: dict[str, _Mount] = {}
        self._channel: Channel | None = None
        self._running: trio.CancelScope | None = None
        self._nursery: trio.Nursery | None = None
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
        mount = self.mounts.get(os.path.abspath(path))
        if mount is None:
            raise FusemuxError(f"{path} is not mounted from here; mounted are {', '.join(self.mounts) or 'none'}")
        await trio.to_thread.run_sync(partial(_unmount, mount, lazy=lazy), abandon_on_cancel=True)
        if not lazy:
            await mount.gone.wait()

    async def stop(self) -> None:
        """Unmount all.  What is in use is detached, and its connection ended: open files there fail from then on."""
        for mount in list(self.mounts.values()):
            with trio.move_on_after(_STOP_TIMEOUT_S):
                try:
                    await self.unmount(mount.path)
                    continue
                except mounting.MountBusy:
                    log.warning("%s is in use; files open there are lost to their programs", mount.path)
                except FusemuxError as error:
                    log.error("%s", error)
            await self._abandon(mount)

    def statistics(self) -> dict[str, Any]:
        """For each mount point what its session has done."""
        return {path: mount.session.statistics()._asdict() for path, mount in self.mounts.items()}

    # -- one mount ---------------------------------------------------------------------------------------------

    async def _mount_one(self, point: MountPoint) -> _Mount:
        path = os.path.abspath(point.path)
        if path in self.mounts:
            raise FusemuxError(f"{path} is mounted from here already")
        fd = await trio.to_thread.run_sync(partial(_mount, point, path))
        session = Session(fd, point.bridge, path, session_options(point, self.max_write))
        listed = mounting.mounts_at(path)
        mount = _Mount(point, session, listed[-1] if listed else None)
        self.mounts[path] = mount
        self._idle = trio.Event()
        assert self._channel is not None
        assert self._nursery is not None
        self._channel.add(session)
        self._nursery.start_soon(self._watch, mount)
        try:
            with trio.fail_after(_READY_TIMEOUT_S):
                await session.ready.wait()
            if session.failure is not None:
                raise session.failure
        except trio.TooSlowError:
            await self._abandon(mount)
            raise FusemuxError(
                f"the kernel did not start the connection of {path} within {_READY_TIMEOUT_S} s"
            ) from None
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._abandon(mount)
            raise
        if mount.mounted is not None:
            tuning.tune(mount.mounted, session.agreement, writeback=session.options.wishes.writeback_cache)
        return mount

    async def _watch(self, mount: _Mount) -> None:
        """Clean up when the session has ended, however it did."""
        try:
            await mount.session.ended.wait()
            if mount.session.aborted:  # the mount is still there, and dead
                await trio.to_thread.run_sync(partial(_unmount, mount, lazy=True), abandon_on_cancel=True)
        except Exception:
            log.exception("cleaning up after %s", mount.path)
        finally:
            self._remove(mount)

    async def _abandon(self, mount: _Mount) -> None:
        """Take the mount away whatever happens, and end its connection."""
        if mount.session.ended.is_set():
            return
        with trio.move_on_after(_STOP_TIMEOUT_S):
            try:
                await trio.to_thread.run_sync(partial(_unmount, mount, lazy=True), abandon_on_cancel=True)
            except FusemuxError as error:
                log.error("%s", error)
        if self._channel is not None:
            self._channel.remove(mount.session)
        await mount.gone.wait()

    def _remove(self, mount: _Mount) -> None:
        self.mounts.pop(mount.path, None)
        mount.gone.set()
        if not self.mounts:
            self._idle.set()
            if self._running is not None:
                self._running.cancel()

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
            with trio.CancelScope() as self._running:
                async with trio.open_nursery() as self._nursery:
                    await self._nursery.start(channel.run)
                    started.set()
        except Exception:
            log.exception("the kernel channel failed")
        finally:
            self._channel = self._nursery = self._running = None
            for mount in list(self.mounts.values()):  # the loop ends under us: a dead mount must not stay
                channel.remove(mount.session)
                try:
                    _unmount(mount, lazy=True)
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
        posix_acl=getattr(options, "posix_acl", False),
        passthrough=getattr(options, "passthrough", False),
    )
    return SessionOptions(
        entry_timeout=options.entry_timeout,
        attr_timeout=options.attr_timeout,
        negative_timeout=options.negative_timeout,
        flush=getattr(point.bridge, "needs_flush", True),
        wishes=wishes,
    )


def _words(options: MountOptions) -> list[str]:
    """The generic options, as mount(8) writes them."""
    words = options.words()
    return words if options.read_only else ["rw", *words]


def _mount(point: MountPoint, path: str) -> int:
    options = point.options
    return mounting.mount(
        path,
        source=point.shown,
        subtype=options.subtype,
        words=_words(options),
        allow_other=options.allow_other,
        default_permissions=options.default_permissions,
        max_read=options.max_read or 0,
    )


def _unmount(mount: _Mount, *, lazy: bool) -> None:
    """Unmount it if it is still what is mounted there."""
    listed = mounting.mounts_at(mount.path)
    if mount.mounted is None or mount.mounted.device not in {each.device for each in listed}:
        return
    if listed[-1].device != mount.mounted.device:
        raise FusemuxError(f"{listed[-1].source} is mounted over {mount.path}; unmount that first")
    mounting.unmount(mount.path, lazy=lazy)


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
