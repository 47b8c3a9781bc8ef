"""The leaves of the client graph: how a brick is reached."""
