"""From what a command line says (SPEC, DIR, options) to what a server is to serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fusemux.graph.framework.errors import FusemuxError, OptionError
from fusemux.mount.errors import Exit, MountError
from fusemux.mount.parsing import MountRequest
from fusemux.volume.definition import VolumeError
from fusemux.volume.places import run_dir
from fusemux.volume.source import DefinedSource, Source, VolfileSource, cut
from fusemux.volume.spec import ShortForm, StoredName, read_spec
from fusemux.volume.store import VolumeStore
from fusemux.volume.words import default_options

__all__ = ["PlannedMount", "check_plan", "find_source", "plan_mount", "ramdisks_dir"]


@dataclass(frozen=True)
class PlannedMount:
    """One mount of a server."""

    source: Source
    path: str  # real and absolute
    shown: str  # the source in /proc/mounts
    request: MountRequest
    reread: Callable[[], Source]  # the source as it is defined now


def ramdisks_dir() -> Path:
    """Where the ramdisks of volumes are mounted."""
    return run_dir() / "ramdisks"


def plan_mount(spec: str, path: str, request: MountRequest, store: VolumeStore | None = None) -> PlannedMount:
    """Raises MountError when SPEC names nothing that can be mounted, or a volume option is wrong."""
    try:
        source, reread = find_source(spec, request, store or VolumeStore())
    except (VolumeError, OptionError) as error:
        raise MountError(str(error), Exit.USAGE) from None
    except FusemuxError as error:
        raise MountError(str(error)) from None
    return PlannedMount(source, path, request.opt.fsname or spec, request, reread)


def find_source(spec: str, request: MountRequest, store: VolumeStore) -> tuple[Source, Callable[[], Source]]:
    """What `spec` names, and how to read it again.  Raises FusemuxError."""
    found = read_spec(spec, ramdisks_dir(), store.has)
    options = request.volume_options
    _check_options(options)
    if isinstance(found, StoredName):
        name = found.name
        return DefinedSource(store.load(name), options), lambda: DefinedSource(store.load(name), options)
    if isinstance(found, ShortForm):
        if store.has(found.volume.name):
            raise VolumeError(f"there is a stored volume {found.volume.name!r}; give the throw-away one another name")
        usual = default_options(found.volume.replica > 1)
        _check_options({key: value for key, value in found.volume.options.items() if usual.get(key) != value})
        source = DefinedSource(found.volume, options)
        return source, lambda: source
    if options:
        raise VolumeError(
            f"volume option {next(iter(options))!r} goes with a volume, not with a volfile; write it into {found.path}"
        )
    path, top = str(found.path), request.opt.volume_name
    return _volfile(path, top), lambda: _volfile(path, top)


def _check_options(options: Mapping[str, str]) -> None:
    if not options:
        return
    from fusemux.volume.settings import find_setting

    for key, value in options.items():
        find_setting(key).check(value)


def _volfile(path: str, top: str | None) -> VolfileSource:
    from fusemux.graph.framework import volfile

    try:
        text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise VolumeError(
            f"there is no volfile {path}; give a stored volume, a volfile, or a short form such as 2x2"
        ) from None
    except OSError as error:
        raise VolumeError(f"volfile {path}: {error.strerror}") from None
    return cut(volfile.parse(text, path), path, top)


def check_plan(plan: PlannedMount) -> None:
    """Build the graphs without starting them.  Raises MountError for what could not be mounted."""
    from fusemux.graph.framework.graph import Graph
    from fusemux.graph.framework.process import Process

    process = Process()
    source = plan.source
    try:
        Graph(source.client_graph(), process, source=f"volume {source.name!r}")
        for index, brick in enumerate(source.bricks):
            Graph(source.brick_graph(index, 1), process, source=f"brick {brick.path}")
            if brick.ramdisk_bytes is None and not Path(brick.path).is_dir():
                raise MountError(f"brick {brick.path}: there is no such directory; is its file system mounted?")
    except MountError:
        raise
    except FusemuxError as error:
        raise MountError(str(error)) from None
