"""Taking setuid, setgid and file capabilities away when a file changes (FUSE_HANDLE_KILLPRIV_V2).

The kernel leaves this to us and marks the requests that must do it; in return it does not ask for `security.capability`
before each write(2).  Nearly no file has such privileges, so a session remembers those that do.
Source: Linux fs/attr.c (setattr_should_drop_suidgid), inode(7).
"""

from __future__ import annotations

import errno
import stat

from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.session import Session
from fusemux.fuse.permissions import groups_of, without_privileges
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import Frame, Iatt, SetAttr

__all__ = ["PRIVILEGE_BITS", "drop", "note"]

PRIVILEGE_BITS = stat.S_ISUID | stat.S_ISGID
CAPABILITY = b"security.capability"


def note(session: Session, nodeid: int, iatt: Iatt) -> None:
    """Remember a file that attributes show to be privileged."""
    if iatt.mode & PRIVILEGE_BITS and stat.S_ISREG(iatt.mode):
        session.privileged.add(nodeid)


async def drop(session: Session, frame: Frame, nodeid: int) -> None:
    """Take the node's privileges away, and tell the kernel that its mode has changed."""
    bridge = session.bridge
    iatt = await bridge.getattr(frame, nodeid)
    mode = stat.S_IMODE(iatt.mode)
    member = iatt.gid if frame.uid == 0 else frame.gid  # root counts as one of the group
    kept = without_privileges(iatt, member, lambda: groups_of(frame.pid))
    if kept != mode:
        await bridge.setattr(frame, nodeid, 0, None, SetAttr(mode=kept))
    try:
        await bridge.removexattr(Frame(), nodeid, CAPABILITY)
    except FopError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
            raise
    if not kept & PRIVILEGE_BITS:
        session.privileged.discard(nodeid)
    session.notify(replies.inval_inode(nodeid, -1))  # attributes only: waits for nothing
