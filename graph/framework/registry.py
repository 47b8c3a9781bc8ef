"""Which class implements a volfile type: found by name, nothing is registered.

`cluster/replicate` is the `Translator` subclass with that `type` in `fusemux.graph.cluster.replicate` or
`fusemux.bricks.cluster.replicate` (a module or a package); failing that, the entry point of that name in the group
`fusemux.translators`, for translators of other projects.

GlusterFS's generated volfiles name more translators than exist here.  Those that change nothing a user can see when
they are off or are only caches (`TRANSPARENT`) are stood in for by `Transparent`, which links to nothing; any other is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping

from fusemux.graph.framework.options import nearest
from fusemux.graph.framework.translator import Translator

__all__ = ["ALIASES", "Transparent", "find", "known_types", "stand_in"]

ALIASES = {
    "cluster/afr": "cluster/replicate",
    "cluster/dht": "cluster/distribute",
    "cluster/ec": "cluster/disperse",
    "features/posix-locks": "features/locks",
    "features/posix-acl": "features/access-control",
    "system/posix-acl": "features/access-control",
    "mount/fuse": "mount/fuse",
}

_HOUSES = ("fusemux.graph", "fusemux.bricks")
_GROUP = "fusemux.translators"


def _off(option: str, default: str = "off") -> Callable[[Mapping[str, str]], bool]:
    off = ("off", "no", "false", "disable", "disabled", "0")
    return lambda options: options.get(option, default).lower() in off


def _always(options: Mapping[str, str]) -> bool:
    return True


# Type -> whether leaving it out is invisible, given its options.
TRANSPARENT: dict[str, Callable[[Mapping[str, str]], bool]] = {
    **{f"performance/{name}": _always for name in (
        "write-behind", "read-ahead", "readdir-ahead", "io-cache", "open-behind", "quick-read", "nl-cache", "md-cache",
        "io-threads")},
    "debug/io-stats": _always,  # measures
    "protocol/server": _always,  # in one process there is no wire
    "features/access-control": _always,  # the kernel checks (default_permissions)
    "features/locks": _always,  # one client: its own locks are local
    "features/index": _always,
    "features/barrier": _off("barrier"),
    "features/leases": _off("leases"),
    "features/upcall": _off("cache-invalidation"),
    "features/trash": _off("trash"),
    "features/changelog": _off("changelog"),
    "features/bitrot-stub": _off("bitrot"),
    "features/selinux": _always,
    "features/marker": _off("quota"),
    "features/quota": _off("server-quota"),
    "features/worm": lambda options: _off("worm")(options) and _off("worm-file-level")(options),
    "features/read-only": _off("read-only"),
    "features/quiesce": _always,
}  # fmt: skip


class Transparent(Translator):
    """Stands in for a GlusterFS translator that does not exist here and, as configured, would not be noticed."""

    type = "transparent"
    options = ()


def _import(type_: str) -> type[Translator] | None:
    path = type_.replace("-", "_").replace("/", ".")
    for house in _HOUSES:
        module = f"{house}.{path}"
        try:
            if importlib.util.find_spec(module) is None:
                continue
        except ModuleNotFoundError:
            continue
        for value in vars(importlib.import_module(module)).values():
            if isinstance(value, type) and issubclass(value, Translator) and value.type == type_:
                return value
    return None


def _entry_point(type_: str) -> type[Translator] | None:
    from importlib.metadata import entry_points

    for point in entry_points(group=_GROUP, name=type_):
        loaded = point.load()
        if isinstance(loaded, type) and issubclass(loaded, Translator):
            return loaded
    return None


# Also what was not found: looking for an entry point reads the metadata of every installed project.
_cache: dict[str, type[Translator] | None] = {}


def find(type_: str) -> type[Translator] | None:
    """The class for `type_` or one of GlusterFS's aliases of it; None when there is none."""
    type_ = ALIASES.get(type_, type_)
    if type_ not in _cache:
        _cache[type_] = _import(type_) or _entry_point(type_)
    return _cache[type_]


def stand_in(type_: str, options: Mapping[str, str]) -> bool:
    """Whether `Transparent` may take the place of `type_` with these options."""
    invisible = TRANSPARENT.get(ALIASES.get(type_, type_))
    return invisible is not None and invisible(options)


def known_types() -> list[str]:
    """Every type that `find` finds in fusemux itself; imports them all."""
    types: set[str] = set()
    for house in _HOUSES:
        root = importlib.import_module(house)
        for category in pkgutil.iter_modules(root.__path__):
            if category.name == "framework" or not category.ispkg:
                continue
            package = importlib.import_module(f"{house}.{category.name}")
            for module in pkgutil.iter_modules(package.__path__):
                loaded = importlib.import_module(f"{house}.{category.name}.{module.name}")
                types.update(
                    value.type
                    for value in vars(loaded).values()
                    if isinstance(value, type) and issubclass(value, Translator) and value.type
                )
    return sorted(types - {"transparent"})


def suggestion(type_: str) -> str:
    """How to go on when `type_` is unknown."""
    from importlib.metadata import entry_points

    foreign = [point.name for point in entry_points(group=_GROUP)]
    return nearest(type_, [*known_types(), *foreign, *ALIASES, *TRANSPARENT])
