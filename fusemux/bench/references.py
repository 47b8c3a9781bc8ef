"""The references by their names on the command line."""

from __future__ import annotations

from contextlib import AbstractContextManager

from fusemux.bench.targets import Target, bindfs, plain

__all__ = ["REFERENCES", "reference"]

REFERENCES = {"tmpfs": plain, "bindfs": bindfs}


def reference(name: str, directories: int = 1) -> AbstractContextManager[Target]:
    """A tmpfs without FUSE, or bindfs on one, with so many directories."""
    return REFERENCES[name](directories)
