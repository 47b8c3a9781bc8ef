"""fusemux's own FUSE wire: the kernel's protocol, a channel that serves many mounts, mounting, the binding."""

from fusemux.fuse.kernel.binding import KernelBinding

__all__ = ["KernelBinding"]
