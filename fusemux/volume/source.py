"""What a mount is made of: the client's graph and the graphs of its bricks, from a definition or from a volfile.

A GlusterFS client volfile names bricks of this machine (`protocol/client`, remote-host localhost): each gets the graph
that `volume create` would give it.  A volfile that has storage/posix itself is cut above the brick's own translators:
each brick becomes a graph with its own boundary, because bricks must not share the client's inodes and open files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from uuid import UUID, uuid5

from fusemux.graph.framework import registry
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.options import nearest
from fusemux.graph.framework.volfile import Section
from fusemux.volume import generate
from fusemux.volume.definition import BrickSpec, Volume

__all__ = ["DefinedSource", "Source", "VolfileSource", "cut"]

_HERE = ("localhost", "127.0.0.1", "::1")
# Volfiles need not tell the volume's id; then it follows from the name, the same at every mount.
_NAMESPACE = UUID("b7c1d7c6-6a3c-5f52-9c47-1d3f7b9d3c11")


class Source(Protocol):
    """Where graphs come from."""

    @property
    def name(self) -> str: ...
    @property
    def bricks(self) -> Sequence[BrickSpec]: ...
    @property
    def throwaway(self) -> bool: ...
    @property
    def volume_id(self) -> str: ...
    def leaf(self, index: int) -> str:
        """The name of what stands for brick `index` in the client's graph."""

    def client_graph(self) -> list[Section]: ...
    def brick_graph(self, index: int, shared: int) -> list[Section]:
        """`shared`: how many bricks of the volume lie on the same file system."""


@dataclass(frozen=True)
class DefinedSource:
    """A stored or throw-away volume; `options` are for this mount only."""

    volume: Volume
    options: Mapping[str, str] = field(default_factory=dict)

    def _volume(self) -> Volume:
        return replace(self.volume, options={**self.volume.options, **self.options})

    @property
    def name(self) -> str:
        return self.volume.name

    @property
    def bricks(self) -> Sequence[BrickSpec]:
        return self.volume.bricks

    @property
    def throwaway(self) -> bool:
        return self.volume.throwaway

    @property
    def volume_id(self) -> str:
        return str(self.volume.id)

    def leaf(self, index: int) -> str:
        return self.volume.client(index)

    def client_graph(self) -> list[Section]:
        return generate.client_graph(self._volume())

    def brick_graph(self, index: int, shared: int) -> list[Section]:
        return generate.brick_graph(self._volume(), index, shared=shared)


@dataclass(frozen=True)
class VolfileSource:
    """A volfile, cut into the client's graph and those of its bricks; `path` names it in messages."""

    path: str
    name: str
    client: tuple[Section, ...]
    bricks: tuple[BrickSpec, ...]
    graphs: tuple[tuple[Section, ...], ...]  # of the bricks
    throwaway: bool = False

    @property
    def volume_id(self) -> str:
        return str(uuid5(_NAMESPACE, self.name))

    def leaf(self, index: int) -> str:
        return [section.name for section in self.client if section.type == "protocol/client"][index]

    def client_graph(self) -> list[Section]:
        return list(self.client)

    def brick_graph(self, index: int, shared: int) -> list[Section]:
        return list(self.graphs[index])


def cut(sections: Sequence[Section], path: str, top: str | None = None) -> VolfileSource:
    """The graphs in the volfile at `path`; `top` names the volume to mount, the last one by default.

    Raises FusemuxError: no volume of that name, a brick of another machine, no brick at all.
    """
    by_name = {section.name: section for section in sections}
    if top is not None and top not in by_name:
        raise FusemuxError(f"{path}: there is no volume {top!r} in it{nearest(top, by_name)}")
    used = _below(by_name, top or sections[-1].name)
    sections = [section for section in sections if section.name in used]
    parents: dict[str, list[Section]] = {}
    for section in sections:
        for name in section.subvolumes:
            parents.setdefault(name, []).append(section)
    stored = {s.name: _chain(s, parents) for s in sections if s.type == "storage/posix"}
    client = _client_sections(sections, stored)
    found = [_brick(section, client, stored, path) for section in client if section.type == "protocol/client"]
    if not found:
        raise FusemuxError(f"{path}: no brick in it; a graph needs protocol/client or storage/posix at its bottom")
    bricks, graphs = zip(*found, strict=True)
    return VolfileSource(path, client[-1].name, tuple(client), bricks, graphs)


