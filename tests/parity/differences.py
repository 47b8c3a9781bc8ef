"""What a binding cannot carry, and why: the only ways in which a mount may differ from tmpfs.

Each row is a call (or one flag of it) and what happens instead, by the name under which World imitates it on the
reference side; so the rest of each script is compared as ever, and a row that is no longer true fails the suite.
"""

from __future__ import annotations

from typing import NamedTuple


class Lack(NamedTuple):
    call: str  # as in World: a call, or call:FLAG
    instead: str
    reason: str


PYFUSE3 = (
    Lack("fallocate", "no fallocate", "pyfuse3 has no handler for FUSE_FALLOCATE"),
    Lack("open:TMPFILE", "no O_TMPFILE", "pyfuse3 has no handler for FUSE_TMPFILE"),
    Lack("lseek:DATA", "no holes", "pyfuse3 has no handler for FUSE_LSEEK: the kernel takes everything for data"),
    Lack("lseek:HOLE", "no holes", "pyfuse3 has no handler for FUSE_LSEEK: the kernel takes everything for data"),
)

# pyfuse3 has no handlers for FUSE_GETLK, FUSE_SETLK and FUSE_SETLKW either.  One mount does not need them (the kernel keeps its
# locks); `locks=bricks`, and mounting a volume at several places, are refused with this binding.

LACKS: dict[str, tuple[Lack, ...]] = {"pyfuse3": PYFUSE3, "kernel": ()}


# Scripts about one thing that FUSE itself does otherwise.  They must fail (the suite is strict about it).
_CHOWN = "with FUSE_HANDLE_KILLPRIV_V2 the kernel sends no request for a chown that names nobody"
_UMASK = "pyfuse3 does not ask for FUSE_DONT_MASK: the kernel applies the umask before we can see that there is a default ACL"
_STRANGE = "pyfuse3 does not ask for FUSE_SETXATTR_EXT: we do not hear that the caller is not of the file's group"
_HELD = (
    "the kernel does not tell that somebody holds a file by O_PATH alone; with its last name it is gone from the bricks"
)

OTHERWISE: dict[str, dict[str, str]] = {
    "pyfuse3": {
        "a_default_acl_is_inherited": _UMASK,
        "what_is_held_without_being_open_lives_on_too": _HELD,
        "who_sets_the_acl_of_a_strange_group_clears_setgid": _STRANGE,
    },
    "kernel": {
        "a_chown_that_changes_nobody_clears_setuid_and_setgid_too": _CHOWN,
        "what_is_held_without_being_open_lives_on_too": _HELD,
    },
}


def lacks(binding: str) -> dict[str, str]:
    """For `World`."""
    return {lack.call: lack.instead for lack in LACKS[binding]}
