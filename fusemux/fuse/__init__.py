"""From the kernel to the graph: the bridge, and the bindings that feed it."""
