"""The serving process: volumes, mounts, control socket, readiness."""
