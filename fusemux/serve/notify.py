"""Tell the service manager how far we are: sd_notify(3), without libsystemd.

One datagram to the socket that NOTIFY_SOCKET names; an "@" at its beginning is the abstract namespace.
"""

from __future__ import annotations

import os
import socket

__all__ = ["notify"]


def notify(state: str) -> bool:
    """Send `state` (READY=1, STOPPING=1, STATUS=...); False when nobody asked for it or it cannot be reached."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except OSError:
        return False
    return True
