"""Change a mount that serves: `-o remount`.

Only flags of the kernel can be changed (read-only, suid, dev, exec, access times), and the server's log level.  FUSE takes a
remount by mount(2) as root; both the file system and the mount get the flags, because several mounts may share
one file system.
"""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace

from fusemux.mount.errors import Exit, MountError
from fusemux.mount.parsing import MountRequest
from fusemux.mount.table import ROWS
from fusemux.serve import mounttable

__all__ = ["flags_of", "remount", "set_flags"]

_RDONLY, _NOSUID, _NODEV, _NOEXEC, _SYNC, _REMOUNT, _DIRSYNC, _NOSYMFOLLOW = 1, 2, 4, 8, 16, 32, 128, 256
_NOATIME, _NODIRATIME, _BIND, _STRICTATIME = 1024, 2048, 4096, 1 << 24
_OF_THE_FILE_SYSTEM = _RDONLY | _SYNC | _DIRSYNC


def flags_of(opt: SimpleNamespace) -> int:
    """The flags of mount(2) for a mount's options."""
    wanted = {
        _RDONLY: opt.ro, _NOSUID: not opt.suid, _NODEV: not opt.dev, _NOEXEC: not opt.exec, _SYNC: opt.sync,
        _DIRSYNC: opt.dirsync, _NOATIME: not opt.atime, _NODIRATIME: not opt.diratime,
        _STRICTATIME: opt.strictatime, _NOSYMFOLLOW: not opt.symfollow,
    }  # fmt: skip
    return sum(flag for flag, on in wanted.items() if on)


def remount(path: str, request: MountRequest) -> None:
    """Raises MountError: not one of ours, an option that needs a new mount, no permission."""
    real = os.path.realpath(path)
    entry = mounttable.mounted_at(real)
    if entry is None or not entry.is_ours:
        raise MountError(f"{path} is no mount of fusemux, so it cannot be remounted; mount it first")
    fixed = [
        row.name for row in ROWS if row.name in request.given and not (row.remount or _is_so(row.name, entry, request))
    ]
    if fixed or request.volume_options:
        name = (fixed or list(request.volume_options))[0]
        raise MountError(f"option {name!r} cannot be changed by remount; unmount {path} and mount it again", Exit.USAGE)
    if any(row.group == "kernel" and row.name in request.given for row in ROWS):
        set_flags(real, flags_of(_merged(entry, request)))
    if "log-level" in request.given:
        _tell_server(real, request.opt.log_level)


def _is_so(name: str, entry: mounttable.Mounted, request: MountRequest) -> bool:
    """Whether an option is what the kernel shows of it already: mount(8) repeats those at a remount."""
    value = getattr(request.opt, name.replace("-", "_"))
    shown = name if value is True else f"{name}={value}"
    return shown in entry.superblock.split(",") or (name == "fsname" and value == entry.source)


def _merged(entry: mounttable.Mounted, request: MountRequest) -> SimpleNamespace:
    """The options as they are, and those given on top."""
    words = {*entry.options.split(","), *entry.superblock.split(",")}
    now = {"ro": "ro" in entry.options.split(",") or "ro" in entry.superblock.split(",")}
    for row in ROWS:
        if row.group == "kernel" and row.name != "ro":
            now[row.name] = f"no{row.name}" not in words if row.row.default == "on" else row.name in words
    return SimpleNamespace(**now | {name: getattr(request.opt, name) for name in now if name in request.given})


def set_flags(path: str, flags: int) -> None:
    """Give the mount at `path` and its file system `flags`.  Raises MountError."""
    if os.geteuid() != 0:
        raise MountError("only root can remount; unmount and mount again with the new options", Exit.USAGE)
    libc = ctypes.CDLL(None, use_errno=True)
    for change in (_REMOUNT | (flags & _OF_THE_FILE_SYSTEM), _REMOUNT | _BIND | (flags & ~(_SYNC | _DIRSYNC))):
        if libc.mount(None, os.fsencode(path), None, ctypes.c_ulong(change), None) != 0:
            raise MountError(f"{path} cannot be remounted: {os.strerror(ctypes.get_errno())}")


def _tell_server(path: str, level: str) -> None:
    from fusemux.serve.control import ask
    from fusemux.serve.record import record_of

    record = record_of(path)
    if record is None:
        raise MountError(f"the server of {path} cannot be found, so its log level stays as it is")
    ask(record.socket, "log-level", level=level)
