"""cluster/distribute: one volume out of several subvolumes, each file whole on one of them."""

from fusemux.graph.cluster.distribute.distribute import Distribute

__all__ = ["Distribute"]
