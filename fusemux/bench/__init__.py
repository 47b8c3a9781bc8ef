"""`fusemux bench`: what the system is for, measured: speed, CPU and memory next to a reference in the same run."""

from fusemux.bench.command import main

__all__ = ["main"]
