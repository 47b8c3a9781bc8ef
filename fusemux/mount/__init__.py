"""mount.fusemux: the helper of mount(8)."""
