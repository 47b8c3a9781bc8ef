"""All operations, by opcode."""

from __future__ import annotations

from fusemux.fuse.kernel.operations.control import CONTROL
from fusemux.fuse.kernel.operations.directories import DIRECTORIES
from fusemux.fuse.kernel.operations.files import FILES
from fusemux.fuse.kernel.operations.locks import LOCKS
from fusemux.fuse.kernel.operations.nodes import NODES
from fusemux.fuse.kernel.operations.operation import Operation
from fusemux.fuse.kernel.operations.xattrs import XATTRS
from fusemux.fuse.kernel.protocol import Opcode

__all__ = ["OPERATIONS"]

# A plain dict of ints: an opcode that is not in it is answered ENOSYS.
OPERATIONS: dict[int, Operation] = {
    int(opcode): row
    for opcode, row in (CONTROL | NODES | FILES | DIRECTORIES | XATTRS | LOCKS).items()
    if opcode in Opcode
}
