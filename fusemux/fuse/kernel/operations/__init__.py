"""What each opcode does: requests become calls of the bridge, their results become replies."""

from fusemux.fuse.kernel.operations.operation import Operation
from fusemux.fuse.kernel.operations.table import OPERATIONS

__all__ = ["OPERATIONS", "Operation"]
