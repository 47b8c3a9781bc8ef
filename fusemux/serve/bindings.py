"""Which binding serves, and a mount's options as a binding takes them."""

from __future__ import annotations

import importlib
import logging
import os
from types import SimpleNamespace

from fusemux.fuse.binding import FOREVER, Binding, MountOptions
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.process import Process
from fusemux.mount.errors import MountError

__all__ = ["choose_binding", "mount_options"]

log = logging.getLogger("fusemux.serve")
# In the order of preference: where it lies, the class, what it is.
_BINDINGS = {
    "kernel": ("fusemux.fuse.kernel.binding", "KernelBinding", "our own wire to /dev/fuse"),
    "pyfuse3": ("fusemux.fuse.pyfuse3_binding", "Pyfuse3Binding", "pyfuse3"),
}


def choose_binding(name: str, process: Process) -> Binding:
    """The binding `name`, or with `auto` the best that is there.  Raises MountError, which says what is missing."""
    reasons = []
    for candidate in _BINDINGS if name == "auto" else [name]:
        module, cls, what = _BINDINGS[candidate]
        try:
            binding: Binding = getattr(importlib.import_module(module), cls)()
        except (ImportError, FusemuxError) as error:
            reasons.append(f"{candidate}: {error}")
            continue
        log.info("binding: %s (%s)%s", candidate, what, f"; not taken: {'; '.join(reasons)}" if reasons else "")
        return binding
    raise MountError(f"binding {name!r} cannot be used here: {'; '.join(reasons)}")


def mount_options(opt: SimpleNamespace, shown: str, *, shared: bool = False, locks: bool = False) -> MountOptions:
    """What the table of mount options says, in a binding's words.

    `shared`: the volume is mounted at several places.  Attributes are invalidated, names would have to wait for that.
    """
    names_s = 0.0 if shared else FOREVER
    return MountOptions(
        read_only=opt.ro,
        allow_other=os.geteuid() == 0 if opt.allow_other is None else opt.allow_other,
        dev=opt.dev,
        suid=opt.suid,
        exec=opt.exec,
        sync=opt.sync,
        dirsync=opt.dirsync,
        atime=opt.atime,
        diratime=opt.diratime,
        strictatime=opt.strictatime,
        entry_timeout=_seconds(opt.entry_timeout, names_s),
        attr_timeout=_seconds(opt.attribute_timeout),
        negative_timeout=_seconds(opt.negative_timeout, names_s),
        writeback_cache=opt.writeback_cache,
        passthrough=opt.passthrough,
        shared=shared,
        locks=locks,
        max_read=opt.max_read,
        max_write=opt.max_write,
        fsname=shown,
    )


def _seconds(value: float | None, unset: float = FOREVER) -> float:
    return unset if value is None else value
