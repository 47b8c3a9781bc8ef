"""fusemux: a whole GlusterFS-class volume in one process, mounted through FUSE."""

__version__ = "0.1.0"
