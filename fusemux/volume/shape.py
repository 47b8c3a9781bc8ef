"""The volume options that decide which translators a volume's graphs are made of.

Everything else that `volume set` knows belongs to a translator and is declared there; these belong to nobody below.
Names, defaults and effects are GlusterFS's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusemux.graph.framework.options import Option

__all__ = ["BRICK_LAYERS", "CLIENT_LAYERS", "ROWS", "is_on", "shape"]

# Translators of the client graph above distribute, from below: GlusterFS's order.  (key, type, suffix of the name)
CLIENT_LAYERS = (
    ("features.shard", "features/shard", "shard"),
    ("features.ctime", "features/utime", "utime"),
    ("performance.write-behind", "performance/write-behind", "write-behind"),
    ("performance.read-ahead", "performance/read-ahead", "read-ahead"),
    ("performance.readdir-ahead", "performance/readdir-ahead", "readdir-ahead"),
    ("performance.io-cache", "performance/io-cache", "io-cache"),
    ("performance.open-behind", "performance/open-behind", "open-behind"),
    ("performance.quick-read", "performance/quick-read", "quick-read"),
    ("performance.nl-cache", "performance/nl-cache", "nl-cache"),
    ("performance.stat-prefetch", "performance/md-cache", "md-cache"),
    ("performance.client-io-threads", "performance/io-threads", "io-threads"),
)
# Translators of a brick's graph that are always there but do nothing unless switched on: (key, option of that translator).
BRICK_LAYERS = {
    "features/trash": ("features.trash", "trash"),
    "features/changelog": ("changelog.changelog", "changelog"),
    "features/bitrot-stub": ("features.bitrot", "bitrot"),
    "features/worm": ("features.worm", "worm"),
    "features/read-only": ("features.read-only", "read-only"),
    "features/leases": ("features.leases", "leases"),
    "features/upcall": ("features.cache-invalidation", "cache-invalidation"),
    "features/quota": ("features.quota", "server-quota"),
    "features/barrier": ("features.barrier", "barrier"),
}

_ON = frozenset({"features.ctime", *(f"performance.{name}" for name in (
    "write-behind", "open-behind", "quick-read", "stat-prefetch", "client-io-threads")), "features.acl"})  # fmt: skip


def _layer(key: str, type_: str, where: str) -> Option:
    default = "on" if key in _ON else "off"
    return Option(key, "bool", default, f"Whether {where} has {type_}.", key=key, live=False)


def _switch(key: str, type_: str) -> Option:
    return Option(key, "bool", "off", f"Whether {type_} of the bricks is at work.", key=key, live=False)


def _debug(name: str) -> Option:
    doc = f"Put debug/{name} above this translator (posix, locks, dht, utime ...); off: nowhere."
    return Option(f"debug.{name}", "str", "off", doc, key=f"debug.{name}", live=False)


ROWS: tuple[Option, ...] = (
    *(_layer(key, type_, "the client graph") for key, type_, _ in CLIENT_LAYERS),
    _layer("features.acl", "features/access-control", "a brick's graph"),
    *(_switch(key, type_) for type_, (key, _) in BRICK_LAYERS.items()),
    *(_debug(name) for name in ("trace", "error-gen", "delay-gen")),
    Option("debug.volatile", "str", "off", "posix: bricks can lose power, and with it what was not synced (debug/volatile).",
           key="debug.volatile", live=False),
    Option("transport.address-family", "enum", "inet", "Kept for GlusterFS; nothing here is on a network.",
           key="transport.address-family", choices=("inet", "inet6", "unix", "inet-sdp"), live=False),
    Option("nfs.disable", "bool", "on", "Kept for GlusterFS; there is no NFS server here.", key="nfs.disable", live=False),
)  # fmt: skip
_BY_KEY = {row.key: row for row in ROWS}


def shape(options: Mapping[str, str], key: str) -> Any:
    """The typed value of one of these options.  Raises OptionError."""
    row = _BY_KEY[key]
    return row.parse(options.get(key, row.default or ""))


def is_on(options: Mapping[str, str], key: str) -> bool:
    """The value of one of these options that is a switch.  Raises OptionError."""
    return bool(shape(options, key))
