"""What a fop answers when it fails, and what a wrong volfile or option answers."""

from __future__ import annotations

import errno as errno_numbers
import os

__all__ = ["FopError", "FusemuxError", "OptionError"]


class FusemuxError(Exception):
    """Something a user can mend: the message names the thing, the value and the way out."""


class OptionError(FusemuxError):
    """An option value that its row refuses, or an option that does not exist."""


class FopError(Exception):
    """A fop failed with `errno`.  Only the FUSE bridge turns it into an answer to the kernel.

    `message` says which translator refused and why; it is for logs, never for decisions.
    """

    __slots__ = ("errno", "message")

    def __init__(self, errno: int, message: str = "") -> None:
        self.errno = errno
        self.message = message

    @classmethod
    def of(cls, error: OSError, *, by_name: bool) -> FopError:
        """What a brick answers when a system call failed.

        Where the fop gives no name (`by_name`), "no such file" means that the object's handle is gone: ESTALE.
        """
        number = error.errno or errno_numbers.EIO
        if number == errno_numbers.ENOENT and not by_name:
            number = errno_numbers.ESTALE
        return cls(number, error.strerror or "")

    def __str__(self) -> str:
        text = os.strerror(self.errno)
        return f"{text}: {self.message}" if self.message else text

    def __repr__(self) -> str:
        return f"FopError({self.errno}, {self.message!r})"
