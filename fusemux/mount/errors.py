"""What went wrong with a mount, and what mount(8) wants to know of it: the exit status."""

from __future__ import annotations

from enum import IntEnum

from fusemux.graph.framework.errors import FusemuxError

__all__ = ["Exit", "MountError"]


class Exit(IntEnum):
    """The exit statuses of mount(8)."""

    SUCCESS = 0
    USAGE = 1  # incorrect invocation or permissions
    SYSTEM = 2  # out of memory, cannot fork
    INTERNAL = 4  # a bug of ours
    USER = 8  # interrupted by the user
    MTAB = 16
    FAILURE = 32  # mount failure


class MountError(FusemuxError):
    """The mount cannot be; `exit` is the status to end with."""

    def __init__(self, message: str, exit: Exit = Exit.FAILURE) -> None:
        super().__init__(message)
        self.exit = exit
