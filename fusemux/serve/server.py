"""The serving process: volumes, their mounts, the control socket, signals, readiness.

One process serves any number of volumes.  It starts all of them or none, says so once (the parent that waits, the
service manager), serves until the last mount is gone, SIGTERM or SIGINT, and leaves nothing behind.

    SIGTERM, SIGINT   finish what runs, unmount, end; a second one does not wait
    SIGHUP            read the definitions again and take their options
    SIGUSR1           write the stacks of all tasks and a statedump to RUN_DIR/dumps
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from fusemux import __version__
from fusemux.fuse.binding import Binding, MountPoint
from fusemux.fuse.bridge import Bridge, BridgeOptions
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.graph import TopologyChanged
from fusemux.graph.framework.process import Process
from fusemux.mount.errors import Exit, MountError
from fusemux.mount.plan import PlannedMount
from fusemux.mount.remount import flags_of, set_flags
from fusemux.serve import journal, mounttable, statedump
from fusemux.serve.bindings import choose_binding, mount_options
from fusemux.serve.control import serve_control
from fusemux.serve.daemon import Readiness
from fusemux.serve.notify import notify
from fusemux.serve.record import ServerRecord, remove_empty, servers_dir
from fusemux.serve.unmounting import write_back
from fusemux.serve.volume import ServedVolume

__all__ = ["Server", "run"]

log = logging.getLogger("fusemux.serve")
DRAIN_S = 30


@dataclass
class Served:
    """One mount of this server."""

    plan: PlannedMount
    volume: ServedVolume
    place: int = 0  # which one of those where the volume is mounted
    mounted: bool = False
    since: float = field(default_factory=time.time)

    @property
    def bridge(self) -> Bridge:
        return self.volume.bridges[self.place]


def run(plans: Sequence[PlannedMount], readiness: Readiness, *, folders: Sequence[str] = ()) -> int:
    """Serve `plans` until all of them are unmounted; the exit status.

    `folders` were made for the mounts and are removed at the end, if empty.  Errors before everything serves go to `readiness`.
    """
    try:
        trio.run(Server(plans, readiness, folders).run)
        return 0
    except BaseException as raised:
        error = _innermost(raised)
        if not isinstance(error, FusemuxError):
            raise
    status = int(getattr(error, "exit", Exit.FAILURE))
    if readiness.told or readiness.in_background:
        log.error("%s", error)  # else the caller says it
    if not readiness.told:
        readiness.failed(status, str(error))
    return status


def _innermost(error: BaseException) -> BaseException:
    """What a nursery has wrapped, when it is one error."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class Server:
    """All of a serving process."""

    def __init__(self, plans: Sequence[PlannedMount], readiness: Readiness, folders: Sequence[str] = ()) -> None:
        self.plans = plans
        self.readiness = readiness
        self.folders = folders
        self.opt = plans[0].request.opt
        self.served: list[Served] = []
        self.process: Process
        self.binding: Binding
        self.stopping = False
        self._starting: trio.CancelScope | None = None
        self._serving = trio.CancelScope()
        self._draining = trio.CancelScope()

    async def run(self) -> None:
        """Raises FusemuxError when not everything could be mounted; nothing is left then."""
        record = ServerRecord()
        try:
            self._write(record)
            os.umask(0)  # modes are what the callers of the volumes say; storage/posix then need not set them twice
            level = journal.LEVELS[self.opt.log_level]
            async with Process(
                strict=self.opt.strict or None, pool_threads=self.opt.pool_threads, log_level=level
            ) as process:
                self.process = process
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._watch_signals)
                    await self._serve(nursery)
                    nursery.cancel_scope.cancel()
        finally:
            remove_empty([*self.folders, *self._ramdisk_folders()])
            record.close()

    def _write(self, record: ServerRecord) -> None:
        sources = [plan.source for plan in self.plans]
        record.write(
            mounts=[plan.path for plan in self.plans],
            volumes=[source.name for source in sources],
            ramdisks=list(
                dict.fromkeys(b.path for s in sources if s.throwaway for b in s.bricks if b.ramdisk_bytes is not None)
            ),
            folders=[*self.folders, *self._ramdisk_folders()],
        )

    def _ramdisk_folders(self) -> list[str]:
        """The folders that hold the ramdisks of throw-away volumes."""
        return sorted({os.path.dirname(b.path) for p in self.plans if p.source.throwaway for b in p.source.bricks})

    # -- start, serve, stop ----------------------------------------------------------------------------------

    async def _serve(self, nursery: trio.Nursery) -> None:
        try:
            with trio.CancelScope() as self._starting:
                await self._start()
            if self._starting.cancelled_caught:
                raise MountError("stopped by a signal before it served; nothing is mounted", Exit.USER)
            self._starting = None
            await nursery.start(serve_control, servers_dir() / f"{os.getpid()}.sock", self._handlers())
            nursery.start_soon(self._watch_mounts)
            notify(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=serving {len(self.volumes())} volumes")
            self.readiness.ready()
            with self._serving:
                await self.binding.serve()
        finally:
            self.stopping = True
            notify("STOPPING=1")
            with trio.CancelScope(shield=True):
                await self._stop()

    async def _start(self) -> None:
        self.binding = choose_binding(self.opt.binding, self.process)
        for plans in same_volume(self.plans):
            volume = self._volume(plans)
            self.served += [Served(plan, volume, place) for place, plan in enumerate(plans)]
            await volume.start()
        await self.binding.mount([self._point(served) for served in self.served])
        for served in self.served:
            served.mounted = True
            if not served.plan.request.opt.symfollow:  # no binding can ask for it
                set_flags(served.plan.path, flags_of(served.plan.request.opt))
            log.info("%s is mounted at %s (%s)", served.plan.shown, served.plan.path, self.binding.name)

    def _volume(self, plans: Sequence[PlannedMount]) -> ServedVolume:
        """The volume of these mounts.  Raises MountError when it cannot be mounted at all of them in the way wanted."""
        opt, places = plans[0].request.opt, len(plans)
        if places > 1 and opt.writeback_cache:
            raise MountError(
                f"volume {plans[0].source.name!r} is to be mounted at {places} places, and writeback-cache would keep what "
                "is written at one from the others; leave the option out",
                Exit.USAGE,
            )
        locks = opt.locks == "bricks" or (opt.locks == "auto" and places > 1)
        wishes = BridgeOptions(
            lru_limit=opt.lru_limit,
            writeback_cache=opt.writeback_cache,
            locks=locks,
            sole_writer=opt.attribute_timeout is None and places == 1,
        )
        return ServedVolume(self.process, plans[0].source, options=wishes, degraded=opt.degraded, places=places)

    def _point(self, served: Served) -> MountPoint:
        plan, volume = served.plan, served.volume
        options = mount_options(plan.request.opt, plan.shown, shared=volume.places > 1, locks=volume.options.locks)
        return MountPoint(served.bridge, plan.path, plan.shown, options)

    async def _stop(self) -> None:
        """Unmount what is mounted, then let go of the volumes."""
        self._draining.deadline = trio.current_time() + DRAIN_S
        with self._draining:
            for served in self.served:
                if (
                    served.mounted
                ):  # when it is in use it will be detached, and what the kernel has gathered would be lost
                    await trio.to_thread.run_sync(write_back, served.plan.path, abandon_on_cancel=True)
            if hasattr(self, "binding"):
                await self.binding.stop()
        if self._draining.cancelled_caught:
            log.error("not everything could be unmounted in time; what is left becomes stale")
        for served in self.served:
            served.mounted = False
        for volume in reversed(self.volumes()):
            try:
                await volume.stop()
            except Exception:
                log.exception("volume %s did not stop cleanly", volume.name)

    # -- what happens meanwhile ------------------------------------------------------------------------------

    async def _watch_signals(self, task_status: Any) -> None:
        asked = 0
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1) as received:
            task_status.started()
            async for number in received:
                if number == signal.SIGHUP:
                    await self._reread_all()
                elif number == signal.SIGUSR1:
                    log.info("state written to %s", statedump.write_dump(self.volumes(), self.facts()))
                elif asked := asked + 1:
                    self._end(asked)

    def _end(self, asked: int) -> None:
        log.info("%s: unmounting", "asked to end" if asked == 1 else "asked again")
        if asked > 1:
            self._draining.cancel()
        if asked > 2:
            os._exit(Exit.USER)  # nothing else helped; the mounts become stale and the next mount says so
        if self._starting is not None:
            self._starting.cancel()
        self._serving.cancel()

    async def _watch_mounts(self) -> None:
        """Let go of volumes whose mount somebody else has removed; end with the last one."""
        with mounttable.opened() as table:
            while True:
                await mounttable.wait_changed(table)
                there = {entry.path for entry in mounttable.read() if entry.is_ours}
                for served in self.served:
                    if served.mounted and served.plan.path not in there:
                        await self._gone(served)

    async def _gone(self, served: Served) -> None:
        """A mount has left the table.  Whoever still has a file open in it (umount -l) is served on."""
        served.mounted = False
        log.info("%s was unmounted from %s", served.plan.shown, served.plan.path)
        if any(s.mounted for s in self.served):
            elsewhere = any(s.mounted for s in self.served if s.volume is served.volume)
            if not elsewhere and not served.volume.in_use:
                await served.volume.stop()
        elif not self.stopping:
            await self.binding.stop()

    async def _reread_all(self) -> None:
        for volume in self.volumes():
            try:
                await self.reread(volume)
            except FusemuxError as error:
                log.error("volume %s keeps its options: %s", volume.name, error)

    async def reread(self, volume: ServedVolume) -> bool:
        """Take the options of the definition as it is now; False when they need a new mount."""
        if not volume.serving:
            return False
        plan = next(served.plan for served in self.served if served.volume is volume)
        try:
            volume.reconfigure(plan.reread())
        except TopologyChanged:
            log.info("volume %s: its graph has changed, which takes effect at the next mount", volume.name)
            return False
        log.info("volume %s has taken its options", volume.name)
        return True

    # -- control ---------------------------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Any]:
        from fusemux.serve.orders import Orders

        return Orders(self).handlers()

    def volumes(self) -> list[ServedVolume]:
        """Each once, wherever it is mounted."""
        return list(dict.fromkeys(served.volume for served in self.served))

    def facts(self) -> dict[str, Any]:
        """What there is to know of the process itself."""
        return {
            "pid": os.getpid(),
            "version": __version__,
            "binding": self.binding.name,
            "strict": self.process.strict,
            "pool-threads": self.process.pool.threads,
            "log-level": logging.getLevelName(logging.getLogger("fusemux").level),
            "rss-bytes": _rss_bytes(),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
        }


def same_volume(plans: Sequence[PlannedMount]) -> list[list[PlannedMount]]:
    """The mounts, those of one volume together: it has one name and the same bricks."""
    found: dict[tuple[str, ...], list[PlannedMount]] = {}
    for plan in plans:
        found.setdefault((plan.source.name, *(brick.path for brick in plan.source.bricks)), []).append(plan)
    return list(found.values())


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
