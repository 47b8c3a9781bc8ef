"""Where an object of a brick lies by its gfid: the names of GlusterFS's handles.

A handle is `.glusterfs/AB/CD/<gfid>`, AB and CD being the first two bytes of the gfid in hex.  For everything but a
directory it is a hard link to the object; for a directory a symbolic link whose text leads through the parent's
handle, `../../PA/PB/<parent's gfid>/<basename>`, so renaming a directory rewrites its own link only.

Every name of a file is recorded in an xattr of the file, `trusted.gfid2path.<hash>`: the way from a gfid to its paths.

Pure.  Source: GlusterFS `posix-handle.c`, `posix-gfid-path.c`; design facts, bricks sections 2 and 3.
"""

from __future__ import annotations

from functools import lru_cache

import xxhash

__all__ = ["DOT_GLUSTERFS", "folder_of", "link_text", "parse_link", "path_of", "path_record", "unlink_path"]

DOT_GLUSTERFS = b".glusterfs"
_LINK_MIN, _LINK_MAX = 50, 511  # GlusterFS refuses directory links outside these


@lru_cache(1024)
def path_of(gfid: bytes) -> str:
    """The handle of `gfid`, relative to `.glusterfs`; the same on every brick that has a copy."""
    h = gfid.hex()
    return f"{h[:2]}/{h[2:4]}/{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def folder_of(gfid: bytes) -> str:
    """The folder of the handle of `gfid`, relative to `.glusterfs`."""
    h = gfid.hex()
    return f"{h[:2]}/{h[2:4]}"


def unlink_path(gfid: bytes) -> str:
    """Where an open file without names is kept, relative to `.glusterfs`."""
    h = gfid.hex()
    return f"unlink/{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def link_text(parent: bytes, name: bytes) -> bytes:
    """The text of a directory's handle."""
    return b"../../%s/%s" % (path_of(parent).encode(), name)


def parse_link(text: bytes) -> tuple[bytes, bytes] | None:
    """(parent's gfid, basename) from the text of a directory's handle; None when it is no such text."""
    if not _LINK_MIN <= len(text) <= _LINK_MAX or text[:6] != b"../../" or text[48:49] != b"/":
        return None
    try:
        parent = bytes.fromhex(text[12:48].decode("ascii").replace("-", ""))
    except ValueError:
        return None
    name = text[49:]
    if len(parent) != 16 or text[6:48].decode() != path_of(parent) or not name or b"/" in name:
        return None
    return parent, name


def path_record(prefix: bytes, parent_slash: bytes, name: bytes) -> tuple[bytes, bytes]:
    """The xattr (name, value) that records one name of a file.

    `prefix` is `trusted.gfid2path.`, `parent_slash` the parent's gfid as text and a slash.
    """
    value = parent_slash + name
    return b"%s%016x" % (prefix, xxhash.xxh64_intdigest(value)), value
