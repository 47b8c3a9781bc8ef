"""storage/posix."""

from fusemux.bricks.storage.posix.store import Store
from fusemux.bricks.storage.posix.translator import Posix

__all__ = ["Posix", "Store"]
