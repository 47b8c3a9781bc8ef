"""What the kernel lets root set of a mount besides INIT: read-ahead, and how much may be dirty."""

from __future__ import annotations

import logging

__all__ = ["tune"]

log = logging.getLogger("fusemux.fuse")


def tune(device: str, max_read: int, *, writeback: bool) -> None:
    """Read ahead as much as one request carries, `max_read` bytes (the kernel starts with 128 KiB).

    With the writeback cache, let this mount have more than 1 % of memory dirty.  What may not be set is left.
    """
    settings = {"read_ahead_kb": str(max_read // 1024)}
    if writeback:
        settings |= {"strict_limit": "0", "max_ratio": "40"}
    for name, value in settings.items():
        try:
            with open(f"/sys/class/bdi/{device}/{name}", "w") as setting:
                setting.write(value)
        except OSError as error:
            log.debug("%s of %s stays as it is: %s", name, device, error)
