"""What a volume must hold: a tree of files in memory, changed by the same operations.

An operation that the volume acknowledged has happened.  One that was under way when the process died (`Doubt`) may have happened,
or not, or in part; then the volume must hold one of what `Model.after` lists.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Doubt", "Model", "Node"]

Stage = Callable[["Model"], None]


@dataclass(eq=False)
class Doubt:
    """An operation under way: what it may come to, besides nothing."""

    stages: Sequence[Stage]


@dataclass
class Node:
    """A file (`content`) or a directory (`names`)."""

    content: bytearray | None = None
    names: dict[str, Node] | None = None
    mode: int = 0o644
    xattrs: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def is_dir(self) -> bool:
        return self.names is not None

    def shape(self) -> object:
        """Comparable: everything below, too."""
        if self.names is not None:
            return ("dir", self.mode, self.xattrs, {name: node.shape() for name, node in self.names.items()})
        return ("file", self.mode, self.xattrs, bytes(self.content or b""))


class Model:
    def __init__(self) -> None:
        self.root = Node(names={}, mode=0o755)

    def copy(self) -> Model:
        return copy.deepcopy(self)

    def after(self, doubts: Sequence[Doubt]) -> Iterator[Model]:
        """What the volume may hold, with each of `doubts` done, not done, or done in part."""
        for chosen in itertools.product(*((None, *doubt.stages) for doubt in doubts)):
            model = self.copy()
            for stage in chosen:
                if stage is not None:
                    stage(model)
            yield model

    def difference(self, tree: dict[str, tuple[Any, ...]]) -> str | None:
        """How what lies on a brick (`Volume.tree`) differs, None if it does not."""
        wanted = set(self.paths(dirs=False)) | set(self.paths(dirs=True)[1:])
        if wanted != tree.keys():
            return f"missing {sorted(wanted - tree.keys())}, too many {sorted(tree.keys() - wanted)}"
        for path in self.paths(dirs=False):
            node, shape = self.node(path), tree[path]
            if shape[5] != bytes(node.content or b""):
                return f"{path}: the content is not what was acknowledged"
            if shape[0] & 0o7777 != node.mode:
                return f"{path}: mode {shape[0]:o}, acknowledged {node.mode:o}"
            xattrs = {name.encode(): value for name, value in shape[4].items() if name.startswith("user.")}
            if xattrs != node.xattrs:
                return f"{path}: xattrs are not what was acknowledged"
        return None

    def node(self, path: str) -> Node:
        at = self.root
        for name in path.split("/"):
            if name:
                assert at.names is not None
                at = at.names[name]
        return at

    def parent(self, path: str) -> tuple[dict[str, Node], str]:
        above, _, name = path.rpartition("/")
        names = self.node(above).names
        assert names is not None
        return names, name

    def paths(self, *, dirs: bool) -> list[str]:
        """All paths of files, or of directories (the root, "", included), in a fixed order."""
        found: list[str] = [""] if dirs else []

        def walk(prefix: str, node: Node) -> None:
            for name, child in sorted((node.names or {}).items()):
                path = f"{prefix}/{name}".lstrip("/")
                if child.is_dir == dirs:
                    found.append(path)
                walk(path, child)

        walk("", self.root)
        return found

    # -- operations ------------------------------------------------------------------------------------------

    def create(self, path: str, data: bytes) -> None:
        names, name = self.parent(path)
        names[name] = Node(content=bytearray(data))

    def write(self, path: str, data: bytes, offset: int) -> None:
        content = self.node(path).content
        assert content is not None
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data

    def truncate(self, path: str, size: int) -> None:
        content = self.node(path).content
        assert content is not None
        content.extend(bytes(max(0, size - len(content))))
        del content[size:]

    def mkdir(self, path: str) -> None:
        names, name = self.parent(path)
        names[name] = Node(names={}, mode=0o755)

    def remove(self, path: str) -> None:
        names, name = self.parent(path)
        del names[name]

    def link(self, old: str, new: str) -> None:
        names, name = self.parent(new)
        names[name] = self.node(old)

    def rename(self, old: str, new: str) -> None:
        names, name = self.parent(old)
        node = names.pop(name)
        names, name = self.parent(new)
        names[name] = node

    def rename_half(self, old: str, new: str) -> None:
        """What a process that dies over a rename may leave: both names."""
        node = self.node(old)
        names, name = self.parent(new)
        names[name] = node

    def chmod(self, path: str, mode: int) -> None:
        self.node(path).mode = mode

    def setxattr(self, path: str, name: bytes, value: bytes) -> None:
        self.node(path).xattrs[name] = value
