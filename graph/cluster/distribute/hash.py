"""Where a name belongs: GlusterFS's 32-bit hash of a name, bit for bit.

Theory.  The hash is a Davies-Meyer construction over a block function like the TEA cipher's: two 32-bit words are the state,
every 16 bytes of the name are a key of four little-endian words, the state is enciphered with it (6 rounds, for the
last block 10) and added to what it was before.  The rest of the name, 0 to 15 bytes, is the last key: whole words first,
then the remaining bytes, highest first, pushed into a word of padding made from the length; further words are padding.
The answer is the xor of both state words.

The trap: those remaining bytes are pushed as C `char`, which on x86 is signed.  A byte of 0x80 or more therefore sets
all bits above itself.  On machines with an unsigned char GlusterFS places such names elsewhere; we
follow x86 everywhere, because a volume must not depend on who mounts it.

Munging.  Programs that write `.name.XyZ123` and rename it to `name` (rsync) would place every file twice.  So a name that
matches a regular expression is hashed as what its first group matched: first `extra-hash-regex` is tried, then, only when that did
not match, `rsync-hash-regex`.

In pure Python a hash costs about five microseconds, and every name is hashed by its lookup, its creation and its removal.
So the last few thousand are remembered, once for all volumes of the process that use the same expressions.

Source: GlusterFS `gf_dm_hashfn` and `dht_munge_name` (design facts, section 1); TEA: Wheeler and Needham, 1994.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable

__all__ = ["CACHED_NAMES", "RSYNC_REGEX", "hash32", "hasher", "munger", "placer"]

CACHED_NAMES = 8192  # about 2 MB when full
RSYNC_REGEX = r"^\.(.+)\.[^.]+$"

_MASK = 0xFFFFFFFF
_DELTA = 0x9E3779B9
_SUMS_FULL = tuple(_DELTA * n & _MASK for n in range(1, 7))
_SUMS_LAST = tuple(_DELTA * n & _MASK for n in range(1, 11))
_BLOCK = struct.Struct("<4I")
_WORDS = tuple(struct.Struct(f"<{count}I") for count in range(4))


def _mix(sums: tuple[int, ...], key: tuple[int, ...], h0: int, h1: int) -> tuple[int, int]:
    k0, k1, k2, k3 = key
    a, b = h0, h1
    for s in sums:
        a = (a + (((b << 4) + k0) ^ (b + s) ^ ((b >> 5) + k1))) & _MASK
        b = (b + (((a << 4) + k2) ^ (a + s) ^ ((a >> 5) + k3))) & _MASK
    return h0 + a & _MASK, h1 + b & _MASK


def _last_key(name: bytes, at: int) -> tuple[int, ...]:
    length = len(name)
    pad = length | length << 8
    pad = (pad | pad << 16) & _MASK
    whole, rest = divmod(length - at, 4)
    words: tuple[int, ...] = _WORDS[whole].unpack_from(name, at)
    if rest:
        word, tail = pad, name[length - rest :]
        if tail.isascii():
            word = (word << 8 * rest | int.from_bytes(tail, "big")) & _MASK
        else:
            for byte in tail:
                signed = byte if byte < 0x80 else byte | 0xFFFFFF00
                word = (word << 8 | signed) & _MASK
        words += (word,)
    return words + (pad,) * (4 - len(words))


def hash32(name: bytes) -> int:
    """The hash of `name` as it stands, 0 to 2**32 - 1."""
    h0, h1 = 0x9464A485, 0x542E1A94
    whole = len(name) & ~15
    for at in range(0, whole, 16):
        h0, h1 = _mix(_SUMS_FULL, _BLOCK.unpack_from(name, at), h0, h1)
    h0, h1 = _mix(_SUMS_LAST, _last_key(name, whole), h0, h1)
    return h0 ^ h1


def _compiled(pattern: str | None) -> re.Pattern[bytes] | None:
    """A POSIX extended expression for Python's engine: `$` there is the very end, never before a last newline."""
    if pattern is None or pattern == "none":
        return None
    text = re.sub(r"\\.|\[\^?\]?[^\]]*\]|\$", lambda m: r"\Z" if m[0] == "$" else m[0], pattern, flags=re.DOTALL)
    return re.compile(text.encode(), re.DOTALL)


def munger(rsync_regex: str | None, extra_regex: str | None) -> Callable[[bytes], bytes]:
    """What a name is hashed as.  None or `none` switches an expression off.  Raises ValueError for a bad one."""
    try:
        extra, rsync = _compiled(extra_regex), _compiled(rsync_regex)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None

    dotted = extra is None and rsync_regex == RSYNC_REGEX  # which no name without a dot in front matches

    def munge(name: bytes) -> bytes:
        if dotted and not name.startswith(b"."):
            return name
        for pattern in (extra, rsync):
            match = pattern.search(name) if pattern is not None else None
            part = match[1] if match is not None and match.re.groups else None
            if part is not None and len(part) < len(name):
                return part
        return name

    return munge


def hasher(rsync_regex: str | None, extra_regex: str | None) -> Callable[[bytes], int]:
    """Munge and hash, remembering nothing: for paths of directories, which are hashed once."""
    munge = munger(rsync_regex, extra_regex)
    return lambda name: hash32(munge(name))


@functools.lru_cache(maxsize=16)
def placer(rsync_regex: str | None, extra_regex: str | None) -> Callable[[bytes], int]:
    """Munge and hash names of files, remembering the last `CACHED_NAMES`; shared by all who ask with the same arguments."""
    return functools.lru_cache(maxsize=CACHED_NAMES)(hasher(rsync_regex, extra_regex))