def _below(by_name: Mapping[str, Section], top: str) -> set[str]:
    """The names of `top` and everything under it."""
    found: set[str] = set()
    pending = [top]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += by_name[name].subvolumes
    return found


def _chain(posix: Section, parents: Mapping[str, list[Section]]) -> list[Section]:
    """The brick's own translators, from storage/posix up."""
    chain = [posix]
    while True:
        above = parents.get(chain[-1].name, [])
        if len(above) != 1 or len(above[0].subvolumes) != 1 or not _is_brick_side(above[0].type):
            return chain
        chain.append(above[0])


def _is_brick_side(type_: str) -> bool:
    type_ = registry.ALIASES.get(type_, type_)
    if type_ in ("protocol/server", "performance/io-threads", "debug/io-stats"):
        return True
    category, _, name = type_.partition("/")
    return category == "storage" or (category in ("features", "debug") and name not in ("utime", "shard"))


def _client_sections(sections: Sequence[Section], stored: Mapping[str, list[Section]]) -> list[Section]:
    """The client's graph, where a leaf stands in for each brick that was cut off."""
    head = {chain[-1].name: chain[0] for chain in stored.values()}
    inside = {section.name for chain in stored.values() for section in chain}
    client = []
    for section in sections:
        if section.name in head:
            path = head[section.name].options.get("directory", "")
            client.append(Section(section.name, "protocol/client", {"remote-host": "localhost", "remote-subvolume": path},
                                  line=section.line, type_line=section.type_line))  # fmt: skip
        elif section.name not in inside:
            client.append(section)
    return client


def _brick(
    leaf: Section, client: Sequence[Section], stored: Mapping[str, list[Section]], source: str
) -> tuple[BrickSpec, tuple[Section, ...]]:
    """The brick that `leaf` leads to, and its graph."""
    volume = client[-1].name
    where = f"{source}, line {leaf.line}: {leaf.name!r}"
    path = leaf.options.get("remote-subvolume", "")
    host = leaf.options.get("remote-host", "localhost")
    if not path.startswith("/"):
        raise FusemuxError(
            f"{where} needs the absolute path of its brick, as option remote-subvolume or directory; got {path!r}"
        )
    if host not in _HERE:
        raise FusemuxError(f"{where} is on {host!r}; only bricks of this machine (localhost) can be mounted")
    brick = BrickSpec(path)
    chain = next((chain for chain in stored.values() if chain[-1].name == leaf.name), None)
    return brick, tuple(_generated(volume, leaf, client) if chain is None else chain)


def _volume_id(section: Section) -> UUID | None:
    text = section.options.get("volume-id")
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise FusemuxError(f"line {section.line}: {section.name!r}: option volume-id {text!r} is no UUID") from None


def _generated(volume: str, leaf: Section, client: Sequence[Section]) -> list[Section]:
    """The graph of a brick of which only the client's side is known: as the translator above the leaf wants it."""
    leaves = {section.name: section for section in client if section.type == "protocol/client"}
    parent = next((section for section in client if leaf.name in section.subvolumes), leaf)
    names = [name for name in parent.subvolumes if name in leaves] or [leaf.name]
    bricks = tuple(BrickSpec(leaves[name].options.get("remote-subvolume", "")) for name in names)
    kind = registry.ALIASES.get(parent.type, parent.type)
    shape = Volume(
        volume,
        bricks,
        replica=len(bricks) if kind == "cluster/replicate" else 1,
        arbiter=1 if kind == "cluster/replicate" and parent.options.get("arbiter-count") == "1" else 0,
        disperse=len(bricks) if kind == "cluster/disperse" else 0,
        id=_volume_id(parent) or uuid5(_NAMESPACE, volume),
    )
    graph = generate.brick_graph(shape, names.index(leaf.name))
    if "volume-id" not in parent.options:
        del graph[0].options["volume-id"]  # the volfile does not tell it: the brick's own is taken
    return graph
